import errno
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from tasks.errors import BadCase, StoreError
from tasks.hashing import digest_file
from tasks.store import schema, staging
from tasks.store.read import open_part
from tasks.store.schema import MANIFEST, case_layout, packed_layout
from tasks.store.verify import store_digest, verify_part
from tasks.store.voxels import create_array, write_shard
from tasks.store.write import Prepared, write_part
from tests.store.making import FIXED, case_name, prepared, write

LAYOUTS = pytest.mark.parametrize("fixed", [None, FIXED], ids=["cases", "packed"])


@LAYOUTS
def test_every_case_comes_back_with_its_facts(tmp_path, fixed):
    record = write(tmp_path, 6, fixed)
    part = open_part(str(tmp_path), record.path, record.digest)
    assert part.case_ids == record.case_ids == tuple(case_name(number) for number in range(6))
    for case_id in part.case_ids:
        made, info = prepared(case_id, fixed), part.info(case_id)
        np.testing.assert_array_equal(part.read(case_id), made.array)
        np.testing.assert_array_equal(info.affine, made.affine)
        assert (info.traces, info.certificate, info.facts) == (
            made.traces,
            made.certificate,
            made.facts,
        )
    assert verify_part(str(tmp_path), record.path, record.digest) == ()


@LAYOUTS
def test_same_input_gives_the_same_bytes_whatever_the_order(tmp_path, fixed):
    first = write(tmp_path / "a", 5, fixed)
    names = [case_name(number) for number in reversed(range(5))]
    second = write_part(
        str(tmp_path / "b"),
        first.part_id,
        "image",
        "5" * 32,
        names,
        lambda case_id: prepared(case_id, fixed),
        fixed_shape=fixed,
        dtype=np.dtype("float32"),
    )
    assert first.digest == second.digest
    assert store_digest(str(tmp_path / "a")) == store_digest(str(tmp_path / "b"))
    files = sorted(path for path in (tmp_path / "a").rglob("*") if path.is_file())
    for path in files:
        twin = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert digest_file(path) == digest_file(twin)


def test_a_committed_part_is_returned_and_not_made_again(tmp_path):
    first = write(tmp_path)
    second = write(tmp_path, produce=lambda case_id: pytest.fail("produced again"))
    assert (first.digest, first.case_ids, first.bytes) == (
        second.digest,
        second.case_ids,
        second.bytes,
    )
    assert not (tmp_path / "staging" / first.part_id).exists()


def test_a_damaged_committed_part_is_refused_not_overwritten(tmp_path):
    record = write(tmp_path)
    next((tmp_path / record.path).rglob("c/0/0/0")).unlink()
    with pytest.raises(StoreError, match="damaged"):
        write(tmp_path)


def test_failing_cases_become_rows_without_messages(tmp_path):
    def produce(case_id):
        number = int(case_id, 16)
        if number == 1:
            raise BadCase("missing_slices", "3 of 20 are missing")
        if number == 2:
            raise KeyError("Müller^Hans")
        if number == 3:
            raise MemoryError
        return prepared(case_id)

    record = write(tmp_path, 5, produce=produce)
    assert record.failures == (
        (case_name(1), "missing_slices", "3 of 20 are missing"),
        (case_name(2), "failed:KeyError", ""),
        (case_name(3), "out_of_memory", "it takes more memory than its worker has"),
    )
    assert record.case_ids == (case_name(0), case_name(4))
    assert "Müller" not in (tmp_path / record.path / MANIFEST).read_text()
    assert write(tmp_path, 5, produce=produce).failures == record.failures


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((3, 20), np.float32), "wrong_shape"),
        (np.zeros((3, 20, 25), np.float32), "wrong_shape"),
        (np.zeros(FIXED, np.float64), "wrong_dtype"),
        (np.full(FIXED, np.nan, np.float32), "not_finite"),
    ],
)
def test_voxels_that_do_not_fit_the_part_are_rows(tmp_path, array, reason):
    def produce(case_id):
        good = prepared(case_id, FIXED)
        return Prepared(array, good.affine, (), {}, {}) if int(case_id, 16) == 1 else good

    record = write(tmp_path, 3, FIXED, produce)
    assert [(case_id, why) for case_id, why, _ in record.failures] == [(case_name(1), reason)]


@pytest.mark.parametrize("scale", [1e200, np.nan])
def test_a_place_that_metadata_cannot_say_costs_its_own_case_only(tmp_path, scale):
    def produce(case_id):
        made = prepared(case_id)
        return replace(made, affine=made.affine * scale) if case_id == case_name(1) else made

    record = write(tmp_path, 3, produce=produce)
    assert record.case_ids == (case_name(0), case_name(2))
    assert [failure[:2] for failure in record.failures] == [(case_name(1), "invalid_geometry")]


@pytest.mark.parametrize(
    ("name", "mask"),
    [
        ("lung", np.zeros((3, 20, 25), np.uint8)),
        ("lung", np.zeros(FIXED, bool)),
        ("../lung", np.zeros(FIXED, np.uint8)),
    ],
)
def test_masks_that_do_not_fit_the_image_are_rows(tmp_path, name, mask):
    def produce(case_id):
        good = prepared(case_id, FIXED)
        return replace(good, masks={name: mask}) if int(case_id, 16) == 1 else good

    record = write(tmp_path, 3, FIXED, produce)
    assert [(case_id, why) for case_id, why, _ in record.failures] == [(case_name(1), "wrong_mask")]


def test_a_part_whose_cases_all_failed_can_be_made_later(tmp_path):
    def fail(case_id):
        raise BadCase("file_missing", "the archive is not mounted")

    assert write(tmp_path, 2, FIXED, fail).case_ids == ()
    assert len(write(tmp_path, 2, FIXED).case_ids) == 2


