"""Slices that come late make a new version of their series; what was made of the old one stays."""

import hashlib
from pathlib import Path

import pytest

from tasks.archive.catalog import cases, locators_of, status
from tasks.archive.commits import (
    PartRow,
    all_parts,
    commit_part,
    part_of_case,
    pending_cases,
    put_recipe,
    want_cases,
)
from tasks.archive.trace import trace
from tasks.archive.vault import open_vault
from tasks.archive.vault_files import file_refs
from tasks.archive.volume import read_volume
from tasks.errors import BadCase
from tasks.phantom.ct import write_ct_series
from tests.archive.test_intake import Loop

RECIPE = hashlib.sha256(b"recipe").hexdigest()[:32]


def part_of(case_id):
    name = hashlib.sha256(case_id.encode()).hexdigest()[:32]
    return PartRow(name, "image", RECIPE, None, None, f"parts/{name}.zarr", (case_id,), 9, "0" * 64)


def volume_of(loop, case):
    refs = file_refs(loop.vault, locators_of(loop.catalog, case.case_id))
    return read_volume("dicom", list(refs.values()))


def test_the_old_part_stays_and_the_new_version_is_work(sqlite_catalog, tmp_path):
    root, late = tmp_path / "archive", tmp_path / "late"
    late.mkdir()
    truth = write_ct_series(root, shape=(8, 16, 20))
    by_height = sorted(root.glob("*.dcm"), key=lambda path: _height(path))
    for path in by_height[5:]:
        path.rename(late / path.name)
    loop = Loop(sqlite_catalog, open_vault(f"sqlite:///{tmp_path}/vault.db"), root)
    loop.take()
    (before,) = cases(sqlite_catalog, kind="dicom")
    assert volume_of(loop, before).array.shape == (5, 16, 20)
    put_recipe(sqlite_catalog, RECIPE, "chest", {"steps": []}, "0" * 32)
    want_cases(sqlite_catalog, RECIPE, [before.case_id])
    commit_part(sqlite_catalog, part_of(before.case_id))

    for path in late.iterdir():
        path.rename(root / path.name)
    assert loop.take().series_changed == 1
    (after,) = cases(sqlite_catalog, kind="dicom")
    assert (after.series_key, after.n_instances) == (before.series_key, 8)
    assert after.case_id != before.case_id
    assert volume_of(loop, after).array.shape == truth.array.shape
    assert [row.case_ids for row in all_parts(sqlite_catalog)] == [(before.case_id,)]
    assert part_of_case(sqlite_catalog, RECIPE, [before.case_id])
    assert [found.kind for found in trace(sqlite_catalog, before.case_id)]
    want_cases(sqlite_catalog, RECIPE, [after.case_id])
    assert pending_cases(sqlite_catalog, RECIPE) == [after.case_id]
    assert status(sqlite_catalog)["parts"] == 1


def test_a_series_that_arrives_in_the_middle_of_its_transfer_is_a_gap_until_it_is_whole(
    sqlite_catalog, tmp_path
):
    root, late = tmp_path / "archive", tmp_path / "late"
    late.mkdir()
    write_ct_series(root, shape=(8, 16, 20))
    middle = sorted(root.glob("*.dcm"), key=lambda path: _height(path))[4]
    middle.rename(late / middle.name)
    loop = Loop(sqlite_catalog, open_vault(f"sqlite:///{tmp_path}/vault.db"), root)
    loop.take()
    (case,) = cases(sqlite_catalog, kind="dicom")
    with pytest.raises(BadCase, match="1 slices lack in 1 gaps of 7 slices"):
        volume_of(loop, case)
    (late / middle.name).rename(root / middle.name)
    loop.take()
    (case,) = cases(sqlite_catalog, kind="dicom")
    assert volume_of(loop, case).array.shape == (8, 16, 20)


def _height(path: Path) -> float:
    from pydicom import dcmread

    return float(dcmread(path).ImagePositionPatient[2])
