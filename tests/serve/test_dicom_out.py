"""Results as DICOM: valid, in their place in the patient, the same again, and of nobody."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import highdicom
import numpy as np
import pytest
from pydicom import dcmread

from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.sources import FileRef
from tasks.archive.standin import stand_ins
from tasks.serve.dicom_out import Maker, write_dicom
from tests.serve.dicom_cases import (
    ACCESSION,
    CLASSIFICATION,
    NAME,
    ORIENTATIONS,
    PATIENT,
    SEGMENTATION,
    errors_of,
    judged,
)

ONE_DAY, ANOTHER = datetime(2026, 11, 1, 8, 30), datetime(2026, 11, 2, 9, 45)


@pytest.fixture(scope="module")
def axial(tmp_path_factory):
    return judged(tmp_path_factory.mktemp("axial"))


@pytest.fixture(scope="module")
def written(axial, tmp_path_factory):
    """Segmentation with volumes, and the report of a class."""
    folder = tmp_path_factory.mktemp("written")
    masks = write_dicom(
        folder / "masks", axial.volumes(), axial.images, axial.maker(), mask=axial.mask
    )
    classes = write_dicom(
        folder / "classes", axial.answer(), axial.images, axial.maker(CLASSIFICATION)
    )
    return {"seg": masks.seg, "volumes": masks.sr, "class": classes.sr}


def world(dataset, number):
    """Return LPS mm of every voxel of a segment, from each frame's own place alone."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    found = []
    for frame, plane in zip(
        dataset.PerFrameFunctionalGroupsSequence, np.atleast_3d(dataset.pixel_array), strict=True
    ):
        if frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber != number:
            continue
        origin = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
        between_rows, between_columns = shared.PixelMeasuresSequence[0].PixelSpacing
        rows, columns = np.nonzero(plane)
        found.append(
            origin
            + columns[:, None] * between_columns * cosines[:3]
            + rows[:, None] * between_rows * cosines[3:]
        )
    return np.concatenate(found)


def ordered(points):
    return points[np.lexsort(np.round(points, 2).T)]


@pytest.mark.parametrize("plane", ORIENTATIONS)
def test_a_mask_comes_back_to_its_place_in_the_patient(tmp_path, plane):
    one = judged(tmp_path, plane)
    made = write_dicom(tmp_path, one.volumes(), one.images, one.maker(), mask=one.mask)
    assert made.why_no_seg == ""
    dataset = dcmread(made.seg)
    half = min(np.linalg.norm(one.truth.affine[:3, :3], axis=0)) / 2
    for number in (1, 2):
        index = np.argwhere(one.mask == number)
        wanted = index @ one.truth.affine[:3, :3].T + one.truth.affine[:3, 3]
        back = world(dataset, number)
        assert back.shape == wanted.shape
        apart = np.linalg.norm(ordered(back) - ordered(wanted), axis=1).max()
        assert apart < half / 100
    assert errors_of(made.seg) == []
    if plane != "tilted":
        # A leaning stack is no volume of right angles, which is all that highdicom gives.
        volume = highdicom.seg.segread(made.seg).get_volume(combine_segments=True)
        index = np.argwhere(volume.array == 2)
        places = ordered(volume.map_indices_to_reference(index))
        np.testing.assert_allclose(places, ordered(world(dataset, 2)), atol=1e-3)


@pytest.mark.parametrize("kind", ["seg", "volumes", "class"])
def test_dciodvfy_finds_no_error(written, kind):
    assert errors_of(written[kind]) == []


@pytest.mark.parametrize("kind", ["seg", "volumes", "class"])
def test_a_result_says_that_it_is_research_by_which_model(axial, written, kind):
    dataset = dcmread(written[kind])
    model = CLASSIFICATION if kind == "class" else SEGMENTATION
    assert 9000 <= dataset.SeriesNumber < 10000
    said = f"RESEARCH USE ONLY: radloop small-ct, version {model.version}"
    assert dataset.SeriesDescription == said
    assert dataset.DeviceSerialNumber == model.digest
    assert dataset.SoftwareVersions == ["radloop 0.0", f"model {model.version}"]
    assert (dataset.PatientID, dataset.PatientSex) == (axial.case.patient_key, "F")
    text = written[kind].read_bytes()
    assert f"digest: {model.digest}".encode() in text or f"digest={model.digest}".encode() in text
    assert dataset.PatientIdentityRemoved == "YES"


