"""Findings as DICOM: each box comes back from the report to its place in the patient."""

from dataclasses import replace

import numpy as np
import pytest
from highdicom.sr import srread

from tasks.archive.standin import stand_ins
from tasks.learn.boxes import Findings
from tasks.serve.dicom_out import write_dicom
from tasks.serve.findings_table import finding_rows, measures_of
from tasks.serve.results import ModelFacts, PredictionRow
from tests.serve.dicom_cases import NAME, ORIENTATIONS, PATIENT, errors_of, judged

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
    return PredictionRow(one.case.case_id, findings=tuple(rows), measures=measures)


def value(group, name):
    (one,) = [m for m in group.get_measurements() if m.name.meaning == name]
    return one.value


def planar(path):
    return srread(path).content.get_planar_roi_measurement_groups()


@pytest.mark.parametrize("plane", ORIENTATIONS)
def test_a_box_comes_back_to_its_place_in_the_patient(tmp_path, plane):
    one = judged(tmp_path, plane)
    made = write_dicom(tmp_path, row_of(one), one.images, one.maker(DETECTION))
    assert errors_of(made.sr) == []
    shown = planar(made.sr)
    assert [group.finding_type.meaning for group in shown] == ["mass", "nodule"]
    uids = [image.SOPInstanceUID for image in one.images.datasets]
    for group, box in zip(shown, FOUND.box, strict=False):
        region = group.roi
        place = uids.index(
            region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        )
        (x, y) = (region.value[:4].mean(0)) - 0.5
        assert abs(place - box[:, 0].mean()) <= 0.5
        index = np.array([box[:, 0].mean(), y, x])
        wanted = one.truth.affine[:3, :3] @ index + one.truth.affine[:3, 3]
        told = [value(group, f"Centre {axis}, LPS") for axis in "xyz"]
        np.testing.assert_allclose(told, wanted, atol=0.01)
    text = made.sr.read_bytes()
    assert NAME.encode("latin-1") not in text
    assert PATIENT.encode() not in text


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
    assert planar(made.sr) == []
    groups = srread(made.sr).content.get_image_measurement_groups()
    assert [value(group, "Score") for group in groups[1:]] == [0.9, 0.6]
