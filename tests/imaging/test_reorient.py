import json
from itertools import permutations, product

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import BadCase
from tasks.imaging.recipe import Image, apply, fit, fixed_shape, invert, replay
from tasks.imaging.reorient import DIRECTIONS, orientation_of
from tasks.imaging.steps import parse_steps

CODES = [
    "".join(signs[body] for body in axes)
    for axes in permutations(range(3))
    for signs in product("LR", "PA", "SI")
]

LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

WORLD_MM = 1e-9
"""A voxel may move by this in the world: sums of float64 millimetres."""


def affine_for(code, spacing=(3.0, 0.7, 0.9), degrees=(0.0, 0.0, 0.0)):
    """Return an affine whose array axes point to the letters, then turned about the body axes."""
    affine = np.eye(4)
    for axis, letter in enumerate(code):
        body, sign = DIRECTIONS[letter]
        affine[:3, axis] = sign * spacing[axis] * np.eye(3)[body]
    for axis, angle in enumerate(np.radians(degrees)):
        first, second = [body for body in range(3) if body != axis]
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = (-71.0, 33.5, 912.25)
    return affine


def reoriented(image, code):
    recipe = fit(parse_steps([{"step": "reorient", "orientation": code}]), None)
    out, traces = apply(recipe, image)
    return recipe, out, tuple(json.loads(json.dumps(traces)))


def numbered(shape):
    """Return an array whose every voxel has a value of its own."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def places(image):
    """Return the world place of each value, in the order of values."""
    index = np.indices(image.array.shape).reshape(3, -1)
    world = (image.affine @ np.vstack([index, np.ones(index.shape[1])]))[:3]
    return world[:, np.argsort(image.array, axis=None)]


def test_there_are_48_orientations():
    assert len(set(CODES)) == 48


@pytest.mark.parametrize("source", CODES)
@settings(max_examples=15, deadline=None)
@given(
    wished=st.sampled_from(CODES),
    shape=st.tuples(*[st.integers(1, 5)] * 3),
    degrees=st.tuples(*[st.floats(-20, 20)] * 3),
)
def test_each_voxel_keeps_its_place_and_the_inverse_is_exact(source, wished, shape, degrees):
    image = Image(numbered(shape), affine_for(source, degrees=degrees))
    assert orientation_of(image.affine) == source
    recipe, out, traces = reoriented(image, wished)
    assert orientation_of(out.affine) == wished
    np.testing.assert_allclose(places(out), places(image), rtol=0, atol=WORLD_MM)
    for kind in ("label", "probability"):
        np.testing.assert_array_equal(invert(recipe, traces, out.array, kind=kind), image.array)
    label = replay(recipe, traces, image)
    np.testing.assert_array_equal(label.array, out.array)
    np.testing.assert_array_equal(label.affine, out.affine)


@pytest.mark.parametrize("source", CODES[::5])
@pytest.mark.parametrize("wished", CODES[::7])
def test_the_result_is_that_of_nibabel(source, wished):
    image = Image(numbered((2, 3, 4)), affine_for(source, degrees=(8, -11, 5)))
    _, out, _ = reoriented(image, wished)
    start = nibabel.io_orientation(LPS_RAS @ image.affine)
    target = nibabel.orientations.axcodes2ornt(wished)
    moves = nibabel.orientations.ornt_transform(start, target)
    peer = nibabel.Nifti1Image(image.array, LPS_RAS @ image.affine).as_reoriented(moves)
    np.testing.assert_array_equal(out.array, np.asarray(peer.dataobj))
    np.testing.assert_allclose(LPS_RAS @ out.affine, peer.affine, rtol=0, atol=1e-3)


def test_an_image_that_stands_right_is_untouched():
    image = Image(numbered((2, 3, 4)), affine_for("SPL"))
    _, out, traces = reoriented(image, "SPL")
    np.testing.assert_array_equal(out.array, image.array)
    np.testing.assert_array_equal(out.affine, image.affine)
    assert traces[0]["flips"] == [False] * 3


def test_a_tilted_stack_keeps_its_shear():
    sheared = affine_for("SPL")
    sheared[1, 0] = 0.8
    image = Image(numbered((3, 4, 5)), sheared)
    _, out, _ = reoriented(image, "RIA")
    np.testing.assert_allclose(places(out), places(image), rtol=0, atol=WORLD_MM)


def test_the_masks_turn_with_the_image():
    lung = (numbered((2, 3, 4)) % 5 == 0).astype(np.uint8)
    image = Image(numbered((2, 3, 4)), affine_for("RIA"), {"lung": lung})
    _, out, _ = reoriented(image, "SPL")
    np.testing.assert_array_equal(
        np.sort(out.array[out.masks["lung"] > 0]),
        np.sort(image.array[image.masks["lung"] > 0]),
    )


def test_a_fixed_shape_survives_only_where_all_axes_are_equal():
    turn = {"step": "reorient"}
    cube = fit(parse_steps([{"step": "resize", "shape": [8, 8, 8]}, turn]), None)
    slab = fit(parse_steps([{"step": "resize", "shape": [4, 8, 8]}, turn]), None)
    assert fixed_shape(cube) == (8, 8, 8)
    assert fixed_shape(slab) is None


def test_a_cine_has_no_axis_to_turn():
    image = Image(numbered((2, 3, 4)), np.eye(4), facts={"axis": "time"})
    with pytest.raises(BadCase, match="no_patient_axes"):
        reoriented(image, "SPL")


@pytest.mark.parametrize("code", ["SP", "SPLL", "SPX", "SSL", "LRP", "spl", ""])
def test_a_code_that_names_no_orientation_is_refused(code):
    with pytest.raises(ValueError, match="three letters"):
        parse_steps([{"step": "reorient", "orientation": code}])
