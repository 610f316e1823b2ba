"""Findings as a picture: each box from three sides where it lies, the true ones in their colour."""

import numpy as np
import pytest
from PIL import Image

from tasks.learn.boxes import Findings, box_on, rows_of_findings, world_of
from tasks.serve.findings_picture import FOUND, LINE, NEITHER, TRUE, findings_png
from tasks.serve.overlays import LONG_SIDE
from tests.serve.dicom_cases import ORIENTATIONS

AXIAL = np.array([[0, 0, 1.0, -10], [0, 1.0, 0, 20], [3.0, 0, 0, 5], [0, 0, 0, 1]])
"""Slices of 3 mm to the head, rows to the back, columns to the left."""

SHAPE = (10, 40, 60)

BOX = np.array([[6.5, 9.5, 19.5], [8.5, 19.5, 44.5]])
"""High up, in front and, by its right end, on the left."""


def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


def truth_of(box, affine, irrelevant=0.0):
    rows = rows_of_findings(Findings([0] * len(box), [1.0] * len(box), box), affine)
    return np.column_stack([rows[:, 0], rows[:, 2:14], np.full(len(box), irrelevant)])


def extent(panel, colour):
    """Return the rows and columns from which to which a colour reaches in its outer lines."""
    lines = (panel == colour).all(2)
    # Letters are thin; only a line has so many pixels in one row or column.
    rows = np.flatnonzero(lines.sum(1) > 12)
    columns = np.flatnonzero(lines.sum(0) > 12)
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


def planes(path, colour):
    """Return the extent of a colour in each of the three planes of the first row, in mm."""
    sides = ((40, 60), (30, 60), (30, 40))
    found = []
    for at, (high, wide) in enumerate(sides):
        panel = read(path)[: int(picture_height()), at * LONG_SIDE : (at + 1) * LONG_SIDE]
        scale = LONG_SIDE / max(high, wide)
        # The picture lies in the middle of its place, if it is lower than the tallest.
        top = (picture_height() - high * scale) / 2
        box = np.add(extent(panel, colour), [LINE, -LINE, LINE, -LINE])
        found.append((box - [top, top, 0, 0]) / scale)
    return np.array(found)


def picture_height():
    return max(40 * LONG_SIDE / 60, 30 * LONG_SIDE / 60, 30 * LONG_SIDE / 40)


def test_a_box_of_a_volume_is_drawn_in_three_planes_in_true_proportions(tmp_path):
    found = Findings([0], [0.9], BOX[None])
    path = findings_png(tmp_path / "a.png", np.zeros(SHAPE), AXIAL, found, ("nodule",))
    # Down to the feet z turns over: 10 slices, from 6.5 to 8.5 are from 1 to 3 of them, 3 mm each.
    axial, coronal, sagittal = planes(path, FOUND)
    np.testing.assert_allclose(axial, [10, 20, 20, 45], atol=0.4)
    np.testing.assert_allclose(coronal, [3, 9, 20, 45], atol=0.4)
    np.testing.assert_allclose(sagittal, [3, 9, 10, 20], atol=0.4)


@pytest.mark.parametrize("plane", ["sagittal", "coronal"])
def test_however_a_series_was_taken_its_boxes_are_drawn_alike(tmp_path, plane):
    values = np.random.default_rng(0).normal(size=SHAPE)
    found = Findings([0], [0.9], BOX[None])
    one = findings_png(tmp_path / "a.png", values, AXIAL, found, ("nodule",))
    row, column = np.array(ORIENTATIONS[plane], float).reshape(2, 3)
    # Index (z, y, x) of the series rises along these directions; the same voxels, indexed anew.
    towards = np.stack([np.cross(row, column), column, row], axis=1)
    turn = np.linalg.inv(AXIAL[:3, :3] / np.linalg.norm(AXIAL[:3, :3], axis=0)) @ towards
    axes = np.abs(turn).argmax(0)
    flips = turn[axes, range(3)] < 0
    turned = np.flip(values.transpose(axes), np.flatnonzero(flips))
    step = np.zeros((4, 4))
    step[3, 3] = 1
    for new, (old, flip) in enumerate(zip(axes, flips, strict=True)):
        step[old, new] = -1 if flip else 1
        step[old, 3] = SHAPE[old] - 1 if flip else 0
    affine = AXIAL @ step
    there = Findings([0], [0.9], box_on(*world_of(BOX[None], AXIAL), affine))
    two = findings_png(tmp_path / "b.png", turned, affine, there, ("nodule",))
    np.testing.assert_array_equal(read(one), read(two))


