"""Drawn changes replay, move masks with images, and a batch changes as its samples alone do."""

import json

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from tasks.learn.augment import PRESETS, AugmentConfig, draw_params
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


@pytest.mark.parametrize("shape", [(1, 20, 24), (8, 12, 10)])
def test_a_batch_changes_as_each_of_its_samples_does_alone(shape):
    image, mask = _batch(shape, n=8)
    names = ("affine", "gamma", "contrast", "brightness", "blur", "noise", "cutout")
    params = []
    for i in range(8):
        drawn = draw_params(np.random.default_rng(i), EVERYTHING, shape)
        # Every change is made to some of the samples and not to others.
        left_out = {name for k, name in enumerate(names) if (i + k) % 3 == 0}
        params.append({name: value for name, value in drawn.items() if name not in left_out})
    assert all(0 < sum(name in one for one in params) < 8 for name in names)
    out, moved = apply(params, image, mask)
    for i, one in enumerate(params):
        alone, alone_mask = apply([one], image[i : i + 1], mask[i : i + 1])
        torch.testing.assert_close(out[i], alone[0], atol=5e-6, rtol=0)
        assert torch.equal(moved[i], alone_mask[0])


def test_blur_is_the_gaussian_of_scipy_and_spares_an_axis_that_is_too_short():
    image, _ = _batch((2, 24, 20), n=2)
    out, _ = apply([{"blur": 0.6}, {"blur": 1.4}], image)
    for i, sigma in enumerate((0.6, 1.4)):
        reach = int(np.ceil(3 * sigma))
        expected = gaussian_filter(
            image[i, 0].numpy(), (0, sigma, sigma), mode="nearest", radius=(0, reach, reach)
        )
        np.testing.assert_allclose(out[i, 0].numpy(), expected, atol=1e-5)


def test_a_constant_image_and_a_varied_one_of_a_batch_take_gamma_each_in_its_way():
    image, _ = _batch((1, 8, 8), n=2)
    image[1] = 3.0
    out, _ = apply([{"gamma": 1.7}, {"gamma": 1.7}], image)
    assert torch.equal(out[1], image[1])
    assert not torch.equal(out[0], image[0])
    assert torch.isfinite(out).all()


def test_a_mask_keeps_its_type_so_it_may_travel_in_one_byte():
    image, mask = _batch((4, 9, 7), n=2)
    params = [draw_params(np.random.default_rng(i), EVERYTHING, (4, 9, 7)) for i in range(2)]
    _, small = apply(params, image, mask.to(torch.uint8))
    _, large = apply(params, image, mask)
    assert small.dtype == torch.uint8
    assert torch.equal(small.long(), large)
