"""Resampling as nnU-Net does it, beside its own rules written with skimage and scipy."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates
from skimage.transform import resize

from tasks.cohort.fingerprint import Fingerprint
from tasks.errors import BadCase
from tasks.imaging.recipe import FittedRecipe, Image, apply, fit, invert, replay
from tasks.imaging.resample import resize_linear, resize_nearest, resize_onehot, thick_axis
from tasks.imaging.steps import parse_steps

FINGERPRINT = Fingerprint((2.0, 1.0, 1.5), (10, 20, 20), 10.0, 5.0, -2.0, 30.0, 4, "f" * 32)

FLOAT32_SUMS = 2e-5
"""Largest difference of intensities of about 4 between float32 here and float64 in the peer."""

TIED = 1e-3
"""Share of voxels whose two labels stand at one half each: the last bit of a float32 decides."""


def image_of(shape, spacing, seed=0):
    array = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return Image(array, np.diag([*spacing, 1.0])[[2, 1, 0, 3]])


def blobs(shape, labels, seed=0):
    """Return smooth regions of labels 0 to ``labels``."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    edges = np.quantile(noise, np.linspace(0, 1, labels + 2)[1:-1])
    return np.digitize(noise, edges).astype(np.uint8)


def nearest_along(array, axis, new):
    grid = np.indices([new if i == axis else n for i, n in enumerate(array.shape)]).astype(float)
    grid[axis] = array.shape[axis] / new * (grid[axis] + 0.5) - 0.5
    return map_coordinates(array, grid, order=0, mode="nearest")


def nnunet(array, shape, axis, resize_plane):
    """Follow resample_data_or_seg of nnU-Net 2: in plane, then order 0 along the thick axis."""
    if axis is None:
        return resize_plane(array, shape)
    flat = [n for i, n in enumerate(shape) if i != axis]
    planes = [resize_plane(plane, flat) for plane in np.moveaxis(array, axis, 0)]
    return nearest_along(np.stack(planes, axis), axis, shape[axis])


def nnunet_image(array, shape):
    return resize(array.astype(float), shape, order=3, mode="edge", anti_aliasing=False)


def nnunet_mask(mask, shape):
    """Follow resize_segmentation of batchgenerators at order 1."""
    out = np.zeros(shape, mask.dtype)
    for value in np.unique(mask):
        one = (mask == value).astype(float)
        out[resize(one, shape, order=1, mode="edge", anti_aliasing=False) >= 0.5] = value
    return out


CASES = [
    ((9, 40, 36), (5.0, 0.9, 0.9), (2.0, 1.3, 1.1), 0),
    ((30, 34, 11), (0.8, 0.9, 4.0), (1.3, 1.0, 3.1), 2),
    ((30, 34, 31), (1.0, 0.9, 1.0), (0.9, 1.3, 5.0), 2),
    ((20, 34, 31), (2.0, 0.9, 1.0), (0.8, 1.3, 1.3), None),
    ((20, 34, 31), (4.0, 4.0, 1.0), (2.0, 2.1, 1.3), None),
    ((1, 50, 60), (1.0, 0.2, 0.2), (1.0, 0.33, 0.27), 0),
]


@pytest.mark.parametrize(("shape", "spacing", "wished", "axis"), CASES)
def test_cubic_images_are_those_of_nnunet(shape, spacing, wished, axis):
    assert thick_axis(spacing, wished) == axis
    image = image_of(shape, spacing)
    steps = parse_steps([{"step": "resample", "spacing": wished, "order": "cubic"}])
    out, traces = apply(fit(steps, None), image)
    peer = nnunet(image.array, out.array.shape, axis, nnunet_image)
    np.testing.assert_allclose(out.array, peer, rtol=0, atol=FLOAT32_SUMS)
    assert traces[0].get("thick") == axis


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize(("shape", "spacing", "wished", "axis"), CASES[:-1])
def test_masks_by_onehot_are_those_of_nnunet(shape, spacing, wished, axis, labels):
    image, mask = image_of(shape, spacing), blobs(shape, labels)
    step = {"step": "resample", "spacing": wished, "order": "cubic", "masks": "onehot"}
    recipe = fit(parse_steps([step]), None)
    _, traces = apply(recipe, image)
    ours = replay(recipe, traces, Image(mask, image.affine)).array
    peer = nnunet(mask, ours.shape, axis, nnunet_mask)
    differs = ours != peer
    # Between several labels, none of one half, nnU-Net leaves background: there alone we differ.
    assert np.mean(differs[peer != 0] if labels > 1 else differs) <= TIED
    assert np.mean(differs) <= 0.02
    assert ours.dtype == mask.dtype


def test_where_three_labels_meet_the_largest_share_wins():
    mask = np.array([[[1, 2], [3, 3]]], np.uint8)
    middle = resize_onehot(mask, (1, 3, 3))[0, 1, 1]
    assert middle == 3
    thirds = np.array([[[1, 2], [3, 4]]], np.uint8)
    assert nnunet_mask(thirds, (1, 3, 3))[0, 1, 1] == 0
    assert resize_onehot(thirds, (1, 3, 3))[0, 1, 1] == 4


