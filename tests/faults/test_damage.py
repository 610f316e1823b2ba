"""What was written and then changed: found on read or by verify, and never other voxels."""

import random
import shutil
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tasks.errors import StoreError
from tasks.store.read import open_part
from tasks.store.verify import verify_part
from tests.store.making import FIXED, case_name, prepared, write

FLIPS = 1000
"""Half of them in a part of each layout."""

CUTS = 8
"""Lengths every file is cut to, beside none of it and all but a byte."""

CASES = 3
LAYOUTS = pytest.mark.parametrize("fixed", [None, FIXED], ids=["cases", "packed"])


@pytest.fixture(scope="module")
def draw() -> random.Random:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    return random.Random(seed)


def look(root: Path, path: str, digest: str, fixed) -> bool:
    """Read every voxel; return whether damage was reported, and fail where voxels differ."""
    found = False
    try:
        part = open_part(str(root), path, digest)
    except StoreError:
        return True
    for number in range(CASES):
        case_id = case_name(number)
        made = prepared(case_id, fixed)
        expected = {"": made.array, **made.masks}
        for name, voxels in expected.items():
            try:
                got = part.mask(case_id, name) if name else part.read(case_id)
            except StoreError:
                found = True
                continue
            assert np.array_equal(got, voxels), f"{name} of {case_id} silently differs"
    return found


def files_of(root: Path, path: str) -> list[Path]:
    found = sorted(file for file in (root / path).rglob("*") if file.is_file())
    assert len(found) > CASES, "nothing to damage"
    return found


def verify_finds(root: Path, path: str, digest: str) -> bool:
    return bool(verify_part(str(root), path, digest))


@pytest.mark.slow
@LAYOUTS
def test_each_of_1000_flipped_bits_is_found_and_none_gives_other_voxels(tmp_path, fixed, draw):
    record = write(tmp_path, CASES, fixed)
    files = files_of(tmp_path, record.path)
    sizes = [file.stat().st_size for file in files]
    on_read = 0
    # Half by size, as bits rot; half by file, so that the small ones are hit too.
    hits = draw.choices(files, sizes, k=FLIPS // 4) + draw.choices(files, k=FLIPS // 4)
    for file in hits:
        raw = file.read_bytes()
        bad = bytearray(raw)
        bad[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
        file.write_bytes(bad)
        on_read += look(tmp_path, record.path, record.digest, fixed)
        assert verify_finds(tmp_path, record.path, record.digest), file.relative_to(tmp_path)
        file.write_bytes(raw)
    assert verify_part(str(tmp_path), record.path, record.digest) == ()
    print(f"{on_read} of {len(hits)} found on read, all by verify")


@LAYOUTS
def test_one_flipped_bit_in_every_file_is_found(tmp_path, fixed, draw):
    record = write(tmp_path, CASES, fixed)
    for file in files_of(tmp_path, record.path):
        raw = file.read_bytes()
        bad = bytearray(raw)
        bad[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
        file.write_bytes(bad)
        found = look(tmp_path, record.path, record.digest, fixed)
        # Nobody reads metadata of the other groups, nor a packed mask's row of a case without it.
        assert found or file.name == "zarr.json" or "labels" in file.parts
        assert verify_finds(tmp_path, record.path, record.digest)
        file.write_bytes(raw)


@LAYOUTS
def test_a_committed_file_that_was_torn_is_found_at_every_length(tmp_path, fixed, draw):
    record = write(tmp_path, CASES, fixed)
    for file in files_of(tmp_path, record.path):
        raw = file.read_bytes()
        for kept in (0, len(raw) - 1, *(draw.randrange(len(raw)) for _ in range(CUTS))):
            file.write_bytes(raw[:kept])
            found = look(tmp_path, record.path, record.digest, fixed)
            # The other groups' metadata holds nothing that a voxel depends on.
            assert found or file.name == "zarr.json"
            assert verify_finds(tmp_path, record.path, record.digest)
        # A torn write may also leave zeros where the data has not come to the disk.
        file.write_bytes(raw[: len(raw) // 2] + bytes(len(raw) - len(raw) // 2))
        look(tmp_path, record.path, record.digest, fixed)
        assert verify_finds(tmp_path, record.path, record.digest)
        file.write_bytes(raw)


@LAYOUTS
def test_a_staged_file_that_was_torn_or_flipped_is_made_again(tmp_path, fixed, draw):
    calm = write(tmp_path / "calm", CASES, fixed).digest

    def stop_at_the_last(case_id: str):
        if case_id == case_name(CASES - 1):
            raise KeyboardInterrupt
        return prepared(case_id, fixed)

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "torn", CASES, fixed, stop_at_the_last)
    staged = [file for file in (tmp_path / "torn").rglob("*") if file.is_file()]
    staged = [file for file in staged if file.stat().st_size]
    assert staged
    for damage in _damages(draw):
        for file in staged:
            root = tmp_path / "again"
            shutil.copytree(tmp_path / "torn", root)
            damaged = root / file.relative_to(tmp_path / "torn")
            damaged.write_bytes(damage(damaged.read_bytes()))
            record = write(root, CASES, fixed)
            assert record.digest == calm
            assert record.resumed < CASES - 1
            assert verify_part(str(root), record.path, calm) == ()
            shutil.rmtree(root)


def _damages(draw: random.Random) -> list[Callable[[bytes], bytes]]:
    def flip(raw: bytes) -> bytes:
        bad = bytearray(raw)
        bad[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
        return bytes(bad)

    def cut(raw: bytes) -> bytes:
        return raw[: draw.randrange(len(raw))]

    def zeroed(raw: bytes) -> bytes:
        kept = draw.randrange(len(raw) // 2)
        return raw[:kept] + bytes(len(raw) - kept)

    return [lambda raw: b"", lambda raw: raw[:-1], zeroed, cut, cut, flip, flip]


@LAYOUTS
def test_each_file_that_is_missing_is_an_error_and_never_zeros(tmp_path, fixed):
    record = write(tmp_path, CASES, fixed)
    for file in files_of(tmp_path, record.path):
        raw = file.read_bytes()
        file.unlink()
        found = look(tmp_path, record.path, record.digest, fixed)
        assert found or file.name == "zarr.json"
        assert verify_finds(tmp_path, record.path, record.digest)
        file.write_bytes(raw)


@LAYOUTS
def test_any_two_files_that_were_exchanged_are_found_by_verify(tmp_path, fixed):
    record = write(tmp_path, CASES, fixed)
    for one, other in combinations(files_of(tmp_path, record.path), 2):
        first, second = one.read_bytes(), other.read_bytes()
        if first == second:
            continue
        one.write_bytes(second)
        other.write_bytes(first)
        assert verify_finds(tmp_path, record.path, record.digest), (one.name, other.name)
        one.write_bytes(first)
        other.write_bytes(second)
    assert verify_part(str(tmp_path), record.path, record.digest) == ()
