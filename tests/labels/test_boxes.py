"""Boxes as label sets hold them: written and read alike, placed in the patient, drawn on a grid."""

import numpy as np
import pytest

from tasks.errors import BadCase
from tasks.labels.boxes import CaseBox, instance_mask, read_written, rows_on, written
from tasks.learn.boxes import boxes_of_instances, boxes_on
from tests.learn.drawn_boxes import AFFINE

SHAPE = (6, 20, 30)
CLASSES = ("bright", "dark")


def px(low, high, name="bright", **more) -> CaseBox:
    return CaseBox(name, "px", (*low, *high), **more)


def drawn(*boxes: CaseBox, shape=SHAPE, affine=AFFINE):
    rows = rows_on(boxes, CLASSES, shape, affine)
    return instance_mask(boxes, rows, shape, affine), rows


def test_boxes_come_back_as_written_and_their_order_counts_for_nothing():
    ring = (((1.0, 2.0), (1.0, 5.0), (4.0, 5.0)),)
    boxes = (
        px((-0.5, 1, 2), (0.5, 4, 5), rings=ring),
        CaseBox("dark", "mm", tuple(map(float, range(12))), irrelevant=True, ball=True),
        CaseBox("dark", "share", (0.0, 0.1, 0.1, 1.0, 0.2, 0.3)),
    )
    assert set(read_written(written(boxes))) == set(boxes)
    assert written(boxes) == written(boxes[::-1])
    assert written(()) == "[]"


@pytest.mark.parametrize(
    "numbers", [(0, 0, 0, 1, 1), (0, 0, 0, 1, 1, float("nan")), (0, 0, 3, 1, 1, 3)]
)
def test_what_is_no_box_is_refused(numbers):
    with pytest.raises(ValueError, match="box"):
        CaseBox("bright", "px", numbers)


def test_pixels_lie_where_the_affine_says_on_a_turned_grid():
    mask, rows = drawn(px((0.5, 2.5, 3.5), (2.5, 8.5, 20.5), "dark"))
    np.testing.assert_allclose(boxes_on(rows, AFFINE)[0], [[0.5, 2.5, 3.5], [2.5, 8.5, 20.5]])
    np.testing.assert_allclose(rows[0, 1:4], (AFFINE @ [1.5, 5.5, 12.0, 1.0])[:3])
    assert rows[0, 0] == 1
    assert mask[1:3, 3:9, 4:21].all()
    assert np.count_nonzero(mask) == 2 * 6 * 17


def test_shares_are_of_the_whole_picture():
    mask, _ = drawn(CaseBox("bright", "share", (0, 0.25, 0.5, 1, 0.5, 1)), shape=(1, 20, 30))
    assert mask[0, 5:10, 15:].all()
    assert np.count_nonzero(mask) == 5 * 15


def test_a_ball_is_round_and_a_box_along_the_patient_is_not():
    shape = (21, 31, 31)
    affine = np.array([[0, 0, 1.0, 0], [0, 1.0, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1.0]])
    told = (15.0, 15.0, 20.0, 0, 0, 16.0, 0, 16.0, 0, 16.0, 0, 0)
    ball, _ = drawn(CaseBox("bright", "mm", told, ball=True), shape=shape, affine=affine)
    box, _ = drawn(CaseBox("bright", "mm", told), shape=shape, affine=affine)
    volume = np.count_nonzero(ball) * 2.0
    assert volume == pytest.approx(np.pi / 6 * 16**3, rel=0.05)
    assert np.count_nonzero(box) == 9 * 17 * 17
    _, around = boxes_of_instances(ball)
    np.testing.assert_array_equal(around, boxes_of_instances(box)[1])


def test_smaller_boxes_lie_on_top_whatever_their_order_and_points_have_a_voxel():
    small, large = px((-0.5, 4, 4), (0.5, 8, 8)), px((-0.5, 1, 1), (0.5, 15, 15))
    point = CaseBox("bright", "mm", (*(AFFINE @ [3, 9, 9, 1])[:3], *[0.0] * 9), irrelevant=True)
    mask, rows = drawn(small, large, point)
    assert mask[0, 5, 5] == 1
    assert mask[0, 2, 2] == 2
    assert mask[3, 9, 9] == 3
    assert rows[:, 13].tolist() == [0, 0, 1]
    again, _ = drawn(large, small, point)
    np.testing.assert_array_equal(again == 2, mask == 1)


def test_what_counts_for_nothing_hides_nothing_that_is_to_be_found():
    wanted = px((-0.5, 1, 1), (0.5, 15, 15))
    aside = px((-0.5, 4, 4), (0.5, 8, 8), irrelevant=True)
    for mask, at in ((drawn(wanted, aside)[0], 1), (drawn(aside, wanted)[0], 2)):
        assert mask[0, 5, 5] == at
    apart = px((-0.5, 12, 12), (0.5, 18, 18), irrelevant=True)
    assert (drawn(wanted, apart)[0] == 2).any()


def test_polygons_are_drawn_where_a_file_outlines():
    ring = (((2.0, 2.0), (2.0, 12.0), (12.0, 2.0)),)
    mask, _ = drawn(px((-0.5, 1.5, 1.5), (0.5, 12.5, 12.5), rings=ring), shape=(1, 20, 30))
    assert mask[0, 3, 3] == 1
    assert mask[0, 11, 11] == 0


def test_boxes_of_another_image_are_refused():
    with pytest.raises(BadCase, match=r"box 2 of 2 .* \(6, 20, 30\)") as found:
        drawn(px((0, 1, 1), (1, 4, 4)), px((0, 30, 30), (1, 40, 40)))
    assert found.value.reason == "box_outside"


def test_boxes_of_a_picture_of_another_size_are_refused():
    (one,) = read_written(written([px((0, 1, 1), (1, 4, 4), size=(40, 60))]))
    assert drawn(one, shape=(1, 40, 60))[0].any()
    with pytest.raises(BadCase, match=r"box 1 of 1 was drawn on a picture of \(40, 60\)") as found:
        drawn(one, shape=(1, 20, 30))
    assert found.value.reason == "box_outside"


def test_more_boxes_than_a_mask_can_number_are_refused():
    with pytest.raises(BadCase) as found:
        drawn(*[px((0, 1, 1), (1, 4, 4))] * 256)
    assert found.value.reason == "too_many_boxes"
