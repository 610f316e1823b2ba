"""The export command on a small archive: every volume, tilted ones on request, nnU-Net."""

import json
import shutil

import nibabel
import numpy as np
import pytest
from pydicom import dcmread

from flows.home import Home
from flows.settings import load_settings
from tasks.archive.catalog import cases
from tasks.archive.intake import ingest
from tasks.archive.sources import resolve_source
from tasks.phantom.ct import write_ct_series


def take_in(fresh, folder):
    home = Home(load_settings(fresh.home))
    report = ingest(resolve_source(str(folder)), home.catalog, home.vault, home.names)
    assert report.accounted == report.seen
    found = [case for kind in ("dicom", "nifti") for case in cases(home.catalog, kind=kind)]
    home.catalog.dispose()
    home.vault.dispose()
    return found


@pytest.fixture
def archive(fresh):
    """A plain CT, a tilted one, and an MR of two echoes."""
    root = fresh.folder / "archive"
    write_ct_series(root / "plain", seed=1)
    write_ct_series(root / "tilted", seed=2, tilt_deg=10)
    write_ct_series(root / "echoes", seed=3, modality="MR", volumes=2)
    seen = set()
    for path in sorted((root / "echoes").iterdir()):
        dataset = dcmread(path)
        height = float(dataset.ImagePositionPatient[2])
        dataset.EchoTime = "40" if height in seen else "15"
        dataset.RepetitionTime = "2500"
        seen.add(height)
        dataset.save_as(path)
    return take_in(fresh, root)


def test_every_volume_is_written_and_the_tilted_one_only_on_request(fresh, archive):
    assert len(archive) == 3
    mr = next(case for case in archive if case.facts["modality"] == "MR")
    ran = fresh.radloop("export", "--to", "nifti", "--out", fresh.folder / "out").ok()
    assert ran.out.startswith("2 series written")
    assert "as 3 volumes, 1 refused" in ran.out
    assert "gantry_tilt" in ran.err
    names = sorted(path.name for path in (fresh.folder / "out").glob(f"{mr.series_key}*.json"))
    assert names == [f"{mr.series_key}_te=15.json", f"{mr.series_key}_te=40.json"]
    late = json.loads((fresh.folder / "out" / names[1]).read_text())
    assert (late["EchoTime"], late["RepetitionTime"], late["volume"]) == (0.04, 2.5, "te=40")
    assert late["certificate"]["verdict"] == "accept"
    ran = fresh.radloop(
        "export", "--to", "nifti", "--straighten", "--out", fresh.folder / "upright"
    ).ok()
    assert "as 4 volumes, 0 refused" in ran.out


def test_decathlon_cases_become_an_nnunet_data_set_with_their_masks(fresh, shared_data):
    source = shared_data / "hippocampus"
    folder = fresh.folder / "brains"
    index = json.loads((source / "dataset.json").read_text())
    index["training"] = index["training"][:2]
    index["test"] = []
    for side, key in (("imagesTr", "image"), ("labelsTr", "label")):
        (folder / side).mkdir(parents=True)
        for pair in index["training"]:
            shutil.copyfile(source / pair[key], folder / pair[key])
    (folder / "dataset.json").write_text(json.dumps(index))
    (first, _) = take_in(fresh, folder)
    fresh.radloop("export", "--to", "nnunet", "--out", fresh.folder / "out").ok()
    made = fresh.folder / "out" / "Dataset001_radloop"
    described = json.loads((made / "dataset.json").read_text())
    assert described["numTraining"] == 2
    assert described["labels"] == {"background": 0, "label_1": 1, "label_2": 2}
    image = nibabel.load(made / "imagesTr" / f"{first.series_key}_0000.nii.gz")
    label = nibabel.load(made / "labelsTr" / f"{first.series_key}.nii.gz")
    assert image.shape == label.shape
    np.testing.assert_array_equal(image.affine, label.affine)
    assert set(np.unique(np.asarray(label.dataobj))) == {0, 1, 2}
