import multiprocessing
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import StoreError
from tasks.store import contents
from tasks.store.read import open_part
from tests.store.making import FIXED, case_name, prepared, write


@pytest.fixture(scope="module", params=[None, FIXED], ids=["cases", "packed"])
def part(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    record = write(root, 4, request.param)
    return open_part(str(root), record.path), request.param


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_patch_is_the_box_of_the_whole(part, data):
    opened, fixed = part
    case_id = data.draw(st.sampled_from(opened.case_ids))
    whole = prepared(case_id, fixed).array
    assert opened.shape(case_id) == whole.shape
    start = tuple(data.draw(st.integers(0, size - 1)) for size in whole.shape)
    stop = tuple(
        data.draw(st.integers(low + 1, size)) for low, size in zip(start, whole.shape, strict=True)
    )
    box = tuple(slice(low, high) for low, high in zip(start, stop, strict=True))
    np.testing.assert_array_equal(opened.read_patch(case_id, start, stop), whole[box])
    masks = prepared(case_id, fixed).masks
    assert opened.mask_names(case_id) == tuple(sorted(masks))
    for name, mask in masks.items():
        np.testing.assert_array_equal(opened.mask(case_id, name), mask)
        patch = opened.mask_patch(case_id, name, start, stop)
        np.testing.assert_array_equal(patch, mask[box])
        assert patch.dtype == np.uint8


@pytest.mark.parametrize(
    ("start", "stop"), [((-1, 0, 0), (2, 2, 2)), ((0, 0, 0), (99, 2, 2)), ((1, 1, 1), (1, 2, 2))]
)
def test_a_patch_that_leaves_the_image_is_refused(part, start, stop):
    opened, _ = part
    with pytest.raises(ValueError, match="leaves an image"):
        opened.read_patch(opened.case_ids[0], start, stop)


def test_a_case_of_another_part_is_refused(part):
    opened, _ = part
    for call in (opened.read, opened.info, opened.shape):
        with pytest.raises(StoreError, match="is not in part"):
            call(case_name(77))


def test_a_mask_that_a_case_lacks_is_refused_with_those_it_has(part):
    opened, _ = part
    assert opened.masked
    with pytest.raises(StoreError, match=r"has no mask 'lung' \(it has none\)"):
        opened.mask(case_name(0), "lung")
    with pytest.raises(StoreError, match=r"has no mask 'bone' \(it has body, lung\)"):
        opened.mask_patch(case_name(1), "bone", (0, 0, 0), (1, 1, 1))
    with pytest.raises(ValueError, match="leaves an image"):
        opened.mask_patch(case_name(1), "lung", (0, 0, 0), (99, 1, 1))


def test_a_process_forked_after_a_read_reads_on(part):
    opened, fixed = part
    case_id = opened.case_ids[2]
    opened.read(case_id)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=read_in_child, args=(opened, case_id, queue))
    with warnings.catch_warnings():
        # Python warns that other threads of this process, if any, may hold locks.
        warnings.simplefilter("ignore", DeprecationWarning)
        child.start()
    np.testing.assert_array_equal(queue.get(), prepared(case_id, fixed).array)
    child.join()
    assert child.exitcode == 0


def test_threads_share_a_part(part):
    opened, fixed = part

    def read_often(turn):
        case_id = opened.case_ids[turn % 4]
        whole = prepared(case_id, fixed).array
        return np.array_equal(opened.read(case_id), whole) and np.array_equal(
            opened.read_patch(case_id, (1, 2, 3), (3, 19, 20)), whole[1:3, 2:19, 3:20]
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read_often, range(200)))


def read_in_child(opened, case_id, queue):
    queue.put(opened.read(case_id))


def test_a_part_pickles_as_its_place_and_reads_in_a_spawned_child(part):
    opened, fixed = part
    case_id = opened.case_ids[1]
    opened.read(case_id)
    assert len(pickle.dumps(opened)) < 1000
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    child = context.Process(target=read_in_child, args=(opened, case_id, queue))
    child.start()
    np.testing.assert_array_equal(queue.get(), prepared(case_id, fixed).array)
    child.join()


def test_handles_are_kept_up_to_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "OPEN_ARRAYS", 2)
    opened = open_part(str(tmp_path), write(tmp_path, 4).path)
    for case_id in (*opened.case_ids, *opened.case_ids):
        np.testing.assert_array_equal(opened.read(case_id), prepared(case_id).array)
    kept = opened._contents._open.cache_info()
    assert (kept.currsize, kept.hits) == (2, 0)


def test_zarr_python_reads_the_same_voxels_and_attributes(part):
    opened, fixed = part
    group = zarr.open_group(str(opened._place.path), mode="r")
    radloop = group.attrs["radloop"]
    assert radloop["format_version"] == 2
    for row, case_id in enumerate(opened.case_ids):
        array = group["voxels/0"][row] if fixed else group[f"cases/{case_id}/0"][...]
        np.testing.assert_array_equal(array, opened.read(case_id))
        assert tuple(radloop["cases"][case_id]["masks"]) == opened.mask_names(case_id)
        for name in opened.mask_names(case_id):
            of = f"labels/{name}/0"
            mask = group[f"voxels/{of}"][row] if fixed else group[f"cases/{case_id}/{of}"][...]
            np.testing.assert_array_equal(mask, opened.mask(case_id, name))
        np.testing.assert_array_equal(
            radloop["cases"][case_id]["affine"], opened.info(case_id).affine
        )


def test_a_part_that_was_never_committed_is_refused(tmp_path):
    with pytest.raises(StoreError, match="no manifest"):
        open_part(str(tmp_path), "parts/none.zarr")
