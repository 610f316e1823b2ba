"""The archive of chest CTs is valid DICOM, and its truth lies where the images say."""

import csv

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread

from tasks.archive.nifti import read_mask
from tasks.archive.sources import FileRef
from tasks.archive.volume import read_volume
from tasks.phantom.scanner import SCANNERS
from tasks.phantom.write import MARK
from tasks.phantom.write_chest import write_chest_archive

SMALL = {"shape": (16, 64, 64), "spacing": (5.0, 5.0, 5.0)}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    root = tmp_path_factory.mktemp("chests")
    write_chest_archive(root, patients=6, seed=9, **SMALL)
    return root


def rows(root, name):
    with (root / "truth" / f"{name}.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def series(root):
    found = sorted({path.parent for path in (root / "dicom").rglob("*.dcm")})
    assert found
    return found


def volume_of(folder):
    refs = [FileRef(str(p), None, "", p.stat().st_size) for p in sorted(folder.iterdir())]
    return read_volume("dicom", refs)


def test_same_seed_same_bytes_and_more_patients_only_add(archive, tmp_path):
    write_chest_archive(tmp_path, patients=2, seed=9, **SMALL)
    files = [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".csv"]
    assert len(files) > 30
    for path in files:
        assert path.read_bytes() == (archive / path.relative_to(tmp_path)).read_bytes(), path.name


def test_volumes_read_back_in_hu_with_their_spacing(archive):
    for folder in series(archive):
        volume = volume_of(folder)
        assert volume.array.shape == SMALL["shape"]
        steps = np.linalg.norm(volume.affine[:3, :3], axis=0)
        assert steps[0] == pytest.approx(5.0)
        assert min(abs(steps[1] / 5 - s.spacing) for s in SCANNERS) < 1e-6
        assert volume.array.min() == -1024
        assert volume.array.max() > 250


def test_truth_lies_on_the_images_grid_where_the_tables_say(archive):
    checked = 0
    marks = rows(archive, "annotations") + rows(archive, "annotations_excluded")
    for folder in series(archive):
        volume = volume_of(folder)
        mask_path = archive / "truth" / "masks" / f"{folder.name}.nii.gz"
        ref = FileRef(str(mask_path), None, "", mask_path.stat().st_size)
        mask = read_mask(ref, volume)
        uid = dcmread(next(folder.iterdir()), stop_before_pixels=True).SeriesInstanceUID
        for mark in (m for m in marks if m["seriesuid"] == uid):
            place = np.array([float(mark[c]) for c in ("coordX", "coordY", "coordZ")])
            index = np.linalg.solve(volume.affine[:3, :3], place - volume.affine[:3, 3])
            near = tuple(slice(max(0, round(i) - 1), round(i) + 2) for i in index)
            if float(mark["diameter_mm"]) > 8:
                assert mask[near].any()
                checked += 1
        seg_path = archive / "truth" / "seg" / f"{folder.name}.dcm"
        assert seg_path.exists() == bool(mask.any())
        if mask.any():
            seg = hd.seg.segread(seg_path)
            planes = seg.get_volume(combine_segments=True, skip_overlap_checks=True)
            box = np.argwhere(planes.array)
            world = planes.affine @ [*box.mean(0), 1]
            here = volume.affine @ [*np.argwhere(mask).mean(0), 1]
            np.testing.assert_allclose(world[:3], here[:3], atol=0.1)
            assert len(box) == (mask > 0).sum()
    assert checked > 2


def test_readers_are_rows_and_agreement_sorts_the_annotations(archive):
    readers = rows(archive, "readers")
    for row in readers:
        assert all(1 <= int(row[c]) <= 5 for c in ("subtlety", "malignancy", "texture"))
    by_nodule = {}
    for row in readers:
        by_nodule.setdefault((row["series_uid"], row["nodule"]), []).append(row)
    agreed = sum(len(marks) >= 3 for marks in by_nodule.values())
    assert agreed == len(rows(archive, "annotations"))
    assert len(by_nodule) - agreed == len(rows(archive, "annotations_excluded"))
    counted = sum(int(row["nodules"]) for row in rows(archive, "labels"))
    assert counted == len(by_nodule)


def test_headers_say_that_nobody_was_scanned(archive):
    makes = set()
    for folder in series(archive):
        dataset = dcmread(next(folder.iterdir()), stop_before_pixels=True)
        assert dataset.PatientID.startswith(MARK)
        assert len(dataset.AccessionNumber) == 16
        assert "SYNTHETIC" in dataset.SeriesDescription
        makes.add((dataset.Manufacturer, dataset.ConvolutionKernel))
    assert len(makes) > 2