def test_an_interrupted_run_goes_on_after_the_last_finished_case(tmp_path):
    calls = []

    def stop_at_four(case_id):
        calls.append(case_id)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return prepared(case_id)

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 6, produce=stop_at_four)
    assert not (tmp_path / "parts").exists()
    record = write(tmp_path, 6)
    assert record.resumed == 3
    assert record.digest == write(tmp_path / "calm", 6).digest


def test_a_torn_staged_case_is_made_again(tmp_path):
    def stop_at_last(case_id):
        if int(case_id, 16) == 5:
            raise KeyboardInterrupt
        return prepared(case_id)

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 6, produce=stop_at_last)
    staged = sorted(tmp_path.glob("staging/*/cases/*.case"))
    raw = bytearray(staged[0].read_bytes())
    raw[-1] ^= 1
    staged[0].write_bytes(raw)
    staged[1].write_bytes(staged[1].read_bytes()[:-10])
    staged[2].write_bytes(b"")
    staged[3].with_suffix(".tmp").write_bytes(b"left by a crash")
    record = write(tmp_path, 6)
    assert record.resumed == 2
    assert record.digest == write(tmp_path / "calm", 6).digest


def test_a_disk_that_alters_a_staged_case_is_found_before_the_commit(tmp_path, monkeypatch):
    honest = staging.staged_voxels
    monkeypatch.setattr("tasks.store.assemble.staged_voxels", lambda *a: honest(*a) + 1)
    with pytest.raises(StoreError, match="reads back other than it was made"):
        write(tmp_path, fixed=FIXED)
    assert not (tmp_path / "parts").exists()


def test_two_writers_of_one_part_are_refused(tmp_path):
    record = write(tmp_path)
    shutil.rmtree(tmp_path / record.path)
    folder = tmp_path / "staging" / record.part_id
    with (
        staging.sole_writer(folder, record.part_id),
        pytest.raises(StoreError, match="another process"),
    ):
        write(tmp_path)


def test_a_write_that_is_not_one_whole_shard_is_refused(tmp_path):
    layout = packed_layout(10, (1, 4, 4), np.dtype("uint8"))
    layout = schema.Layout(layout.shape, layout.chunk, (4, 1, 4, 4))
    array = tmp_path / "a"
    create_array(array, layout, np.dtype("uint8"))
    write_shard(array, layout, 4, np.ones((4, 1, 4, 4), np.uint8))
    write_shard(array, layout, 8, np.ones((2, 1, 4, 4), np.uint8))
    for start, rows in ((0, 3), (2, 4), (8, 1)):
        with pytest.raises(ValueError, match="not one whole shard"):
            write_shard(array, layout, start, np.ones((rows, 1, 4, 4), np.uint8))


def test_memory_holds_one_packed_shard_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(schema, "SHARD_BYTES", 2 * 3 * 20 * 24 * 4)
    sizes = []
    monkeypatch.setattr(
        "tasks.store.assemble.write_shard",
        lambda array, layout, start, voxels: (
            sizes.append(voxels.nbytes),
            write_shard(array, layout, start, voxels),
        ),
    )
    record = write(tmp_path, 5, FIXED)
    # The image's shards, then those of each mask: four times as many cases fit in one.
    assert sizes == [11520, 11520, 5760, 7200, 7200]
    assert len(record.case_ids) == 5
    assert verify_part(str(tmp_path), record.path) == ()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 224, 224), (20, 512, 300), (33, 32, 31)])
def test_the_shard_of_an_unequal_case_is_whole_chunks_and_holds_it(shape):
    layout = case_layout(shape)
    for size, chunk, shard in zip(layout.shape, layout.chunk, layout.shard, strict=True):
        assert shard % chunk == 0
        assert size <= shard < size + chunk


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"root": "ftp://host/store"}, "neither a folder nor s3://bucket/prefix"),
        ({"dtype": "complex64"}, "dtype is complex64"),
        ({"kind": "picture"}, "kind is 'picture'"),
        ({"part_id": "../other"}, "is no id"),
        ({"case_ids": ["a/b"]}, "is no id"),
    ],
)
def test_wrong_requests_are_refused_in_a_sentence(tmp_path, change, message):
    asked = {
        "root": str(tmp_path),
        "part_id": "a" * 32,
        "kind": "image",
        "recipe_id": "b" * 32,
        "case_ids": [case_name(1)],
        "produce": prepared,
        "dtype": "float32",
    }
    with pytest.raises((ValueError, StoreError), match=message):
        write_part(**{**asked, **change})


@pytest.mark.parametrize("dtype", schema.DTYPES)
def test_every_dtype_is_kept(tmp_path, dtype):
    array = (np.arange(3 * 40 * 40).reshape(3, 40, 40) % 200).astype(dtype)
    record = write_part(
        str(tmp_path),
        "a" * 32,
        "label",
        "b" * 32,
        [case_name(1)],
        lambda case_id: Prepared(array, np.eye(4), (), {}, {}),
        dtype=dtype,
        label_set_id="c" * 32,
    )
    found = open_part(str(tmp_path), record.path).read(case_name(1))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("syncers", [1, 8])
def test_every_file_and_folder_of_a_part_is_synced(tmp_path, monkeypatch, syncers):
    for name in ("a/b/shard", "a/zarr.json", "c/zarr.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    reached, fsync = set(), os.fsync

    def noted(descriptor: int) -> None:
        reached.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(staging, "SYNCERS", syncers)
    monkeypatch.setattr(os, "fsync", noted)
    staging.sync_tree(tmp_path)
    assert reached == {path.stat().st_ino for path in (tmp_path, *tmp_path.rglob("*"))}


def test_a_file_that_cannot_be_synced_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "shard").write_text("voxels")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        staging.sync_tree(tmp_path)
