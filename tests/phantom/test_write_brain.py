"""Brain studies are valid DICOM of four series, and folders as BraTS has them on request."""

import csv

import highdicom as hd
import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread

from tasks.archive.nifti import read_mask
from tasks.archive.sources import FileRef
from tasks.archive.volume import read_volume
from tasks.phantom.head import SEQUENCES
from tasks.phantom.write import MARK
from tasks.phantom.write_brain import write_brain_archive

SMALL = {"shape": (24, 48, 40), "spacing": (6.0, 4.0, 4.5), "difficulty": "easy"}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    root = tmp_path_factory.mktemp("brains")
    write_brain_archive(root, patients=3, seed=4, **SMALL)
    return root


def studies(root):
    found = sorted({path.parent for path in (root / "dicom").rglob("*.dcm")})
    assert found
    return found


def volume_of(folder, sequence):
    files = sorted(folder.glob(f"{sequence.upper()}*.dcm"))
    return read_volume("dicom", [FileRef(str(p), None, "", p.stat().st_size) for p in files])


def test_same_seed_same_bytes(archive, tmp_path):
    write_brain_archive(tmp_path, patients=1, seed=4, **SMALL)
    files = [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".csv"]
    assert len(files) == 4 * 24 + 2
    for path in files:
        assert path.read_bytes() == (archive / path.relative_to(tmp_path)).read_bytes(), path.name


def test_several_processes_write_the_same_bytes(tmp_path):
    coarse = {"patients": 8, "seed": 4, "shape": (8, 16, 16), "spacing": (18.0, 12.0, 12.0)}
    alone = write_brain_archive(tmp_path / "alone", **coarse)
    together = write_brain_archive(tmp_path / "together", processes=2, **coarse)
    assert together.read_bytes() == alone.read_bytes()
    files = [p.relative_to(tmp_path / "alone") for p in (tmp_path / "alone").rglob("*.dcm")]
    assert len(files) > 8 * 4 * 8
    for path in files:
        ours, theirs = ((tmp_path / at / path).read_bytes() for at in ("alone", "together"))
        assert ours == theirs, path


def test_a_study_is_four_series_on_one_grid_with_its_mask(archive):
    for folder in studies(archive):
        volumes = [volume_of(folder, sequence) for sequence in SEQUENCES]
        heads = [
            dcmread(folder / f"{s.upper()}0000.dcm", stop_before_pixels=True) for s in SEQUENCES
        ]
        assert len({h.SeriesInstanceUID for h in heads}) == 4
        assert len({h.StudyInstanceUID for h in heads}) == 1
        assert all(h.PatientID.startswith(MARK) for h in heads)
        assert [hasattr(h, "ContrastBolusAgent") for h in heads] == [False, True, False, False]
        for volume in volumes:
            assert volume.array.shape == SMALL["shape"]
            np.testing.assert_allclose(volume.affine, volumes[0].affine)
        path = archive / "truth" / "masks" / f"{folder.name}.nii.gz"
        mask = read_mask(FileRef(str(path), None, "", path.stat().st_size), volumes[1])
        flair = volumes[3].array
        assert np.median(flair[mask == 2]) > 1.15 * np.median(flair[(flair > flair.mean())])
        seg = hd.seg.segread(archive / "truth" / "seg" / f"{folder.name}.dcm")
        planes = seg.get_volume(combine_segments=True, skip_overlap_checks=True)
        assert (planes.array > 0).sum() == (mask > 0).sum()


def test_volumes_of_the_regions_are_in_the_table(archive):
    with (archive / "truth" / "labels.csv").open(encoding="utf-8") as stream:
        rows = {row["accession_number"]: row for row in csv.DictReader(stream)}
    for folder in studies(archive):
        path = archive / "truth" / "masks" / f"{folder.name}.nii.gz"
        whole = (np.asarray(nib.load(path).dataobj) > 0).sum() * np.prod(SMALL["spacing"]) / 1000
        assert float(rows[folder.name]["wt_ml"]) == pytest.approx(whole, abs=0.01)


@pytest.mark.parametrize(
    ("layout", "case", "names", "values"),
    [
        ("brats2023", "BraTS-GLI-00000-000", "-t1n -t1c -t2w -t2f -seg", {1, 2, 3}),
        ("brats2021", "BraTS2021_00000", "_t1 _t1ce _t2 _flair _seg", {1, 2, 4}),
    ],
)
def test_brats_folders_have_their_names_and_values(tmp_path, layout, case, names, values):
    write_brain_archive(tmp_path, patients=2, seed=4, layout=layout, **SMALL)
    folder = tmp_path / case
    assert {p.name for p in folder.iterdir()} == {f"{case}{n}.nii.gz" for n in names.split()}
    found = set()
    for mask in tmp_path.rglob("*seg.nii.gz"):
        found |= {int(v) for v in np.unique(np.asarray(nib.load(mask).dataobj)) if v}
    assert found == values
    assert "no patient" in (tmp_path / "SYNTHETIC.txt").read_text()


def test_an_unknown_layout_is_named(tmp_path):
    with pytest.raises(ValueError, match="brats2023"):
        write_brain_archive(tmp_path, patients=1, seed=1, layout="nifti")
