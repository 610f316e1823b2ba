"""Findings as DICOM: each box comes back from the report to its place in the patient."""

from dataclasses import replace

import numpy as np
import pytest
from highdicom.seg import segread
from highdicom.sr import srread
from pydicom import dcmread

from tasks.archive.standin import stand_ins
from tasks.learn.boxes import Findings
from tasks.serve.dicom_out import write_dicom
from tasks.serve.findings_table import finding_rows, measures_of, segments_of
from tasks.serve.results import ModelFacts, PredictionRow
from tests.serve.dicom_cases import (
    NAME,
    ORIENTATIONS,
    PATIENT,
    SHAPE,
    errors_of,
    judged,
    segments_named,
)

DETECTION = ModelFacts(
    "small-ct", "Nodules of a ball", "small-ct", "5", "ef" * 32, "detection", "2026-11-01",
    threshold=0.5, classes=("nodule", "mass"),
)  # fmt: skip

FOUND = Findings(
    [1, 0, 0],
    [0.9, 0.6, 0.2],
    [[[0.5, 1.5, 2.5], [3.5, 5.5, 8.5]], [[1.5, -0.5, 0.5], [2.5, 3.5, 2.5]], np.ones((2, 3))],
)


def row_of(one, found=FOUND):
    rows = finding_rows(one.case.case_id, found, one.truth.affine, DETECTION.classes, 0.5)
    measures = measures_of(rows, DETECTION.classes)
    affine = tuple(map(tuple, one.truth.affine))
    return PredictionRow(one.case.case_id, findings=tuple(rows), measures=measures, affine=affine)


def value(group, name):
    (one,) = [m for m in group.get_measurements() if m.name.meaning == name]
    return one.value


def planar(path):
    return srread(path).content.get_planar_roi_measurement_groups()


def in_space(path):
    return srread(path).content.get_volumetric_roi_measurement_groups()