@pytest.mark.parametrize("kind", ["seg", "volumes", "class"])
def test_nothing_of_an_original_header_is_in_a_result(axial, written, kind):
    data = written[kind].read_bytes()
    tokens = {NAME.encode("latin-1"), NAME.encode(), PATIENT.encode(), ACCESSION.encode()}
    for path in axial.truth.folder.iterdir():
        original = dcmread(path)
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            tokens.add(str(original[name].value).encode())
        tokens.add(str(original.FrameOfReferenceUID).encode())
        tokens |= {b"19470213", original.StudyDate.encode()}
    assert [token for token in tokens if token in data] == []


def test_the_same_question_gives_the_same_instance(axial, tmp_path):
    made = [
        write_dicom(
            tmp_path / str(number),
            axial.volumes(),
            axial.images,
            axial.maker(),
            mask=axial.mask,
            now=now,
        )
        for number, now in enumerate((ONE_DAY, ONE_DAY, ANOTHER))
    ]
    for paths in ([one.seg for one in made], [one.sr for one in made]):
        first, second, late = (path.read_bytes() for path in paths)
        assert first == second
        assert late != first
        assert len({str(dcmread(path).SOPInstanceUID) for path in paths}) == 1


def test_another_model_or_project_gives_other_instances(axial, written, tmp_path):
    known = {str(dcmread(path).SOPInstanceUID) for path in written.values()}
    other = replace(SEGMENTATION, digest="ef" * 32)
    images = stand_ins(axial.case, axial.files, Pseudonymiser(b"k" * 32))
    for name, maker, of in (
        ("model", axial.maker(other), axial.images),
        ("project", Maker(Pseudonymiser(b"k" * 32), SEGMENTATION, "radloop 0.0"), images),
    ):
        made = write_dicom(tmp_path / name, axial.volumes(), of, maker, mask=axial.mask)
        found = {str(dcmread(made.seg).SOPInstanceUID), str(dcmread(made.sr).SOPInstanceUID)}
        assert not found & known


def test_two_models_of_one_study_have_series_of_their_own(axial, written, tmp_path):
    other = replace(SEGMENTATION, name="other-ct")
    made = write_dicom(tmp_path, axial.volumes(), axial.images, axial.maker(other), mask=axial.mask)
    found = [dcmread(path) for path in (written["seg"], written["volumes"], made.seg, made.sr)]
    assert len({dataset.StudyInstanceUID for dataset in found}) == 1
    for name in ("SeriesInstanceUID", "SeriesNumber"):
        assert len({dataset[name].value for dataset in found}) == 4
    assert len({dataset.SeriesDescription for dataset in found}) == 2


def test_a_series_that_does_not_say_its_size_gets_no_segmentation_with_a_made_up_one(tmp_path):
    one = judged(tmp_path)
    files = []
    for ref in one.files:
        dataset = dcmread(ref.path)
        del dataset.PixelSpacing
        dataset.save_as(ref.path)
        files.append(FileRef(ref.path, None, "", Path(ref.path).stat().st_size))
    images = stand_ins(one.case, files, one.home.names)
    row = replace(one.volumes(), measures={"ball voxels": 7.0})
    made = write_dicom(tmp_path, row, images, one.maker(), mask=one.mask)
    assert made.seg is None
    assert made.why_no_seg == "the series does not say how large its pixels are"
    (group,) = highdicom.sr.srread(made.sr).content.get_image_measurement_groups()
    (size,) = group.get_measurements()
    assert (size.value, size.unit.value) == (7, "{voxels}")
    assert errors_of(made.sr) == []


def test_a_report_tells_class_probability_and_operating_point(written):
    report = highdicom.sr.srread(written["class"])
    (group,) = report.content.get_image_measurement_groups()
    numbers = {m.name.meaning: m.value for m in group.get_measurements()}
    assert numbers == {
        "Probability of well": 0.7,
        "Probability of ill": 0.3,
        "Operating point for ill": 0.22,
    }
    told = [(e.name.meaning, e.value.meaning) for e in group.get_qualitative_evaluations()]
    assert told == [
        ("Class at the operating point", "ill"),
        ("Caution", "unlike anything seen"),
    ]
    assert len(group.source_images) == 5


