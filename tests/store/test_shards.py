"""Our shards beside TensorStore's and zarr-python's, which know nothing of ours."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorstore as ts
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import StoreError
from tasks.store.places import Folder
from tasks.store.schema import DTYPES, Layout, case_layout, packed_layout
from tasks.store.shards import Damaged, encode_shard
from tasks.store.voxels import create_array, open_array, write_shard

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 70), st.integers(1, 140))


def voxels_of(shape, dtype, seed):
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 200, shape).astype(dtype)
    # Long runs and noise: chunks that compress and chunks that are kept as they are.
    array[: shape[0] // 2] = 7
    return array


def opened(folder, name):
    place = Folder(folder)
    return open_array(place, name, place.read(f"{name}/zarr.json"), place.files())


@settings(max_examples=40, deadline=None)
@given(data=st.data(), shape=SHAPES, dtype=st.sampled_from(DTYPES), seed=st.integers(0, 99))
def test_boxes_equal_those_of_tensorstore_and_zarr(tmp_path_factory, data, shape, dtype, seed):
    folder = tmp_path_factory.mktemp("array")
    whole = voxels_of(shape, dtype, seed)
    layout = case_layout(shape)
    create_array(folder / "a", layout, np.dtype(dtype))
    write_shard(folder / "a", layout, 0, whole)
    start = tuple(data.draw(st.integers(0, size - 1)) for size in shape)
    stop = tuple(
        data.draw(st.integers(low + 1, size)) for low, size in zip(start, shape, strict=True)
    )
    box = tuple(slice(low, high) for low, high in zip(start, stop, strict=True))
    ours = opened(folder, "a").read("case", 0, start, stop)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(folder / "a")}}
    theirs = ts.open({**spec, "fill_missing_data_reads": False}, read=True).result()
    np.testing.assert_array_equal(ours, whole[box])
    np.testing.assert_array_equal(theirs[box].read().result(), ours)
    np.testing.assert_array_equal(zarr.open_array(str(folder / "a"), mode="r")[box], ours)


@pytest.mark.parametrize("packed", [False, True])
def test_a_shard_that_tensorstore_wrote_is_read(tmp_path, packed):
    shape = (5, 3, 20, 24) if packed else (37, 50, 130)
    whole_cases = Layout(shape, (1, 3, 20, 24), (2, 3, 20, 24), packed=True)
    layout = whole_cases if packed else case_layout(shape)
    whole = voxels_of(shape, "int16", 1)
    create_array(tmp_path / "a", layout, np.dtype("int16"))
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(tmp_path / "a")}}
    array = ts.open({**spec, "store_data_equal_to_fill_value": True}, open=True).result()
    array.write(whole).result()
    found = opened(tmp_path, "a")
    if packed:
        for row in range(5):
            np.testing.assert_array_equal(found.read("case", row), whole[row])
    else:
        np.testing.assert_array_equal(found.read("case", 0), whole)


def test_zarr_python_reads_a_packed_array_with_a_short_last_shard(tmp_path):
    layout = Layout((5, 3, 20, 24), (1, 3, 20, 24), (2, 3, 20, 24), packed=True)
    whole = voxels_of(layout.shape, "float32", 2)
    create_array(tmp_path / "a", layout, np.dtype("float32"))
    for start in (0, 2, 4):
        write_shard(tmp_path / "a", layout, start, whole[start : start + 2])
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "a"), mode="r")[...], whole)


def test_the_same_voxels_give_the_same_shard_in_one_thread_and_in_two():
    layout = case_layout((70, 40, 70))
    whole = voxels_of(layout.shape, "int16", 3)
    alone = b"".join(encode_shard(whole, layout))
    assert b"".join(encode_shard(whole.copy(), layout)) == alone
    with ThreadPoolExecutor(2) as helpers:
        assert b"".join(encode_shard(whole, layout, helpers.map)) == alone


def test_a_chunk_of_another_size_is_damage_and_leaves_nothing_of_its_neighbour(tmp_path):
    """A chunk with a right checksum, but out of an array with smaller chunks."""
    for name, edge in (("small", 4), ("large", 8)):
        layout = packed_layout(1, (1, 4, edge), np.dtype("uint8"))
        create_array(tmp_path / name, layout, np.dtype("uint8"))
        write_shard(tmp_path / name, layout, 0, np.ones(layout.shape, np.uint8))
    shard = "c/0/0/0/0"
    (tmp_path / "large" / shard).write_bytes((tmp_path / "small" / shard).read_bytes())
    with pytest.raises(StoreError, match="cannot be decoded"):
        opened(tmp_path, "large").read("case", 0)


def test_damage_says_nothing_of_its_place():
    assert "/" not in str(Damaged("a checksum differs or a shard is cut short"))
