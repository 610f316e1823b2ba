"""Boxes go from a grid to the patient and onto any other grid, and come off instance masks."""

import itertools

import numpy as np
import pytest

from tasks.labels.shapes import box_from_index, index_bounds
from tasks.learn.boxes import Findings, box_on, boxes_of_instances, in_mm, world_of

SPACING = np.array([2.5, 0.7, 0.9])
BOX = np.array([[[1.5, 2.0, 3.25], [4.5, 7.0, 5.0]], [[-0.5, -0.5, -0.5], [0.5, 0.5, 0.5]]])
OBLIQUE = np.linalg.qr(np.array([[0.9, 0.1, -0.4], [0.2, 1.0, 0.3], [0.5, -0.2, 0.8]]))[0]

ORIENTATIONS = [
    np.eye(3)[list(order)] * signs
    for order in itertools.permutations(range(3))
    for signs in itertools.product((-1, 1), repeat=3)
]


def affine_of(turn: np.ndarray) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = turn * SPACING
    affine[:3, 3] = (-120.0, 33.5, 410.25)
    return affine


def test_there_are_48_orientations():
    assert len({turn.tobytes() for turn in ORIENTATIONS}) == 48


@pytest.mark.parametrize("turn", [*ORIENTATIONS, OBLIQUE], ids=range(49))
def test_a_box_returns_from_the_patient(turn):
    affine = affine_of(turn)
    centre, edges = world_of(BOX, affine)
    np.testing.assert_allclose(box_on(centre, edges, affine), BOX, atol=1e-9)
    for one, middle, sides in zip(BOX, centre, edges, strict=True):
        written = box_from_index(*one, affine, line=1, series="", name="nodule")
        np.testing.assert_allclose(middle, written.centre)
        np.testing.assert_allclose(sides, written.edges)


@pytest.mark.parametrize("turn", [*ORIENTATIONS, OBLIQUE], ids=range(49))
def test_a_box_goes_onto_another_grid_as_the_labels_say(turn):
    there, here = affine_of(turn), affine_of(np.eye(3))
    centre, edges = world_of(BOX, there)
    found = box_on(centre, edges, here)
    for one, bounds in zip(BOX, found, strict=True):
        written = box_from_index(*one, there, line=1, series="", name="nodule")
        np.testing.assert_allclose(bounds, index_bounds(written, here), atol=1e-9)
    if turn is not OBLIQUE:
        # Along the axes nothing is added: the volume in mm stays what it was.
        size = np.diff(in_mm(found, here), axis=1).prod((1, 2))
        np.testing.assert_allclose(size, np.diff(in_mm(BOX, there), axis=1).prod((1, 2)))


def test_instances_have_the_boxes_they_were_drawn_with():
    mask = np.zeros((6, 9, 12), np.uint16)
    mask[1:4, 2:5, 3:9] = 300
    mask[2:3, 3:4, 4:5] = 7
    numbers, box = boxes_of_instances(mask)
    assert numbers.tolist() == [7, 300]
    assert box.tolist() == [[[1.5, 2.5, 3.5], [2.5, 3.5, 4.5]], [[0.5, 1.5, 2.5], [3.5, 4.5, 8.5]]]


def test_an_empty_mask_has_no_boxes():
    numbers, box = boxes_of_instances(np.zeros((2, 3, 4), np.uint8))
    assert numbers.shape == (0,)
    assert box.shape == (0, 2, 3)
    centre, edges = world_of(box, np.eye(4))
    assert box_on(centre, edges, np.eye(4)).shape == (0, 2, 3)


def test_findings_are_taken_in_any_order_with_their_masks():
    masks = tuple(np.full((1, 2, 2), i, bool) for i in (0, 1))
    found = Findings([1, 0], [0.25, 0.75], BOX, masks)
    best = found.take(np.argsort(-found.score)[:1])
    assert best.label.tolist() == [0]
    assert best.score.tolist() == [0.75]
    assert best.mask == masks[1:]
    assert len(found.take(found.score > 0.9)) == 0 == len(Findings.none())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"score": [0.5, 1.5]}, "0 to 1"),
        ({"score": [0.5]}, "scores of shape"),
        ({"box": BOX[:, ::-1]}, "ends before"),
        ({"mask": ()}, "one each"),
    ],
)
def test_findings_that_make_no_sense_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        Findings(**{"label": [0, 0], "score": [0.5, 0.5], "box": BOX} | change)
