import json
import random
import shutil

import numpy as np
import pytest

from tasks.errors import StoreError
from tasks.store.read import open_part
from tasks.store.schema import MANIFEST
from tasks.store.verify import committed_parts, verify_part
from tests.store.making import FIXED, case_name, prepared, write

FLIPS = 60


@pytest.fixture(scope="module", params=[None, FIXED], ids=["cases", "packed"])
def good(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    return root, write(root, 3, request.param)


@pytest.fixture
def copy(good, tmp_path):
    root, record = good
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    return tmp_path, record


def shards(root, record):
    return sorted(p for p in (root / record.path).rglob("*") if p.is_file() and "c" in p.parts)


def read_all(root, record):
    part = open_part(str(root), record.path)
    masks = [
        part.mask(case_id, name) for case_id in part.case_ids for name in part.mask_names(case_id)
    ]
    return [part.read(case_id) for case_id in part.case_ids] + masks


def test_an_untouched_part_has_no_problem(good):
    root, record = good
    assert verify_part(str(root), record.path) == ()


def test_every_flipped_bit_is_found_on_read_and_by_verify(copy):
    root, record = copy
    draw = random.Random(1)
    path = shards(root, record)[0]
    raw = path.read_bytes()
    for _ in range(FLIPS):
        bad = bytearray(raw)
        bad[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
        path.write_bytes(bad)
        with pytest.raises(StoreError, match="damaged"):
            read_all(root, record)
    assert any("content differs" in problem for problem in verify_part(str(root), record.path))


def test_a_missing_shard_is_an_error_and_never_zeros(copy):
    root, record = copy
    shards(root, record)[0].unlink()
    with pytest.raises(StoreError, match="missing"):
        read_all(root, record)
    assert any("missing" in problem for problem in verify_part(str(root), record.path))


def test_a_chunk_missing_inside_a_shard_is_an_error(copy):
    """Rewrite the shard's index so that its first chunk is absent, checksum and all."""
    import google_crc32c

    root, record = copy
    path = shards(root, record)[0]
    meta = json.loads((path.parents[3 if "cases" in path.parts else 4] / "zarr.json").read_text())
    shard = meta["chunk_grid"]["configuration"]["chunk_shape"]
    inner = meta["codecs"][0]["configuration"]["chunk_shape"]
    size = 16 * int(np.prod([a // b for a, b in zip(shard, inner, strict=True)]))
    raw = path.read_bytes()
    index = b"\xff" * 16 + raw[-size - 4 + 16 : -4]
    crc = google_crc32c.value(index).to_bytes(4, "little")
    path.write_bytes(raw[: -size - 4] + index + crc)
    with pytest.raises(StoreError, match="missing"):
        read_all(root, record)


@pytest.mark.parametrize("kept", [0, 3, 100, -1])
def test_a_shard_cut_short_is_an_error(copy, kept):
    root, record = copy
    path = shards(root, record)[0]
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(StoreError):
        read_all(root, record)
    assert verify_part(str(root), record.path)


def test_swapped_shards_are_found_by_the_manifest(tmp_path):
    record = write(tmp_path, 2, None, lambda case_id: prepared(case_id, FIXED))
    first, second = (path for path in shards(tmp_path, record) if "labels" not in path.parts)
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)
    assert len(a) != len(b)
    with pytest.raises(StoreError, match="damaged"):
        read_all(tmp_path, record)  # only the size gives it away: each chunk is whole
    problems = verify_part(str(tmp_path), record.path)
    assert sum("the manifest" in problem for problem in problems) == 2
    assert sum("is damaged" in problem for problem in problems) == 2


def test_chunks_swapped_inside_a_shard_are_found(tmp_path):
    import google_crc32c

    record = write(tmp_path, 2, FIXED)
    path = shards(tmp_path, record)[0]
    meta = json.loads((tmp_path / record.path / "voxels" / "0" / "zarr.json").read_text())
    size = 16 * meta["chunk_grid"]["configuration"]["chunk_shape"][0]
    raw = path.read_bytes()
    index = raw[-size - 4 : -4]
    index = index[16:32] + index[:16] + index[32:]
    path.write_bytes(raw[: -size - 4] + index + google_crc32c.value(index).to_bytes(4, "little"))
    read_all(tmp_path, record)  # no checksum can see it
    problems = verify_part(str(tmp_path), record.path)
    assert sum("voxels differ" in problem for problem in problems) == 2


def test_changed_metadata_is_found_on_read_and_by_verify(copy):
    root, record = copy
    paths = list((root / record.path).rglob("zarr.json"))
    assert len(paths) > len(record.case_ids)
    for path in paths:
        raw = path.read_text()
        path.write_text(raw.replace("e", "f", 1) if "attributes" not in raw else raw + " ")
        problems = verify_part(str(root), record.path)
        assert any(path.relative_to(root / record.path).as_posix() in each for each in problems)
        if "attributes" not in raw or path.parent == root / record.path or path.parent.name == "0":
            with pytest.raises(StoreError, match="was changed"):
                read_all(root, record)
        path.write_text(raw)


def test_a_file_that_does_not_belong_is_named(copy):
    root, record = copy
    (root / record.path / "notes.txt").write_text("x")
    assert any("not in the manifest" in each for each in verify_part(str(root), record.path))


def test_a_changed_or_missing_manifest_is_found(copy):
    root, record = copy
    path = root / record.path / MANIFEST
    path.write_text(path.read_text().replace('"image"', '"label"'))
    with pytest.raises(StoreError, match="changed after its commit"):
        open_part(str(root), record.path, record.digest)
    assert verify_part(str(root), record.path, record.digest)
    path.write_text("{")
    assert "damaged" in verify_part(str(root), record.path)[0]
    path.unlink()
    assert "no manifest" in verify_part(str(root), record.path)[0]


def test_another_format_version_is_refused_with_both_numbers(copy):
    root, record = copy
    path = root / record.path / MANIFEST
    body = json.loads(path.read_text())
    path.write_text(json.dumps({**body, "format_version": 99}))
    with pytest.raises(StoreError, match="has store format 99 and this radloop reads 2"):
        open_part(str(root), record.path)


def test_parts_are_listed_only_when_committed(tmp_path):
    assert committed_parts(str(tmp_path)) == ()
    records = {write(tmp_path, number).path for number in (2, 3)}
    (tmp_path / "staging" / "unfinished").mkdir(parents=True)
    assert set(committed_parts(str(tmp_path))) == records


def test_problems_hold_no_place_of_the_machine(copy):
    root, record = copy
    for path in shards(root, record):
        path.write_bytes(b"")
    assert all(str(root) not in problem for problem in verify_part(str(root), record.path))
    assert case_name(0) in " ".join(verify_part(str(root), record.path))
