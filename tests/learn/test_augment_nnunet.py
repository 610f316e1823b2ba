"""nnU-Net's list: its chances and ranges, and what each change leaves as it was."""

import numpy as np
import pytest
import torch

from tasks.learn.augment import AugmentConfig, draw_params, parse_augment
from tasks.learn.augment_batch import apply
from tasks.learn.augment_nnunet import CHANCE, RANGE, TURN_CHANCE, draw_linear

PRESET = parse_augment("nnunet")
MANY = 3000


def _image(shape=(6, 16, 12), seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.gamma(2, size=(1, 1, *shape)).astype(np.float32))


@pytest.fixture(scope="module")
def drawn():
    return [draw_params(np.random.default_rng(i), PRESET, (6, 16, 12)) for i in range(MANY)]


@pytest.mark.parametrize("name", CHANCE)
def test_each_change_comes_as_often_and_as_strong_as_nnunet_s(drawn, name):
    values = [one[name] for one in drawn if name in one]
    share = len(values) / MANY
    assert share == pytest.approx(CHANCE[name], abs=4 * np.sqrt(CHANCE[name] / MANY))
    low, high = RANGE[name]
    assert low <= min(values) <= low + 0.1 * (high - low)
    assert high >= max(values) >= high - 0.1 * (high - low)


def test_half_of_the_exponents_are_below_one(drawn):
    values = np.array([one["gamma_same_spread"] for one in drawn if "gamma_same_spread" in one])
    assert np.mean(values < 1) == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize(
    ("shape", "planes", "most"),
    [
        ((40, 56, 40), 3, 30),
        ((20, 320, 256), 1, 180),
        ((1, 64, 64), 1, 180),
        ((1, 64, 32), 1, 15),
    ],
    ids=["volume", "flat patch", "plane", "long plane"],
)
def test_a_sample_is_turned_as_far_as_its_shape_allows(shape, planes, most):
    turns = [draw_linear(np.random.default_rng(i), shape)[0] for i in range(MANY)]
    made = [one for one in turns if one]
    assert len(made) / MANY == pytest.approx(TURN_CHANCE, abs=0.03)
    assert {len(one) for one in made} == {planes}
    angles = np.array([degrees for one in made for *_, degrees in one])
    assert most * 0.95 < np.abs(angles).max() <= most


def test_a_flat_patch_is_scaled_in_its_plane_alone():
    scales = [draw_linear(np.random.default_rng(i), (20, 320, 256))[1] for i in range(200)]
    assert {scale[0] for scale in scales} == {1.0}
    assert max(scale[1] for scale in scales) > 1.2


def test_contrast_stays_within_the_range_of_the_image():
    image = _image()
    out, _ = apply([{"list": "nnunet", "contrast_in_range": 1.25}], image)
    assert out.max() == image.max()
    assert out.min() == image.min()
    assert not torch.equal(out, image)


@pytest.mark.parametrize("name", ["gamma_same_spread", "gamma_of_negative"])
def test_gamma_keeps_mean_and_spread(name):
    image = _image()
    out, _ = apply([{"list": "nnunet", name: 1.4}], image)
    torch.testing.assert_close(out.mean(), image.mean())
    torch.testing.assert_close(out.std(), image.std())
    assert (out - image).abs().max() > 0.1
    # Ranks stay: gamma never turns the image upside down.
    assert torch.equal(out.flatten().argsort(), image.flatten().argsort())


def test_low_resolution_takes_away_what_is_fine_and_keeps_what_is_coarse():
    shape = (8, 32, 32)
    ramp = torch.linspace(0, 1, 32).expand(1, 1, *shape).contiguous()
    checks = torch.from_numpy((np.indices(shape).sum(0) % 2).astype(np.float32))[None, None]
    params = [{"list": "nnunet", "low_resolution": 0.5}]
    assert (apply(params, ramp)[0] - ramp).abs().max() < 0.05
    assert apply(params, checks)[0].std() < 0.2 < checks.std()


def test_noise_comes_before_the_blur():
    image = torch.zeros(1, 1, 8, 32, 32)
    noise = {"list": "nnunet", "noise": 0.1, "noise_seed": 3}
    alone, _ = apply([noise], image)
    both, _ = apply([noise | {"blur": 1.0}], image)
    assert both.std() < 0.5 * alone.std()


def test_a_scenario_may_change_the_mirrored_axes_but_not_the_strengths():
    config = parse_augment({"preset": "nnunet", "flip": ["x"]})
    assert config == AugmentConfig(nnunet=True, flip=("x",))
    with pytest.raises(ValueError, match="leave noise out"):
        parse_augment({"preset": "nnunet", "noise": 0.3})
