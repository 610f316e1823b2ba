"""LUNA16 and LIDC: nodules where their readers saw them, in LPS mm."""

import csv
import gzip
import io

import numpy as np
import pytest

from tasks.errors import BadCase
from tasks.evaluate.detections import UNKNOWN_DIAMETER
from tasks.labels.lidc import consensus, fill, mask_of, parse_lidc
from tasks.labels.lidc_case import lidc_instances
from tasks.labels.luna16 import (
    CANDIDATES,
    EXCLUDED,
    UNKNOWN_DIAMETER_MM,
    candidates,
    nodules,
)
from tasks.labels.shapes import index_bounds, world_bounds
from tests.labels.grids import ORIENTATIONS

SERIES = "1.3.6.1.4.1.14519.5.2.1.6279.6001.100225287222365663678666836860"
HEAD = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"


def test_luna16_nodules_are_cubes_in_the_patient():
    table = f"{HEAD}{SERIES},-128.6994211,-175.3192718,-298.3875064,5.651470635\n"
    (box,) = nodules(table.encode())
    assert (box.series, box.line, box.irrelevant) == (SERIES, 2, False)
    low, high = world_bounds(box)
    np.testing.assert_allclose((low + high) / 2, [-128.6994211, -175.3192718, -298.3875064])
    np.testing.assert_allclose(high - low, 5.651470635)
    assert SERIES not in repr(box)


