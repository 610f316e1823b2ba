"""Results get their patients back only when they are about these very images."""

import argparse
import json
import re
import shutil

import pytest
from pydicom import dcmread

from flows.commands.bring_home import bring_home
from tasks.archive.audit import verify_audit
from tasks.errors import RadloopError
from tasks.serve.dicom_out import write_dicom
from tests.serve.dicom_cases import ACCESSION, NAME, PATIENT, errors_of, judged
from tests.serve.test_dicom_findings import DETECTION, FOUND, in_space, row_of


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return judged(tmp_path_factory.mktemp("one"))


@pytest.fixture
def results(one, tmp_path):
    """What a prediction of the case left."""
    write_dicom(
        tmp_path / "results" / "dicom",
        one.volumes(),
        one.images,
        one.maker(),
        mask=one.mask,
    )
    return tmp_path / "results"


def export(one, results, out, **more):
    asked = {"to": "dicom", "results": results, "out": out, "source": "scans"}
    asked |= {"home": one.home.settings.home, "verbose": True, **more}
    if asked["source"] == "scans":
        asked["source"] = str(one.truth.folder)
    return bring_home(argparse.Namespace(**asked))


def last_line(one):
    path = one.home.settings.audit_path
    assert verify_audit(path) == []
    return json.loads(path.read_text().splitlines()[-1])


def alter(results, kind, **elements):
    (path,) = (results / "dicom").glob(f"*_{kind}.dcm")
    dataset = dcmread(path)
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.save_as(path)