def on_grid(points, affine):
    """Return the lowest and highest corner (z, y, x) of points in LPS mm."""
    index = (np.asarray(points) - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    return np.array([index.min(0), index.max(0)])


def surfaces(dataset):
    """Return all points in space of each group that has some, as bare pydicom reads them."""
    found = []
    for group in dataset.get("ContentSequence", ()):
        points = [
            np.reshape(item.GraphicData, (-1, 3))
            for item in group.get("ContentSequence", ())
            if item.ValueType == "SCOORD3D"
        ]
        found += [np.concatenate(points)] if points else surfaces(group)
    return found


@pytest.mark.parametrize("plane", ORIENTATIONS)
def test_a_box_comes_back_to_its_place_in_the_patient(tmp_path, plane):
    one = judged(tmp_path, plane)
    made = write_dicom(tmp_path, row_of(one), one.images, one.maker(DETECTION))
    assert errors_of(made.sr) == []
    shown = in_space(made.sr)
    assert [group.finding_type.meaning for group in shown] == ["mass", "nodule"]
    datasets = one.images.datasets
    frame = datasets[0].FrameOfReferenceUID
    for group, box, bare in zip(shown, FOUND.box, surfaces(dcmread(made.sr)), strict=False):
        surface = group.roi
        assert surface.frame_of_reference_uid == frame
        assert len(surface.graphic_data) == 6
        for points in (np.concatenate(surface.graphic_data), bare):
            np.testing.assert_allclose(on_grid(points, one.truth.affine), box, atol=1e-3)
        wanted = one.truth.affine[:3, :3] @ box.mean(0) + one.truth.affine[:3, 3]
        told = [value(group, f"Centre {axis}, LPS") for axis in "xyz"]
        np.testing.assert_allclose(told, wanted, atol=0.01)
        crossed = range(int(box[0, 0] + 0.5), int(box[1, 0] + 0.5))
        named = [
            item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            for item in surface.source_images_for_segmentation
        ]
        assert named == [datasets[slice_].SOPInstanceUID for slice_ in crossed]
    text = made.sr.read_bytes()
    assert NAME.encode("latin-1") not in text
    assert PATIENT.encode() not in text


def test_a_box_of_a_single_image_lies_on_it(tmp_path):
    one = judged(tmp_path)
    flat = Findings([0], [0.9], [[[-0.5, 1.5, 2.5], [0.5, 5.5, 8.5]]])
    image = replace(one.images, datasets=one.images.datasets[:1])
    made = write_dicom(tmp_path, row_of(one, flat), image, one.maker(DETECTION))
    assert errors_of(made.sr) == []
    (group,) = planar(made.sr)
    assert in_space(made.sr) == []
    region = group.roi
    corners = np.array([region.value.min(0), region.value.max(0)]) - 0.5
    np.testing.assert_allclose(corners, flat.box[0, :, :0:-1])
    named = region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert named == image.datasets[0].SOPInstanceUID


def test_a_radiograph_tells_no_place_in_the_patient_and_without_a_pixel_size_no_mm(tmp_path):
    one = judged(tmp_path)
    image = replace(one.images, datasets=one.images.datasets[:1])
    flat = Findings([0], [0.9], [[[-0.5, 1.5, 2.5], [0.5, 5.5, 8.5]]])
    names = one.case.case_id, flat, one.truth.affine, DETECTION.classes, 0.5
    for sized, unit, longest in ((True, "mm", 6 * 0.7), (False, "{pixels}", 6)):
        rows = finding_rows(*names, sized=sized, placed=False)
        measures = measures_of(rows, DETECTION.classes, sized=sized)
        row = replace(row_of(one), findings=tuple(rows), measures=measures)
        row = replace(row, sizes="at the detector" if sized else None)
        made = write_dicom(tmp_path / unit, row, image, one.maker(DETECTION))
        assert errors_of(made.sr) == []
        (group,) = planar(made.sr)
        told = {m.name.meaning: m for m in group.get_measurements()}
        assert set(told) == {"Score", "Longest side of the box"}
        assert told["Longest side of the box"].unit.value == unit
        assert told["Longest side of the box"].value == pytest.approx(longest, rel=1e-4)
        cautions = [e.value.meaning for e in group.get_qualitative_evaluations()]
        assert cautions == (["sizes are at the detector"] if sized else [])
        # The group of the case says how many, and no length of another unit.
        (case,) = srread(made.sr).content.get_image_measurement_groups()
        assert {m.unit.value for m in case.get_measurements()} == {"1"}


def test_outlines_that_overlap_are_segments_of_their_own_and_the_report_names_them(tmp_path):
    one = judged(tmp_path, "oblique")
    masks = np.zeros((2, 1, *SHAPE[1:]), bool)
    masks[0, 0, 2:6, 3:9] = masks[1, 0, 4:9, 5:13] = True
    box = [[[-0.5, 1.5, 2.5], [0.5, 5.5, 8.5]], [[-0.5, 3.5, 4.5], [0.5, 8.5, 12.5]]]
    # Told the worse one first: numbers and segments go by score.
    found = Findings([0, 1], [0.6, 0.9], box, tuple(masks))
    row = row_of(one, found)
    assert [line["segment"] for line in row.findings] == [1, 2]
    image = replace(one.images, datasets=one.images.datasets[:1])
    stack = segments_of(found, row.findings)
    made = write_dicom(tmp_path, row, image, one.maker(DETECTION), mask=stack)
    assert made.why_no_seg == ""
    assert errors_of(made.seg) == []
    assert errors_of(made.sr) == []
    seg = segread(made.seg)
    planes = seg.get_pixels_by_source_instance([image.datasets[0].SOPInstanceUID])
    np.testing.assert_array_equal(planes[0] > 0, np.moveaxis(masks[::-1, 0], 0, -1))
    assert [s.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for s in seg.SegmentSequence] == [
        "mass", "nodule",
    ]  # fmt: skip
    # The plane's own place, so that pixel (y, x) is where the source's is.
    place = dcmread(made.seg)
    position = place.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    np.testing.assert_allclose(position.ImagePositionPatient, one.truth.affine[:3, 3], atol=1e-4)
    groups = in_space(made.sr)
    assert segments_named(dcmread(made.sr)) == [(place.SOPInstanceUID, n) for n in (1, 2)]
    pixel = np.linalg.norm(np.cross(*one.truth.affine[:3, 1:3].T))
    for group, mask, segment in zip(groups, masks[::-1], seg.SegmentSequence, strict=True):
        assert value(group, "Area") == pytest.approx(mask.sum() * pixel, rel=1e-4)
        assert group.tracking_uid == segment.TrackingUID


def test_slices_in_one_file_have_their_boxes_in_space_as_well(tmp_path):
    one = judged(tmp_path)
    images = replace(one.images, reason="several of its slices are in one file")
    made = write_dicom(tmp_path, row_of(one), images, one.maker(DETECTION))
    assert errors_of(made.sr) == []
    first = in_space(made.sr)[0].roi
    points = np.concatenate(first.graphic_data)
    np.testing.assert_allclose(on_grid(points, one.truth.affine), FOUND.box[0], atol=1e-3)
    assert len(first.source_images_for_segmentation) == len(one.images.datasets)


def test_a_case_without_findings_says_so_and_one_without_images_points_at_none(tmp_path):
    one = judged(tmp_path)
    made = write_dicom(
        tmp_path / "a", row_of(one, Findings.none()), one.images, one.maker(DETECTION)
    )
    assert errors_of(made.sr) == []
    (group,) = srread(made.sr).content.get_image_measurement_groups()
    assert value(group, "nodule findings") == 0
    assert value(group, "Shown from score") == 0.5
    nifti = replace(one.case, kind="nifti")
    images = stand_ins(nifti, (), one.home.names)
    made = write_dicom(tmp_path / "b", row_of(one), images, one.maker(DETECTION))
    assert errors_of(made.sr) == []
    assert planar(made.sr) == in_space(made.sr) == []
    groups = srread(made.sr).content.get_image_measurement_groups()
    assert [value(group, "Score") for group in groups[1:]] == [0.9, 0.6]