@pytest.mark.parametrize("affine", ORIENTATIONS.values(), ids=ORIENTATIONS)
def test_a_luna16_point_is_the_voxel_that_itk_finds(affine):
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.Image(34, 30, 9, sitk.sitkInt16)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing[::-1].tolist())
    image.SetDirection((affine[:3, :3] / spacing)[:, ::-1].ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    place = image.TransformIndexToPhysicalPoint((20, 11, 5))
    table = HEAD + ",".join([SERIES, *map(repr, place), "4.0"])
    (box,) = nodules(table.encode())
    np.testing.assert_allclose(index_bounds(box, affine).mean(axis=0), [5, 11, 20], atol=1e-6)


def test_excluded_findings_count_for_nothing_and_may_have_no_size():
    table = f"{HEAD}{SERIES},1,2,3,-1\n{SERIES},1,2,3,4.5\n".encode()
    boxes = nodules(table, EXCLUDED)
    assert [(box.irrelevant, box.diameter_mm) for box in boxes] == [(True, None), (True, 4.5)]
    # The challenge's script takes 10 mm for what was not measured: a finding there is no alarm.
    np.testing.assert_array_equal(world_bounds(boxes[0]), [[-4, -3, -2], [6, 7, 8]])
    with pytest.raises(ValueError, match=r"annotations.csv line 2: the diameter"):
        nodules(table)


def test_candidates_say_whether_they_are_nodules():
    table = f"seriesuid,coordX,coordY,coordZ,class\n{SERIES},1,2,3,0\n{SERIES},4,5,6,1\n"
    found = candidates(table.encode())
    assert [(one.name, one.centre) for one in found] == [
        ("candidate", (1.0, 2.0, 3.0)),
        ("nodule", (4.0, 5.0, 6.0)),
    ]
    with pytest.raises(ValueError, match=rf"{CANDIDATES} line 3: the class"):
        candidates(table.replace("6,1", "6,2").encode())


@pytest.mark.parametrize(
    ("row", "problem"),
    [("x,1,2,3,4", "not a UID"), (f"{SERIES},1,b,3,4", "no number"), (f"{SERIES},1,2,3", "4 fi")],
)
def test_wrong_lines_of_luna16_are_named_by_file_and_line(row, problem):
    with pytest.raises(ValueError, match=rf"annotations.csv line 2: .*{problem}"):
        nodules((HEAD + row + "\n").encode())


def square(z: float, low: int, high: int, inclusion: str = "TRUE") -> str:
    """Outline whose inside is low..high (both in) along columns and rows."""
    edge = [(low - 1, low - 1), (high + 1, low - 1), (high + 1, high + 1), (low - 1, high + 1)]
    points = "".join(
        f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in [*edge, edge[0]]
    )
    return (
        f"<roi><imageZposition>{z}</imageZposition><imageSOP_UID>1.2</imageSOP_UID>"
        f"<inclusion>{inclusion}</inclusion>{points}</roi>"
    )


def point(z: float, x: int, y: int) -> str:
    edge = f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>"
    return f"<roi><imageZposition>{z}</imageZposition><inclusion>TRUE</inclusion>{edge}</roi>"


def nodule(*rois: str, malignancy: int | None = None) -> str:
    said = f"<malignancy>{malignancy}</malignancy>" if malignancy else ""
    said = f"<characteristics>{said}</characteristics>" if said else ""
    return (
        f"<unblindedReadNodule><noduleID>N1</noduleID>{said}{''.join(rois)}</unblindedReadNodule>"
    )


def lidc(*sessions: str, series: str = SERIES) -> bytes:
    read = "".join(f"<readingSession>{session}</readingSession>" for session in sessions)
    return (
        '<?xml version="1.0" encoding="UTF-8"?><LidcReadMessage xmlns="http://www.nih.gov">'
        f"<ResponseHeader><SeriesInstanceUid>{series}</SeriesInstanceUid></ResponseHeader>"
        f"{read}</LidcReadMessage>"
    ).encode()


AFFINE = ORIENTATIONS["axial"]
SHAPE = (9, 40, 40)


def height(z: int) -> float:
    return AFFINE[2, 3] + 2.5 * z


def test_an_outline_encloses_what_is_within_it_and_not_itself():
    (reading,) = parse_lidc(lidc(nodule(square(height(3), 10, 14)))).nodules
    inside = fill(reading.outlines[0], (40, 40))
    expected = np.zeros((40, 40), bool)
    expected[10:15, 10:15] = True
    np.testing.assert_array_equal(inside, expected)


def test_holes_are_left_out_and_slices_found_by_their_height_in_either_order():
    rois = (
        square(height(3), 10, 19),
        square(height(3), 13, 15, "FALSE"),
        square(height(4), 12, 16),
    )
    (reading,) = parse_lidc(lidc(nodule(*rois))).nodules
    mask = mask_of(reading, SHAPE, AFFINE)
    assert [int(plane.sum()) for plane in mask] == [0, 0, 0, 100 - 9, 25, 0, 0, 0, 0]
    flipped = AFFINE.copy()
    flipped[2, 0], flipped[2, 3] = -2.5, height(8)
    np.testing.assert_array_equal(mask_of(reading, SHAPE, flipped), mask[::-1])
    with pytest.raises(ValueError, match="on no slice"):
        mask_of(reading, (3, 40, 40), AFFINE)


def test_readers_are_merged_by_consensus_and_the_minority_counts_for_nothing():
    z = height(4)
    readings = parse_lidc(
        lidc(
            nodule(square(z, 10, 14), malignancy=4) + nodule(square(z, 30, 33)),
            nodule(square(z, 11, 14), malignancy=5) + nodule(point(z, 3, 5)),
            # The same nodule in two pieces: one reader, once.
            nodule(square(z, 10, 12), malignancy=3) + nodule(square(z, 13, 15), malignancy=3),
            "<nonNodule><imageZposition>1</imageZposition><locus><xCoord>1</xCoord>"
            "<yCoord>2</yCoord></locus></nonNodule>",
        )
    )
    assert (readings.series, readings.readers, len(readings.others)) == (SERIES, 4, 1)
    boxes, masks = consensus(readings, SHAPE, AFFINE, frame_of_reference="1.9")
    by_readers = {box.facts["readers"]: box for box in boxes if not box.irrelevant}
    assert list(by_readers) == [3.0]
    found = by_readers[3.0]
    assert (found.series, found.frame_of_reference) == (SERIES, "1.9")
    assert found.facts["malignancy"] == pytest.approx((4 + 5 + 3 + 3) / 4)
    # Two of three readers at least: columns and rows 10 to 14, cut where only one saw them.
    np.testing.assert_allclose(index_bounds(found, AFFINE), [[3.5, 9.5, 9.5], [4.5, 14.5, 14.5]])
    lonely = [box for box in boxes if box.irrelevant]
    assert sorted(box.facts["readers"] for box in lonely) == [1.0, 1.0]
    small = next(box for box in lonely if box.diameter_mm is None)
    np.testing.assert_allclose(index_bounds(small, AFFINE).mean(axis=0), [4, 5, 3], atol=1e-9)
    assert [one.number for one in masks.segments] == [box.line for box in boxes]


def drawn_readings() -> bytes:
    """Three readers of two nodules and a point, near the border of the image and apart."""
    a, b = height(4), height(7)
    return lidc(
        nodule(square(a, 10, 14)) + nodule(square(a, 30, 33), square(b, 34, 39)),
        nodule(square(a, 11, 15)) + nodule(point(a, 3, 5)) + nodule(square(b, 33, 38)),
        nodule(square(a, 10, 12)) + nodule(square(a, 14, 16)) + nodule(square(b, 35, 39)),
    )


@pytest.mark.parametrize("step", [2.5, -2.5])
def test_instances_place_by_place_are_those_of_the_whole_grid(step):
    affine = AFFINE.copy()
    affine[2, 0] = step
    affine[2, 3] = height(0 if step > 0 else SHAPE[0] - 1)
    data = drawn_readings()
    boxes, masks = consensus(parse_lidc(data), SHAPE, affine)
    mask, rows = lidc_instances(data, SHAPE, affine)
    assert mask.dtype == np.uint8
    assert sorted(rows[:, 13]) == sorted(float(box.irrelevant) for box in boxes) == [0, 0, 1]
    places = (tuple(np.round(box.centre, 6)) for box in boxes)
    by_place = dict(zip(places, (one.mask for one in masks.segments), strict=True))
    for number, row in enumerate(rows, start=1):
        np.testing.assert_array_equal(mask == number, by_place[tuple(np.round(row[1:4], 6))])


@pytest.mark.parametrize(
    ("data", "detail"),
    [(b"<a/>", "another kind"), (drawn_readings().replace(b"39", b"99"), "leaves"),
     (drawn_readings().replace(f"{height(7)}".encode(), b"999.0"), "on no slice")],
    ids=["kind", "leaves", "slice"],
)  # fmt: skip
def test_outlines_of_another_series_are_refused_as_a_case(data, detail):
    with pytest.raises(BadCase, match=detail) as found:
        lidc_instances(data, SHAPE, AFFINE)
    assert found.value.reason == "not_of_this_series"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"<LidcReadMessage>", "not XML at line 1"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><a/>", "document type"),
        (b"<IdriReadMessage/>", "another kind"),
        (lidc(), "no reading session"),
        (lidc(nodule()), "reading 1, nodule 1: it has no outline"),
        (
            lidc("", nodule(square(1, 2, 3)).replace(">2<", ">b<").replace(">1<", ">b<")),
            "reading 2",
        ),
        (lidc(nodule(square(1, 2, 3), malignancy=9)), "nodule 1: the rating malignancy"),
    ],
)
def test_wrong_files_of_lidc_are_refused_with_reading_and_nodule(data, problem):
    with pytest.raises(ValueError, match=problem):
        parse_lidc(data)