def test_a_result_is_its_patients_again(one, results, tmp_path, capsys):
    assert export(one, results, tmp_path / "home") == 0
    assert "2 results of 1 cases" in capsys.readouterr().out
    originals = {}
    for path in one.truth.folder.iterdir():
        dataset = dcmread(path)
        originals[str(dataset.SOPInstanceUID)] = dataset
    original = next(iter(originals.values()))
    found = {}
    for path in (tmp_path / "home").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        dataset = dcmread(path)
        assert path.stem == dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID
        found[dataset.Modality] = dataset
        assert errors_of(path) == []
    assert set(found) == {"SEG", "SR"}
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
    for dataset in found.values():
        assert str(dataset.PatientName) == NAME
        assert (dataset.PatientID, dataset.PatientSex) == (f"{PATIENT}-0", "F")
        assert dataset.AccessionNumber == f"{ACCESSION}0"
        for name in ("StudyInstanceUID", "StudyDate", "PatientBirthDate", "StudyTime"):
            assert dataset[name].value == original[name].value
        assert "PatientIdentityRemoved" not in dataset
        assert dataset.SeriesDescription.startswith("RESEARCH USE ONLY")
    seg, report = found["SEG"], found["SR"]
    assert seg.FrameOfReferenceUID == original.FrameOfReferenceUID
    for frame in seg.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        place = originals[source.ReferencedSOPInstanceUID].ImagePositionPatient
        assert frame.PlanePositionSequence[0].ImagePositionPatient == pytest.approx(place)
    named = {
        item.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert named == {*originals, seg.SOPInstanceUID}
    for path in (results / "dicom").iterdir():
        # Two objects, two names of everything: the pseudonymous one does not lead to the patient.
        text = "".join(dataset.to_json() for dataset in found.values())
        pseudonymous = dcmread(path).to_json()
        made = {*re.findall(r"2\.25\.\d+", pseudonymous)}
        assert len(made) > 5
        assert not {uid for uid in made if uid in text}
        assert one.case.patient_key not in text
        assert one.case.case_id in pseudonymous
        assert one.case.case_id not in text
    # A report still names the segments, and both call a finding alike.
    tracked = {item.TrackingUID for item in seg.SegmentSequence}
    assert tracked <= {*re.findall(r"2\.25\.\d+", report.to_json())}
    line = last_line(one)
    assert (line["event"], line["ids"]["case"]) == ("reidentify", one.case.case_id)
    log = one.home.settings.audit_path.read_text()
    assert not any(token in log for token in (PATIENT, ACCESSION, "Zqvogel"))


@pytest.mark.parametrize(
    ("kind", "elements", "reason"),
    [
        ("seg", {"PatientID": "0" * 32}, "other_patient"),
        ("sr", {"PatientSex": "M"}, "other_sex"),
        ("seg", {"PatientSex": ""}, "other_sex"),
        ("sr", {"AccessionNumber": "0" * 16}, "other_accession"),
        ("seg", {"StudyInstanceUID": "2.25.1"}, "other_study"),
        ("seg", {"FrameOfReferenceUID": "2.25.1"}, "other_images"),
        ("sr", {"SeriesNumber": 3}, "not_a_result"),
    ],
)
def test_what_is_not_about_these_images_is_refused(
    one, results, tmp_path, capsys, kind, elements, reason
):
    alter(results, kind, **elements)
    assert export(one, results, tmp_path / "home") == 1
    # Not the other result of the case either: who swapped one may have swapped both.
    assert list((tmp_path / "home").iterdir()) == []
    assert f"refused, {reason}" in capsys.readouterr().err
    line = last_line(one)
    assert line["event"] == "reidentify_refused"
    assert line["ids"] == {"case": one.case.case_id, "reason": reason}


def test_a_result_under_another_cases_name_is_refused(one, results, tmp_path, capsys):
    other = judged(tmp_path / "other", seed=1)
    folder = tmp_path / "swapped" / "dicom"
    folder.mkdir(parents=True)
    for path in (results / "dicom").iterdir():
        kind = path.name.partition("_")[2]
        shutil.copyfile(path, folder / f"{other.case.case_id}_{kind}")
    assert export(other, tmp_path / "swapped", tmp_path / "home") == 1
    assert "refused, other_patient" in capsys.readouterr().err
    assert list((tmp_path / "home").iterdir()) == []


def test_images_that_changed_since_are_other_images(tmp_path, capsys):
    one = judged(tmp_path / "one")
    folder = tmp_path / "results"
    write_dicom(folder / "dicom", one.volumes(), one.images, one.maker(), mask=one.mask)
    first = sorted(one.truth.folder.iterdir())[0]
    dataset = dcmread(first)
    dataset.PatientName = "Zqandere^Person"
    dataset.save_as(first)
    assert export(one, folder, tmp_path / "home") == 1
    assert "refused, " in capsys.readouterr().err
    assert list((tmp_path / "home").iterdir()) == []


def test_without_results_or_source_it_says_what_is_missing(one, tmp_path):
    with pytest.raises(RadloopError, match="--results DIR"):
        export(one, None, tmp_path / "home")
    with pytest.raises(RadloopError, match="holds no DICOM results"):
        export(one, tmp_path, tmp_path / "home")


def test_names_are_not_written_among_pseudonyms_nor_where_others_read(one, results, tmp_path):
    for place in (one.home.settings.home / "out", results, results / "dicom" / "named"):
        with pytest.raises(RadloopError, match="where all are pseudonyms"):
            export(one, results, place)
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    with pytest.raises(RadloopError, match=r"open to others .*chmod 700"):
        export(one, results, shared)
    assert list(shared.iterdir()) == []
    shared.chmod(0o700)
    assert export(one, results, shared) == 0
    assert len(list(shared.iterdir())) == 2


def test_boxes_of_findings_point_at_the_original_images(one, tmp_path):
    write_dicom(tmp_path / "r" / "dicom", row_of(one), one.images, one.maker(DETECTION))
    assert export(one, tmp_path / "r", tmp_path / "home") == 0
    (path,) = (tmp_path / "home").iterdir()
    assert errors_of(path) == []
    originals = [dcmread(p) for p in one.truth.folder.iterdir()]
    height = {d.SOPInstanceUID: d.ImagePositionPatient[2] for d in originals}
    shown = in_space(path)
    assert len(shown) == 2
    for group, box in zip(shown, FOUND.box, strict=False):
        assert group.roi.frame_of_reference_uid == originals[0].FrameOfReferenceUID
        named = [
            item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            for item in group.roi.source_images_for_segmentation
        ]
        slices = range(int(box[0, 0] + 0.5), int(box[1, 0] + 0.5))
        wanted = [one.truth.affine[2] @ [at, 0, 0, 1] for at in slices]
        assert [height[uid] for uid in named] == pytest.approx(wanted)


def test_a_finding_in_the_space_of_another_series_is_refused(one, tmp_path, capsys):
    folder = tmp_path / "r"
    made = write_dicom(folder / "dicom", row_of(one), one.images, one.maker(DETECTION))
    dataset = dcmread(made.sr)
    changed = 0
    for _, item in walk(dataset):
        if "ReferencedFrameOfReferenceUID" in item:
            item.ReferencedFrameOfReferenceUID = "2.25.1"
            changed += 1
    assert changed == 12
    dataset.save_as(made.sr)
    assert export(one, folder, tmp_path / "home") == 1
    assert "refused, other_images" in capsys.readouterr().err


def walk(dataset):
    """Yield every item at any depth, and in which sequence it is."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield element.tag, item
                yield from walk(item)
