"""Small parts become one, and no case is another for it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tasks.archive.commits import PartRow
from tasks.errors import StoreError
from tasks.store import compact
from tasks.store.compact import merge_parts, plan_merges
from tasks.store.read import open_part
from tasks.store.schema import part_id
from tasks.store.verify import committed_parts, verify_part
from tasks.store.write import write_part
from tests.store.making import FIXED, RECIPE, case_name, prepared


def stored(root, numbers, fixed=None, **more) -> PartRow:
    names = [case_name(number) for number in numbers]
    record = write_part(
        str(root),
        part_id(names, RECIPE, "image"),
        "image",
        RECIPE,
        names,
        lambda case_id: prepared(case_id, fixed),
        fixed_shape=fixed,
        dtype="float32",
    )
    row = PartRow(
        record.part_id,
        "image",
        RECIPE,
        None,
        None,
        record.path,
        record.case_ids,
        record.bytes,
        record.digest,
    )
    return replace(row, **more)


@pytest.mark.parametrize("fixed", [None, FIXED], ids=["cases", "packed"])
def test_the_merged_part_is_the_one_made_at_once(tmp_path, fixed):
    nights = [stored(tmp_path, numbers, fixed) for numbers in ((0, 5), (1, 2), (3, 4))]
    (merge,) = plan_merges(nights)
    record = merge_parts(str(tmp_path), merge)
    assert verify_part(str(tmp_path), record.path, record.digest) == ()
    assert record.digest == stored(tmp_path / "at once", range(6), fixed).digest
    part = open_part(str(tmp_path), record.path)
    for case_id in part.case_ids:
        made = prepared(case_id, fixed)
        np.testing.assert_array_equal(part.read(case_id), made.array)
        assert part.mask_names(case_id) == tuple(sorted(made.masks))
        assert part.info(case_id).traces == made.traces
    assert len(committed_parts(str(tmp_path))) == 4


def test_only_small_parts_of_one_kind_and_grid_are_merged(tmp_path):
    a, b, c = (stored(tmp_path, (number,)) for number in range(3))
    assert plan_merges([a]) == ()
    assert plan_merges([a, replace(b, bytes=compact.SMALL_BYTES)]) == ()
    assert plan_merges([a, replace(b, recipe_id="other")]) == ()
    assert plan_merges([replace(a, kind="label", label_set_id="x"), replace(b, kind="label")]) == ()
    labels = [replace(row, kind="label", label_set_id="x") for row in (a, b, c)]
    labels = [replace(row, image_part_id=on) for row, on in zip(labels, "iij", strict=True)]
    (merge,) = plan_merges(labels)
    assert {row.part_id for row in merge.parts} == {a.part_id, b.part_id}


def test_a_merged_part_has_a_limit_and_the_plan_does_not_hang_on_the_order(tmp_path, monkeypatch):
    rows = [stored(tmp_path, (number,)) for number in range(5)]
    monkeypatch.setattr(compact, "MERGED_BYTES", 2 * max(row.bytes for row in rows))
    merges = plan_merges(rows)
    assert [len(merge.parts) for merge in merges] == [2, 2]
    assert plan_merges(reversed(rows)) == merges


def test_a_damaged_part_is_not_merged_and_nothing_new_stands(tmp_path):
    rows = [stored(tmp_path, (number,)) for number in range(2)]
    shard = next((tmp_path / rows[0].path).rglob("0/c/0/0/0"))
    shard.write_bytes(shard.read_bytes()[:-1])
    before = committed_parts(str(tmp_path))
    (merge,) = plan_merges(rows)
    with pytest.raises(StoreError, match=r"1 cases of the parts of .* cannot be read"):
        merge_parts(str(tmp_path), merge)
    assert committed_parts(str(tmp_path)) == before


def test_voxels_that_were_exchanged_are_not_vouched_for_by_a_new_part(tmp_path):
    """Each chunk has a good checksum: only the digest it was committed with tells."""
    import google_crc32c

    rows = [stored(tmp_path, numbers, FIXED) for numbers in ((0, 1), (2,))]
    voxels = tmp_path / rows[0].path / "voxels" / "0"
    meta = json.loads((voxels / "zarr.json").read_text())
    size = 16 * meta["chunk_grid"]["configuration"]["chunk_shape"][0]
    shard = voxels / "c" / "0" / "0" / "0" / "0"
    raw = shard.read_bytes()
    index = raw[-size - 4 : -4]
    index = index[16:32] + index[:16] + index[32:]
    shard.write_bytes(raw[: -size - 4] + index + google_crc32c.value(index).to_bytes(4, "little"))
    part = open_part(str(tmp_path), rows[0].path, rows[0].digest)
    np.testing.assert_array_equal(
        part.read(case_name(0)), prepared(case_name(1), FIXED).array, "reading cannot tell"
    )
    before = committed_parts(str(tmp_path))
    (merge,) = plan_merges(rows)
    with pytest.raises(StoreError, match="2 of 3 cases have other voxels than they were committed"):
        merge_parts(str(tmp_path), merge)
    assert committed_parts(str(tmp_path)) == before
    assert verify_part(str(tmp_path), rows[0].path, rows[0].digest), "and verify still finds it"


def test_a_case_in_two_parts_is_refused(tmp_path):
    rows = [stored(tmp_path, (0, 1)), stored(tmp_path, (1, 2))]
    (merge,) = plan_merges(rows)
    with pytest.raises(StoreError, match="a case stands in two of the parts"):
        merge_parts(str(tmp_path), merge)
