"""Boxes and masks keep their place in the patient, whatever way the images lie."""

import numpy as np
import pytest

from tasks.errors import BadCase
from tasks.labels.shapes import (
    Masks,
    Segment,
    box_around,
    box_from_index,
    checked_box,
    index_bounds,
    label_map,
    onto_grid,
    world_bounds,
)
from tests.labels.grids import ORIENTATIONS, SHAPE, ball, centroid, middle

AFFINES = pytest.mark.parametrize("affine", ORIENTATIONS.values(), ids=ORIENTATIONS)


@AFFINES
def test_a_box_goes_to_the_patient_and_back(affine):
    start, stop = (0.5, 3.0, 4.5), (6.5, 11.25, 20.0)
    box = box_from_index(start, stop, affine, line=1, series="1.2", name="nodule")
    np.testing.assert_allclose(index_bounds(box, affine), [start, stop], atol=1e-9)
    lengths = np.linalg.norm(box.edges, axis=1)
    np.testing.assert_allclose(lengths, [6 * 2.5, 8.25 * 0.8, 15.5 * 0.7])
    np.testing.assert_allclose(world_bounds(box).mean(axis=0), box.centre)


@AFFINES
def test_the_box_around_a_ball_has_its_centre_and_size(affine):
    centre = middle(affine)
    masks = Masks((Segment(1, "ball", ball(affine, centre, 7.0)),), affine, "1.2")
    box = box_around(masks.segments[0], masks)
    np.testing.assert_allclose(box.centre, centre, atol=1.3)
    np.testing.assert_allclose(np.linalg.norm(box.edges, axis=1), 14.0, atol=2.6)
    assert box_around(Segment(2, "none", np.zeros(SHAPE, bool)), masks) is None


@AFFINES
def test_a_mask_that_was_cut_turned_and_flipped_comes_back_exactly(affine):
    mask = ball(affine, middle(affine), 8.0)
    start = np.array([1, 5, 6])
    cut = mask[1:8, 5:27, 6:30].transpose(2, 0, 1)[::-1]
    # Index of the cut, turned and flipped array -> index of the whole one.
    back = np.array([[0, 1, 0, 0], [0, 0, 1, 0], [-1, 0, 0, cut.shape[0] - 1], [0, 0, 0, 1.0]])
    back[:3, 3] += start
    other = Masks((Segment(1, "ball", cut),), affine @ back)
    whole = onto_grid(other, SHAPE, affine)
    np.testing.assert_array_equal(whole.segments[0].mask, mask)


def test_a_coarser_mask_keeps_its_place():
    fine, coarse = ORIENTATIONS["axial"], ORIENTATIONS["axial"].copy()
    coarse[:3, :3] *= 0.5
    shape = tuple(2 * n for n in SHAPE)
    mask = ball(coarse, middle(coarse, shape), 6.0, shape)
    moved = onto_grid(Masks((Segment(1, "a", mask),), coarse), SHAPE, fine).segments[0].mask
    np.testing.assert_allclose(centroid(moved, fine), centroid(mask, coarse), atol=1.3)


def test_one_label_map_refuses_what_overlaps_or_is_missing():
    one, other = np.zeros((2, 3, 3), bool), np.zeros((2, 3, 3), bool)
    one[0], other[1] = True, True
    masks = Masks((Segment(1, "a", one), Segment(2, "b", other)), np.eye(4))
    labels = label_map(masks, {"a": 3, "b": 7})
    assert (labels[0] == 3).all()
    assert (labels[1] == 7).all()
    assert not label_map(masks, {"b": 1})[0].any()
    with pytest.raises(BadCase, match="segment_missing"):
        label_map(masks, {"c": 1})
    both = Masks((Segment(1, "a", one), Segment(2, "b", one | other)), np.eye(4))
    with pytest.raises(BadCase, match="segments_overlap: 9 voxels"):
        label_map(both, {"a": 1, "b": 2})


@pytest.mark.parametrize("sides", [(1, 2, 0, 4), (-1, 2, 3, 4), ("", 2, 3, 4), (1, 2, "inf", 4)])
def test_a_box_without_area_or_outside_is_refused(sides):
    with pytest.raises(ValueError, match="the box"):
        checked_box(1, "a.png", "fracture", *sides)
