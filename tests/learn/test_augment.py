"""Augmentation replays, moves masks with images, and does nothing it was not told."""

import json

import numpy as np
import pytest
import torch

from tasks.learn.augment import PRESETS, AugmentConfig, draw_params, parse_augment
from tasks.learn.augment_batch import apply

EVERYTHING = AugmentConfig(**{**PRESETS["strong"].model_dump(), "probability": 1.0})


def _batch(shape, n=3, seed=0):
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(rng.normal(size=(n, 1, *shape)).astype(np.float32))
    mask = torch.from_numpy(rng.integers(0, 3, (n, *shape)))
    return image, mask


@pytest.mark.parametrize("shape", [(1, 20, 24), (8, 12, 10)])
def test_the_same_parameters_give_the_same_bits_even_from_json(shape):
    image, mask = _batch(shape)
    params = [draw_params(np.random.default_rng(i), EVERYTHING, shape) for i in range(3)]
    first, first_mask = apply(params, image, mask)
    again, again_mask = apply(json.loads(json.dumps(params)), image, mask)
    assert torch.equal(first, again)
    assert torch.equal(first_mask, again_mask)
    assert first.shape == image.shape
    assert not torch.equal(first, image)
    assert set(first_mask.unique().tolist()) <= {0, 1, 2}


def test_nothing_asked_for_changes_nothing():
    image, mask = _batch((4, 6, 8))
    params = [draw_params(np.random.default_rng(0), AugmentConfig(), (4, 6, 8))] * 3
    assert params[0] == {}
    out, moved = apply(params, image, mask)
    assert torch.equal(out, image)
    assert torch.equal(moved, mask)


@pytest.mark.parametrize("shape", [(1, 9, 12), (6, 9, 12)])
@pytest.mark.parametrize(("axis", "name"), [(1, "y"), (2, "x")])
def test_a_flip_mirrors_the_named_axis_of_image_and_mask(shape, axis, name):
    image, mask = _batch(shape, n=1)
    config = AugmentConfig(flip=(name,))
    drawn = [draw_params(np.random.default_rng(i), config, shape) for i in range(20)]
    flipped = next(one for one in drawn if one)
    assert any(not one for one in drawn)
    out, moved = apply([flipped], image, mask)
    torch.testing.assert_close(out, image.flip(2 + axis), atol=1e-4, rtol=0)
    assert torch.equal(moved, mask.flip(1 + axis))


@pytest.mark.parametrize("shape", [(1, 15, 11), (5, 15, 11)])
def test_a_shift_of_whole_voxels_moves_by_that_many_in_a_box_of_unequal_sides(shape):
    image, mask = _batch(shape, n=1)
    # Output voxel (y, x) takes its value from (y + 2, x - 3).
    affine = np.column_stack([np.eye(3), [0, 2, -3]]).tolist()
    out, moved = apply([{"affine": affine}], image, mask)
    torch.testing.assert_close(out[..., :-2, 3:], image[..., 2:, :-3], atol=1e-4, rtol=0)
    assert torch.equal(moved[..., :-2, 3:], mask[..., 2:, :-3])
    assert (moved[..., -2:, :] == 0).all()


def test_a_quarter_turn_keeps_millimetres_in_a_box_of_unequal_sides():
    image = torch.zeros(1, 1, 1, 41, 61)
    image[..., 20, 40] = 1.0  # ten pixels right of the centre
    quarter = [[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0]]
    out, _ = apply([{"affine": quarter}], image)
    y, x = np.unravel_index(int(out[0, 0, 0].argmax()), (41, 61))
    assert (abs(int(y) - 20), int(x)) == (10, 30)


def test_every_sample_of_a_batch_gets_its_own_change():
    image = torch.ones(2, 1, 1, 4, 4)
    out, _ = apply([{"brightness": 1.0}, {}], image)
    assert out[0].unique().item() == 2.0
    assert out[1].unique().item() == 1.0


def test_gamma_keeps_the_range_and_a_constant_image_stays():
    image, _ = _batch((1, 8, 8), n=1)
    out, _ = apply([{"gamma": 1.7}], image)
    assert float(out.min()) == pytest.approx(float(image.min()), abs=1e-5)
    assert float(out.max()) == pytest.approx(float(image.max()), abs=1e-5)
    flat = torch.full((1, 1, 1, 4, 4), 3.0)
    assert torch.equal(apply([{"gamma": 1.7}], flat)[0], flat)


def test_blur_lowers_the_variance_and_keeps_the_mean_of_a_wide_image():
    image, _ = _batch((1, 64, 64), n=1)
    out, _ = apply([{"blur": 1.5}], image)
    assert float(out.std()) < 0.4 * float(image.std())
    assert float(out.mean()) == pytest.approx(float(image.mean()), abs=0.02)


def test_cutout_erases_its_box_and_leaves_the_caller_s_image_alone():
    image, _ = _batch((1, 8, 8), n=1)
    kept = image.clone()
    out, _ = apply([{"cutout": [[0, 2, 3], [1, 5, 6]]}], image)
    assert out[0, 0, 0, 2:5, 3:6].unique().numel() == 1
    assert torch.equal(image, kept)
    changed = (out != image).sum()
    assert int(changed) == 9


def test_strengths_stay_within_the_configured_limits():
    config = AugmentConfig(noise=0.3, brightness=0.2, gamma=0.4, probability=1.0)
    drawn = [draw_params(np.random.default_rng(i), config, (1, 8, 8)) for i in range(200)]
    assert max(one["noise"] for one in drawn) <= 0.3
    assert max(abs(one["brightness"]) for one in drawn) <= 0.2
    assert max(abs(np.log(one["gamma"])) for one in drawn) <= 0.4


def test_a_list_takes_names_and_strengths():
    config = parse_augment(["noise", {"rotate": 3}])
    assert config.noise == PRESETS["strong"].noise
    assert config.rotate == 3
    assert config.blur == 0
