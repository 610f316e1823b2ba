import json

import numpy as np
import pytest

from tasks.errors import BadCase
from tasks.imaging.recipe import apply, fit, fixed_shape, invert, replay
from tasks.imaging.step import Image
from tasks.imaging.steps import parse_steps
from tests.imaging.masks.at_hand import run
from tests.imaging.masks.phantoms import balls


def world(image: Image, index) -> np.ndarray:
    return (image.affine @ [*index, 1.0])[:3]


def test_the_box_of_a_mask_is_kept_with_a_margin_in_millimetres():
    image = balls()
    out = run(image, {"step": "crop_to_mask", "mask": "balls", "margin_mm": 3})
    hits = np.argwhere(image.masks["balls"])
    low, high = hits.min(axis=0), hits.max(axis=0)
    # Slices are 2 mm apart: 3 mm are two of them, whole.
    start = np.maximum(low - (2, 3, 3), 0)
    stop = np.minimum(high + 1 + (2, 3, 3), image.array.shape)
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    np.testing.assert_array_equal(out.array, image.array[box])
    np.testing.assert_array_equal(out.masks["balls"], image.masks["balls"][box])
    np.testing.assert_allclose(world(out, (0, 0, 0)), world(image, start))


def test_a_label_goes_forth_and_comes_back():
    image = balls()
    recipe = fit(parse_steps([{"step": "crop_to_mask", "mask": "balls"}]), None)
    out, traces = apply(recipe, image)
    traces = json.loads(json.dumps(traces))
    label = Image(image.masks["balls"], image.affine)
    forth = replay(recipe, traces, label)
    np.testing.assert_array_equal(forth.array, out.masks["balls"])
    np.testing.assert_allclose(forth.affine, out.affine)
    back = invert(recipe, traces, forth.array, kind="label")
    np.testing.assert_array_equal(back, image.masks["balls"])
    assert fixed_shape(recipe) is None


def test_a_mask_made_before_another_geometry_is_cropped_on_the_new_grid():
    image = balls()
    steps = (
        {"step": "largest_components", "threshold": 100},
        {"step": "resample", "spacing": [1, 1, 1]},
        {"step": "crop_to_mask", "mask": "largest"},
    )
    out = run(image, *steps)
    assert out.masks["largest"].shape == out.array.shape
    assert all(out.masks["largest"].any(axis=axes).all() for axes in ((1, 2), (0, 2), (0, 1)))


@pytest.mark.parametrize("outside", ["min", -5, -1.5, 1e6])
def test_voxels_outside_become_a_value(outside):
    image = balls()
    out = run(image, {"step": "apply_mask", "mask": "balls", "outside": outside})
    inside = image.masks["balls"] != 0
    np.testing.assert_array_equal(out.array[inside], image.array[inside])
    expected = image.array.min() if outside == "min" else outside
    assert (out.array[~inside] == np.float32(expected)).all()
    np.testing.assert_array_equal(out.masks["balls"], image.masks["balls"])


def test_an_empty_mask_cannot_be_cropped_to():
    image = balls()
    nothing = Image(image.array, image.affine, {"balls": np.zeros(image.array.shape, np.uint8)})
    with pytest.raises(BadCase, match="empty_mask"):
        run(nothing, {"step": "crop_to_mask", "mask": "balls"})
