"""Cases that go straight to their shards: read back at once, and found again by their digests."""

import numpy as np
import pytest

from tasks.errors import StoreError
from tasks.store import straight
from tasks.store.places import Folder
from tasks.store.read import open_part
from tasks.store.staging import staged_header
from tasks.store.straight import HELPED_BYTES, ShardedCases
from tasks.store.verify import verify_part
from tasks.store.voxels import voxel_digest, write_shard
from tasks.store.write import Prepared, write_part
from tests.store.making import case_name, prepared, write

SHAPES = [(1, 3, 5), (33, 40, 70), (50, 256, 256)]


def keep(folder, array, masks=None):
    (folder / "cases").mkdir(parents=True, exist_ok=True)
    info = {"affine": np.eye(4).tolist(), "traces": [], "certificate": {}, "facts": {}}
    return ShardedCases(folder).keep(case_name(1), array, info, masks or {})


def volume(shape, dtype="int16"):
    return np.random.default_rng(0).integers(-1000, 1000, shape).astype(dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_kept_case_has_the_digests_of_its_voxels_and_of_its_files(tmp_path, shape):
    array = volume(shape)
    masks = {"lung": (array > 0).astype(np.uint8)}
    header = keep(tmp_path, array, masks)
    assert header["voxels"] == voxel_digest(array)
    assert header["masks"] == {"lung": voxel_digest(masks["lung"])}
    part = tmp_path / "part.zarr"
    on_disk = {p.relative_to(part).as_posix(): p for p in part.rglob("*") if p.is_file()}
    assert header["files"].keys() == on_disk.keys()
    for name in on_disk:
        assert header["files"][name] == Folder(part).sha256(name), name
    assert ShardedCases(tmp_path).found(case_name(1)) == staged_header(
        tmp_path / "cases" / f"{case_name(1)}.case"
    )


def test_the_shapes_are_on_both_sides_of_the_helper():
    sizes = [2 * int(np.prod(shape)) for shape in SHAPES]
    assert min(sizes) < HELPED_BYTES < max(sizes)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("where", [0, -1])
def test_a_voxel_that_reads_back_other_than_it_was_made_stops_the_part(
    tmp_path, monkeypatch, shape, where
):
    def altered(path, layout, start, voxels, *others):
        voxels = voxels.copy()
        voxels.reshape(-1)[where] ^= 1
        write_shard(path, layout, start, voxels, *others)

    monkeypatch.setattr(straight, "write_shard", altered)
    with pytest.raises(StoreError, match="reads back other than it was made"):
        keep(tmp_path, volume(shape))
    assert not list(tmp_path.glob("cases/*.case"))


def test_minus_zero_is_not_zero(tmp_path, monkeypatch):
    monkeypatch.setattr(
        straight,
        "write_shard",
        lambda path, layout, start, voxels, *others: write_shard(
            path, layout, start, np.abs(voxels), *others
        ),
    )
    with pytest.raises(StoreError, match="reads back other than it was made"):
        keep(tmp_path, np.full((2, 3, 4), -0.0, np.float32))


@pytest.mark.parametrize("name", ["0/c/0/0/0", "0/zarr.json", "zarr.json", "labels/lung/zarr.json"])
@pytest.mark.parametrize("damage", ["flipped", "short", "gone"])
def test_a_case_whose_files_are_not_whole_is_made_again(tmp_path, name, damage):
    array = volume((5, 20, 20))
    keep(tmp_path, array, {"lung": (array > 0).astype(np.uint8)})
    path = tmp_path / "part.zarr" / "cases" / case_name(1) / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(raw if damage == "flipped" else raw[:-1])
    assert ShardedCases(tmp_path).found(case_name(1)) is None
    assert not (tmp_path / "part.zarr" / "cases" / case_name(1)).exists()
    assert keep(tmp_path, array)["voxels"] == voxel_digest(array)


def test_what_a_killed_run_left_half_written_is_in_no_part(tmp_path):
    def stop_at_four(case_id):
        if int(case_id, 16) == 4:
            raise KeyboardInterrupt
        return prepared(case_id)

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 6, produce=stop_at_four)
    (part,) = tmp_path.glob("staging/*/part.zarr")
    for name in (f"cases/{case_name(4)}/0/c/0/0/0", "cases/stranger/zarr.json", "MANIFEST.json"):
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        (part / name).write_bytes(b"half")

    def fail_at_four(case_id):
        return prepared(case_id) if int(case_id, 16) != 4 else 1 / 0

    record = write(tmp_path, 6, produce=fail_at_four)
    assert record.resumed == 4
    assert [case_id for case_id, _, _ in record.failures] == [case_name(4)]
    assert verify_part(str(tmp_path), record.path) == ()
    assert record.digest == write(tmp_path / "calm", 6, produce=fail_at_four).digest


def test_an_array_that_is_not_contiguous_is_stored_as_it_looks(tmp_path):
    array = volume((40, 300, 200)).transpose(2, 1, 0)[::-1]
    record = write_part(
        str(tmp_path),
        "a" * 32,
        "image",
        "b" * 32,
        [case_name(1)],
        lambda _: Prepared(array, np.eye(4), (), {}, {}),
        dtype="int16",
    )
    np.testing.assert_array_equal(open_part(str(tmp_path), record.path).read(case_name(1)), array)