@settings(max_examples=60, deadline=None)
@given(
    source=st.tuples(*[st.integers(1, 14)] * 3),
    shape=st.tuples(*[st.integers(1, 20)] * 3),
    values=st.lists(st.integers(0, 255), min_size=1, max_size=5),
    seed=st.integers(0, 9),
)
def test_onehot_resizing_makes_no_new_value(source, shape, values, seed):
    mask = np.random.default_rng(seed).choice(np.array(values, np.uint8), source)
    out = resize_onehot(mask, shape)
    assert (out.shape, out.dtype) == (shape, np.uint8)
    assert set(np.unique(out)) <= set(values)
    np.testing.assert_array_equal(resize_onehot(mask, source), mask)


def test_onehot_borders_are_nearer_to_the_truth_than_nearest():
    def ball(shape):
        at = (np.stack(np.indices(shape), -1) + 0.5) / shape - 0.5
        return (np.linalg.norm(at, axis=-1) < 0.37).astype(np.uint8)

    coarse, fine = ball((14, 14, 14)), ball((49, 49, 49))
    wrong = {
        way.__name__: np.sum(way(coarse, fine.shape) != fine)
        for way in (resize_nearest, resize_onehot)
    }
    assert wrong["resize_onehot"] < 0.8 * wrong["resize_nearest"]


@pytest.mark.parametrize(("shape", "spacing", "wished", "axis"), CASES)
@pytest.mark.parametrize("thick", ["nearest", "linear", "cubic"])
def test_predictions_come_back_to_the_source_grid(shape, spacing, wished, axis, thick):
    step = {
        "step": "resample",
        "spacing": wished,
        "order": "cubic",
        "thick_axis": thick,
        "masks": "onehot",
    }
    recipe = fit(parse_steps([step]), None)
    mask = blobs(shape, 1)
    out, traces = apply(recipe, image_of(shape, spacing))
    traces = json.loads(json.dumps(traces))
    forth = replay(recipe, traces, Image(mask, np.eye(4))).array
    assert forth.shape == out.array.shape
    maps = np.stack([1 - forth, forth]).astype(np.float32)
    back = invert(recipe, traces, maps, kind="probability")
    assert back.shape == (2, *shape)
    np.testing.assert_allclose(back.sum(axis=0), 1, rtol=0, atol=1e-6)
    label = invert(recipe, traces, forth, kind="label")
    assert np.mean(label == mask) > 0.85
    if axis is not None and thick == "nearest":
        # Every old slice is one of the new ones, resized in its own plane.
        new, old = out.array.shape[axis], shape[axis]
        picked = np.take(forth, (2 * np.arange(old) + 1) * new // (2 * old), axis)
        np.testing.assert_array_equal(back[1], resize_linear(picked, shape))


def test_linear_along_thick_slices_is_linear_there_only():
    image = image_of((9, 40, 36), (5.0, 0.9, 0.9))
    step = {"step": "resample", "spacing": [2.5, 0.9, 0.9], "order": "cubic"}
    out, _ = apply(fit(parse_steps([{**step, "thick_axis": "linear"}]), None), image)
    np.testing.assert_array_equal(out.array, resize_linear(image.array, (18, 40, 36)))
    near, _ = apply(fit(parse_steps([step]), None), image)
    np.testing.assert_array_equal(near.array, np.repeat(image.array, 2, axis=0))


def test_cubic_images_stay_within_the_range_of_the_source():
    array = np.zeros((20, 20, 20), np.int16)
    array[6:14, 6:14, 6:14] = 1000
    image = Image(array, np.eye(4))
    steps = parse_steps([{"step": "resample", "spacing": [0.7, 0.8, 0.6], "order": "cubic"}])
    out, _ = apply(fit(steps, None), image)
    assert (out.array.min(), out.array.max()) == (0, 1000)


def test_a_recipe_without_the_new_choices_is_the_recipe_it_was():
    steps = parse_steps([{"step": "resample", "spacing": "median"}])
    assert fit(steps, FINGERPRINT).steps[0].params == {"spacing": [2.0, 1.0, 1.5]}
    chosen = [{"step": "resample", "spacing": "median", "order": "cubic", "masks": "onehot"}]
    recipe = fit(parse_steps(chosen), FINGERPRINT)
    assert recipe.steps[0].params == {
        "spacing": [2.0, 1.0, 1.5],
        "order": "cubic",
        "masks": "onehot",
    }
    assert FittedRecipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_thick_axis_without_cubic_is_refused():
    with pytest.raises(ValueError, match="thick_axis goes with order: cubic only"):
        parse_steps([{"step": "resample", "spacing": "median", "thick_axis": "linear"}])


def test_the_size_limit_holds_for_cubic_too():
    steps = parse_steps([{"step": "resample", "spacing": [0.1, 0.1, 0.1], "order": "cubic"}])
    with pytest.raises(BadCase, match="resample_too_large"):
        apply(fit(steps, None), image_of((4, 5, 6), (1.0, 1.0, 1.0)))
