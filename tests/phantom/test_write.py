"""The synthetic archive is valid DICOM, the same for the same seed, and broken where asked."""

import csv
import hashlib

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from tasks.archive.sources import FileRef
from tasks.archive.volume import read_volume
from tasks.errors import BadCase
from tasks.phantom.limb import render
from tasks.phantom.write import CLASSES, MARK, draw_studies, write_limb_archive

PATIENTS, SEED = 24, 5


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    root = tmp_path_factory.mktemp("limbs")
    write_limb_archive(root, patients=PATIENTS, seed=SEED, broken=5)
    return root


def digests(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def volume_of(path):
    return read_volume("dicom", [FileRef(str(path), None, "", path.stat().st_size)])


def rows(root):
    with (root / "labels.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_same_seed_same_bytes(archive, tmp_path):
    write_limb_archive(tmp_path, patients=PATIENTS, seed=SEED, broken=5)
    assert digests(tmp_path) == digests(archive)


def test_more_patients_only_add_files(archive, tmp_path):
    write_limb_archive(tmp_path, patients=PATIENTS - 14, seed=SEED)
    smaller, larger = digests(tmp_path), digests(archive)
    del smaller["labels.csv"]
    assert smaller.items() <= larger.items()


def test_another_seed_has_other_patients(archive, tmp_path):
    write_limb_archive(tmp_path, patients=3, seed=SEED + 1)
    assert not {r["patient_id"] for r in rows(tmp_path)} & {r["patient_id"] for r in rows(archive)}


def test_labels_name_every_study_and_both_classes(archive):
    labelled = rows(archive)
    assert list(labelled[0]) == ["accession_number", "patient_id", "target"]
    assert {row["target"] for row in labelled} == set(CLASSES)
    folders = {path.parent.name for path in archive.rglob("IM0000.dcm")}
    assert {row["accession_number"] for row in labelled} == folders
    assert len({row["accession_number"] for row in labelled}) == len(labelled)


def test_identities_are_synthetic_and_easy_to_search_for(archive):
    for study in (s for patient in range(PATIENTS) for s in draw_studies(SEED, patient)):
        path = archive / study.folder / "IM0000.dcm"
        dataset = dcmread(path, stop_before_pixels=True)
        for name in ("PatientName", "PatientID", "AccessionNumber", "InstitutionName"):
            assert MARK in str(dataset[name].value)
        assert len(dataset.AccessionNumber) <= 16
        assert "SYNTHETIC" in dataset.SeriesDescription
        assert path.parent.parent.parent.name == dataset.StudyDate[:4]
        assert path.parent.parent.name == dataset.StudyDate[4:6]
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID


def test_vendors_syntaxes_polarities_and_views_vary(archive):
    kinds = [
        (d.Manufacturer, d.Modality, d.file_meta.TransferSyntaxUID, d.ViewPosition,
         d.PhotometricInterpretation)
        for patient in range(PATIENTS)
        for s in draw_studies(SEED, patient)
        for d in [dcmread(archive / s.folder / "IM0000.dcm", stop_before_pixels=True)]
    ]  # fmt: skip
    counts = [len(set(column)) for column in zip(*kinds, strict=True)]
    assert counts == [5, 2, 5, 2, 2]


def test_every_picture_reads_back_as_it_was_drawn(archive):
    for study in (s for patient in range(PATIENTS) for s in draw_studies(SEED, patient)):
        volume = volume_of(archive / study.folder / "IM0000.dcm")
        drawn = render(study.anatomy, study.shot)
        # The window spans all grey values, so that only its rounding to floats remains.
        np.testing.assert_allclose(volume.array[0], drawn, atol=0.51)
        assert volume.facts["spacing"] == "ImagerPixelSpacing"


def test_broken_files_are_broken_each_in_its_way(archive):
    paths = [archive / draw_studies(SEED, 90000 + i)[0].folder / "IM0000.dcm" for i in range(5)]
    cut, text, nameless, twice, short = paths
    with pytest.raises(BadCase):
        volume_of(cut)
    with pytest.raises(InvalidDicomError):
        dcmread(text)
    assert "SOPInstanceUID" not in dcmread(nameless)
    assert twice.read_bytes() == twice.with_name("IM0001.dcm").read_bytes()
    with pytest.raises(BadCase, match="truncated"):
        volume_of(short)
