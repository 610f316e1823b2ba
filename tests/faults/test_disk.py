"""A disk that is full or read-only: one sentence, nothing half done, and the next run goes on."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from tasks.archive.catalog import open_catalog
from tasks.archive.commits import all_parts, commit_part, pending_cases
from tasks.errors import StoreError
from tasks.store.read import open_part
from tasks.store.verify import committed_parts, verify_part
from tasks.store.write import PartRecord
from tests.faults.commit_program import CASES as COMMITTED
from tests.faults.commit_program import prepare_catalog, row_of
from tests.store.making import FIXED, RECIPE, case_name, prepared, write

CASES = 4
STEP = 16 << 10
"""Sizes of the disk differ by so much: it fills up while cases are staged, while the group is
assembled and while the manifest is written."""

AMPLE = "64m"
LAYOUTS = pytest.mark.parametrize("fixed", [None, FIXED], ids=["cases", "packed"])


@pytest.fixture
def disk(tmp_path) -> Iterator[Callable[..., Path]]:
    """Small file systems in memory; needs root and the right to mount."""
    mounted = []

    def mount(size: int | str) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here ({done.stderr.strip()}): needs root")
        mounted.append(place)
        return place

    if os.geteuid():
        pytest.skip("mounting a small file system needs root: no disk is filled")
    yield mount
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


def attempt(root: Path, fixed, produce) -> PartRecord | StoreError:
    try:
        return write(root, CASES, fixed, produce)
    except StoreError as error:
        return error


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


@LAYOUTS
def test_a_disk_that_fills_up_at_any_moment_commits_nothing_and_the_next_run_goes_on(
    disk, tmp_path, fixed
):
    calm = write(tmp_path / "calm", CASES, fixed).digest
    full = 0
    for number in range(1, 100):
        place, made = disk(number * STEP), []

        def produce(case_id: str, made: list = made):
            made.append(case_id)
            return prepared(case_id, fixed)

        end = attempt(place / "store", fixed, produce)
        if not isinstance(end, StoreError):
            assert end.digest == calm
            break
        full += 1
        assert "No space left on device" in str(end)
        assert "free space on its disk" in str(end)
        assert str(place) not in str(end)
        assert committed_parts(str(place / "store")) == ()
        remount(place, f"size={AMPLE}")
        record = write(place / "store", CASES, fixed, produce)
        assert record.digest == calm
        assert verify_part(str(place / "store"), record.path, calm) == ()
        # One case was in the making when the disk was full.
        assert len(made) <= CASES + 1
    else:
        pytest.fail("no disk was large enough")
    assert full > 3


def test_a_catalog_whose_disk_is_full_gets_no_row_and_later_the_whole_one(disk, tmp_path):
    place = disk("2m")
    prepare_catalog(place / "catalog.db")
    record = write(tmp_path / "store", COMMITTED, FIXED)
    catalog = open_catalog(f"sqlite:///{place / 'catalog.db'}")
    _fill(place / "filler")
    with pytest.raises(OperationalError, match=r"full|I/O"):
        commit_part(catalog, row_of(record))
    assert all_parts(catalog) == []
    assert len(pending_cases(catalog, RECIPE)) == COMMITTED
    (place / "filler").unlink()
    commit_part(catalog, row_of(record))
    (row,) = all_parts(catalog)
    assert row.digest == record.digest
    assert pending_cases(catalog, RECIPE) == []
    catalog.dispose()


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as stream:
        for size in (4096, 1):
            try:
                while stream.write(bytes(size)):
                    pass
            except OSError:
                continue


@LAYOUTS
def test_a_read_only_store_is_read_and_verified_and_refuses_a_part_with_its_remedy(disk, fixed):
    place = disk(AMPLE)
    root = place / "store"
    record = write(root, CASES, fixed)
    remount(place, "ro")
    assert verify_part(str(root), record.path, record.digest) == ()
    part = open_part(str(root), record.path, record.digest)
    for case_id in part.case_ids:
        assert (part.read(case_id) == prepared(case_id, fixed).array).all()
    with pytest.raises(StoreError, match=r"Read-only.*mount the store for writing") as refusal:
        write(root, CASES + 1, fixed)
    assert str(place) not in str(refusal.value)
    remount(place, "rw")
    assert committed_parts(str(root)) == (record.path,)
    assert write(root, CASES + 1, fixed).case_ids == tuple(map(case_name, range(CASES + 1)))