def test_true_boxes_have_their_colour_and_those_that_count_for_nothing_another(tmp_path):
    away = BOX[None] + np.array([0.0, 15, 0])
    truth = np.concatenate([truth_of(BOX[None], AXIAL), truth_of(away, AXIAL, 1.0)])
    path = findings_png(
        tmp_path / "a.png", np.zeros(SHAPE), AXIAL, Findings.none(), ("nodule",), truth
    )
    drawn = read(path)
    assert (drawn == TRUE).all(2).any()
    assert (drawn == NEITHER).all(2).any()
    assert not (drawn == FOUND).all(2).any()
    alone = findings_png(
        tmp_path / "b.png", np.zeros(SHAPE), AXIAL, Findings.none(), ("nodule",), truth[1:]
    )
    # It draws no plane to itself: the middle is shown, through which it does not pass.
    assert not (read(alone) == TRUE).all(2).any()


def test_every_finding_has_its_planes_and_what_the_same_planes_show_has_no_others(tmp_path):
    far = np.array([[0.5, 29.5, 4.5], [2.5, 35.5, 9.5]])
    image = np.zeros(SHAPE)

    def height(box):
        found = Findings([0] * len(box), np.linspace(0.9, 0.5, len(box)), box)
        return len(read(findings_png(tmp_path / "a.png", image, AXIAL, found, ("nodule",))))

    one, two = height(BOX[None]), height(np.stack([BOX, far]))
    assert two - one == pytest.approx(picture_height(), abs=1)
    assert height(np.stack([BOX, BOX + 0.3])) == one
    # Of seven places four are shown, and a line says so.
    many = np.stack([[[z, 0, 0], [z + 1.0, 4, 4]] for z in np.arange(-0.5, 6)])
    assert height(many) == pytest.approx(one + 3 * picture_height() + 19, abs=2)


def test_a_picture_is_one_plane_and_says_when_nothing_is_shown(tmp_path):
    image = np.zeros((1, 40, 80), np.float32)
    found = Findings([0], [0.9], np.array([[[-0.5, 9.5, 19.5], [0.5, 29.5, 59.5]]]))
    affine = np.diag([50.0, 1, 1, 1])
    drawn = read(findings_png(tmp_path / "a.png", image, affine, found, ("fracture",)))
    scale = LONG_SIDE / 80
    wanted = np.array([10, 30, 20, 60]) * scale + [-LINE, LINE, -LINE, LINE]
    np.testing.assert_allclose(extent(drawn[: LONG_SIDE // 2], FOUND), wanted, atol=1.1)
    none = findings_png(tmp_path / "b.png", image, affine, Findings.none(), ("fracture",))
    below = read(none)[LONG_SIDE // 2 :]
    assert below.max() == 255  # the words
    assert not (read(none) == FOUND).all(2).any()


def test_what_is_outlined_is_shaded_and_the_legend_says_so(tmp_path):
    image = np.zeros((1, 40, 60))
    found = Findings([0], [0.9], [[[-0.5, 9.5, 19.5], [0.5, 19.5, 44.5]]])
    outline = np.zeros(image.shape, np.uint8)
    outline[0, 12:17, 25:40] = 1
    plain = read(findings_png(tmp_path / "a.png", image, AXIAL, found, ("mass",)))
    shaded = read(findings_png(tmp_path / "b.png", image, AXIAL, found, ("mass",), outline=outline))
    scale = LONG_SIDE / 60
    inside = shaded[int(14.5 * scale), int(32 * scale)]
    assert inside.tolist() != plain[int(14.5 * scale), int(32 * scale)].tolist()
    assert shaded[int(10.5 * scale), int(22 * scale)].tolist() == [0, 0, 0]
    assert len(shaded) > len(plain)
    empty = findings_png(
        tmp_path / "c.png", image, AXIAL, found, ("mass",), outline=np.zeros_like(outline)
    )
    np.testing.assert_array_equal(read(empty), plain)