def test_a_report_tells_volumes_of_the_segments_it_names(axial, written):
    report = highdicom.sr.srread(written["volumes"])
    groups = report.content.get_volumetric_roi_measurement_groups()
    voxel = abs(np.linalg.det(axial.truth.affine[:3, :3])) / 1000
    seg = str(dcmread(written["seg"]).SOPInstanceUID)
    for number, group in enumerate(groups, start=1):
        (volume,) = group.get_measurements()
        assert volume.unit.value == "mL"
        assert volume.value == pytest.approx((axial.mask == number).sum() * voxel, rel=1e-5)
        named = group.referenced_segment[0].ReferencedSOPSequence[0]
        assert named.ReferencedSOPInstanceUID == seg
        assert named.ReferencedSegmentNumber == number
    assert len(groups) == 2


def test_a_region_has_a_volume_and_no_segment_of_its_own(axial, tmp_path):
    row = axial.volumes()
    both = sum(row.measures.values())
    row = replace(row, measures={"WT ml": both, **row.measures})
    made = write_dicom(tmp_path, row, axial.images, axial.maker(), mask=axial.mask)
    content = highdicom.sr.srread(made.sr).content
    assert len(content.get_volumetric_roi_measurement_groups()) == 2
    (group,) = content.get_image_measurement_groups()
    (volume,) = group.get_measurements()
    assert (group.finding_type.meaning, volume.unit.value) == ("WT", "mL")
    assert volume.value == pytest.approx(both, rel=1e-5)
    assert errors_of(made.sr) == []


@pytest.mark.parametrize(
    ("unit", "code", "meaning"), [("mm2", "mm2", "Area"), ("px", "{pixels}", "Area")]
)
def test_a_report_of_a_picture_tells_areas(axial, tmp_path, unit, code, meaning):
    row = replace(axial.volumes(), measures={f"ball {unit}": 12.5})
    made = write_dicom(tmp_path, row, axial.images, axial.maker(), mask=axial.mask)
    (group,) = highdicom.sr.srread(made.sr).content.get_volumetric_roi_measurement_groups()
    (area,) = group.get_measurements()
    assert (area.name.meaning, area.unit.value, area.value) == (meaning, code, 12.5)
    assert errors_of(made.sr) == []


def test_an_empty_mask_is_a_segmentation_too(axial, tmp_path):
    empty = np.zeros_like(axial.mask)
    row = replace(axial.volumes(), measures={"ball ml": 0.0, "cube ml": 0.0})
    made = write_dicom(tmp_path, row, axial.images, axial.maker(), mask=empty)
    assert not dcmread(made.seg).pixel_array.any()
    assert errors_of(made.seg) == errors_of(made.sr) == []


def test_a_case_that_is_no_dicom_has_a_report_that_names_no_image(axial, tmp_path):
    case = replace(axial.case, kind="nifti", study_key=None, accession_key=None, facts={})
    images = stand_ins(case, (), axial.home.names)
    made = write_dicom(tmp_path, axial.volumes(), images, axial.maker(), mask=axial.mask)
    assert made.seg is None
    assert made.why_no_seg == "the case did not come from DICOM"
    assert "CurrentRequestedProcedureEvidenceSequence" not in dcmread(made.sr)
    assert errors_of(made.sr) == []


def test_a_mask_on_another_grid_is_no_segmentation(axial, tmp_path):
    made = write_dicom(tmp_path, axial.volumes(), axial.images, axial.maker(), mask=axial.mask[:-1])
    assert made.seg is None
    assert made.why_no_seg == "the mask has 4 slices and the series 5 images"
    assert made.sr.exists()


def test_a_number_stands_in_the_report_with_its_unit(axial, tmp_path):
    facts = replace(CLASSIFICATION, task="regression", classes=(), threshold=None, unit="mo")
    row = replace(axial.answer(), label=None, score=None, probabilities={})
    row = replace(row, measures={"bone_age (mo)": 123.456789})
    made = write_dicom(tmp_path, row, axial.images, axial.maker(facts))
    report = highdicom.sr.srread(made.sr)
    (group,) = report.content.get_image_measurement_groups()
    (number,) = group.get_measurements()
    assert (number.name.meaning, number.value) == ("bone_age", 123.457)
    assert (number.unit.value, number.unit.scheme_designator) == ("mo", "UCUM")
    assert not errors_of(made.sr)