def test_nodules_of_the_published_table_are_read_where_they_lie(shared_data):
    """Rows of the real collection, written in LUNA16's layout, keep series, place and size."""
    packed = (shared_data / "tables" / "lidc_annotations.csv.gz").read_bytes()
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(packed).decode())))[:200]
    lines = [[r["series_uid"], r["cx_px"], r["cy_px"], r["cz_mm"], r["max_diam_mm"]] for r in rows]
    boxes = nodules((HEAD + "\n".join(map(",".join, lines))).encode())
    assert [box.diameter_mm for box in boxes] == [float(r["max_diam_mm"]) for r in rows]
    assert [box.centre[2] for box in boxes] == [float(r["cz_mm"]) for r in rows]


def test_each_scan_of_luna16_is_mapped_to_its_own_patient_and_fold(tmp_path):
    from tasks.labels.layouts import mapping_text

    for fold, uid in ((0, "1.2.3"), (3, "1.2.9")):
        folder = tmp_path / f"subset{fold}"
        folder.mkdir()
        for ending in ("mhd", "raw"):
            (folder / f"{uid}.{ending}").write_bytes(b"x")
    (tmp_path / "seg-lungs-LUNA16").mkdir()
    (tmp_path / "seg-lungs-LUNA16" / "1.2.3.mhd").write_bytes(b"x")
    text, lines = mapping_text("luna16", tmp_path)
    assert [(line.file, line.patient, line.accession) for line in lines] == [
        ("subset0/1.2.3.mhd", "1.2.3", "1.2.3"),
        ("subset3/1.2.9.mhd", "1.2.9", "1.2.9"),
    ]
    assert "subset3/1.2.9.mhd,1.2.9,1.2.9,1.2.9,,CT,CHEST" in text


def test_outlines_of_one_reading_never_undo_each_other():
    whole, hole = square(height(3), 10, 19), square(height(3), 13, 17, "FALSE")
    cases = (
        ((whole, whole), 100),  # It stands twice.
        ((whole, square(height(3), 15, 24)), 100 + 100 - 25),  # Two of one nodule overlap.
        ((whole, hole, hole), 100 - 25),
        ((square(height(3), 15, 15), hole, whole), 100 - 25 + 1),  # An island, in any order.
    )
    for rois, expected in cases:
        (reading,) = parse_lidc(lidc(nodule(*rois))).nodules
        assert mask_of(reading, SHAPE, AFFINE)[3].sum() == expected


@pytest.mark.parametrize(("x", "column"), [(-1, 0), (40, 39)])
def test_a_point_just_outside_of_the_image_is_at_its_border(x, column):
    mask, rows = lidc_instances(lidc(nodule(point(height(3), x, 7))), SHAPE, AFFINE)
    assert np.argwhere(mask).tolist() == [[3, 7, column]]
    assert len(rows) == 1


def test_a_diameter_that_was_not_measured_is_the_same_for_reader_and_figures():
    assert UNKNOWN_DIAMETER_MM == UNKNOWN_DIAMETER
