"""Images with an axis of channels in the store; images without keep the bytes they always had."""

import json

import numpy as np
import pytest
import tensorstore as ts
import zarr

from tasks.archive.commits import PartRow
from tasks.errors import StoreError
from tasks.imaging.recipe import FittedRecipe, FittedStep
from tasks.store.compact import merge_parts, plan_merges
from tasks.store.read import open_part
from tasks.store.schema import part_id, recipe_id
from tasks.store.verify import verify_part
from tasks.store.write import Prepared, write_part
from tests.store.making import FIXED, RECIPE, case_name, prepared, write

NAMES = ("t1n", "t1c", "t2w")
UNEQUAL = (5, 40, 70)

STEPS = (FittedStep("normalise", 1, {"method": "zscore"}),)
CHANNELS = {"names": list(NAMES), "required": ["t1c"], "reference": "t1c", "align": "auto"}


def several(case_id: str, fixed=None) -> Prepared:
    """Return a case of three channels, the last missing from every second one, with a mask."""
    one = prepared(case_id, fixed)
    array = np.stack([one.array, one.array * 2 + 1, one.array * 0])
    present = (True, True, int(case_id, 16) % 2 == 0)
    if present[2]:
        array[2] = one.array - 3
    return Prepared(
        array, one.affine, one.traces, one.certificate, one.facts, one.masks, present
    )  # fmt: skip


def written(root, fixed=None, numbers=range(4), produce=None):
    names = [case_name(number) for number in numbers]
    return write_part(
        str(root),
        part_id(names, RECIPE, "image"),
        "image",
        RECIPE,
        names,
        produce or (lambda case_id: several(case_id, fixed)),
        fixed_shape=fixed,
        dtype="float32",
        channels=NAMES,
    )


@pytest.mark.parametrize(
    ("fixed", "digest"),
    [(None, "3583fb52f46b83cb0367a6470afae483"), (FIXED, "13f494120e2b74680bfec97a4839096c")],
)
def test_parts_without_channels_have_the_bytes_they_had_before_there_were_any(
    tmp_path, fixed, digest
):
    assert write(tmp_path, 6, fixed).digest == digest


def test_recipes_without_channels_keep_their_ids():
    plain = FittedRecipe(STEPS, "", {"b": ["1000"]})
    assert recipe_id(plain) == "5ee3f1ffa1b85d5176baab5d942bb7c3"
    assert recipe_id(FittedRecipe(STEPS, "", {"b": ["1000"]}, CHANNELS)) != recipe_id(plain)


@pytest.mark.parametrize("fixed", [None, FIXED], ids=["unequal", "packed"])
def test_channels_presence_boxes_and_masks_read_back_as_they_were_made(tmp_path, fixed):
    record = written(tmp_path, fixed)
    assert record.failures == ()
    part = open_part(str(tmp_path), record.path, record.digest)
    assert part.channels == NAMES
    for number in range(4):
        case_id, made = case_name(number), several(case_name(number), fixed)
        np.testing.assert_array_equal(part.read(case_id), made.array)
        assert part.shape(case_id) == made.array.shape[1:]
        assert part.info(case_id).present == made.present
        box = part.read_patch(case_id, (1, 3, 2), (3, 19, 20))
        np.testing.assert_array_equal(box, made.array[:, 1:3, 3:19, 2:20])
        assert part.mask_names(case_id) == tuple(sorted(made.masks))
        for name, mask in made.masks.items():
            np.testing.assert_array_equal(part.mask(case_id, name), mask)
    assert verify_part(str(tmp_path), record.path, record.digest) == ()
    assert written(tmp_path / "again", fixed).digest == record.digest


@pytest.mark.parametrize("fixed", [None, FIXED], ids=["unequal", "packed"])
def test_other_readers_see_the_axis_of_channels(tmp_path, fixed):
    record = written(tmp_path, fixed)
    root, case_id = tmp_path / record.path, case_name(0)
    group = "voxels" if fixed else f"cases/{case_id}"
    made = several(case_id, fixed).array
    array = zarr.open_group(root, mode="r")[f"{group}/0"]
    assert array.metadata.dimension_names == (*(("case",) if fixed else ()), "c", "z", "y", "x")
    np.testing.assert_array_equal(array[0] if fixed else array[:], made)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(root / group / "0")}}
    whole = ts.open(spec, open=True).result().read().result()
    np.testing.assert_array_equal(whole[0] if fixed else whole, made)
    ome = json.loads((root / group / "zarr.json").read_text())["attributes"]["ome"]
    axes = [(axis["name"], axis["type"]) for axis in ome["multiscales"][0]["axes"]]
    assert axes[-4:] == [("c", "channel"), ("z", "space"), ("y", "space"), ("x", "space")]
    (level,) = ome["multiscales"][0]["datasets"]
    scale = level["coordinateTransformations"][0]["scale"]
    assert len(scale) == len(axes)


@pytest.mark.parametrize("fixed", [None, FIXED], ids=["unequal", "packed"])
def test_merged_parts_are_the_one_made_at_once(tmp_path, fixed):
    rows = []
    for numbers in ((0, 3), (1, 2)):
        record = written(tmp_path, fixed, numbers=numbers)
        rows.append(
            PartRow(
                record.part_id, "image", RECIPE, None, None, record.path, record.case_ids,
                record.bytes, record.digest,
            )
        )  # fmt: skip
    (merge,) = plan_merges(rows)
    at_once = written(tmp_path / "at once", fixed)
    assert merge_parts(str(tmp_path), merge).digest == at_once.digest


def test_a_damaged_channel_is_an_error_and_not_zeros(tmp_path):
    record = written(tmp_path, numbers=[0])
    shard = tmp_path / record.path / f"cases/{case_name(0)}/0/c/0/0/0/0"
    raw = bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 1
    shard.write_bytes(raw)
    with pytest.raises(StoreError, match="is damaged"):
        open_part(str(tmp_path), record.path).read(case_name(0))
    assert verify_part(str(tmp_path), record.path)


def test_a_reader_of_the_older_format_would_refuse_the_part_and_say_so(tmp_path):
    record = written(tmp_path, numbers=[0])
    manifest = json.loads((tmp_path / record.path / "MANIFEST.json").read_text())
    assert (manifest["format_version"], manifest["channels"]) == (3, list(NAMES))


def test_a_case_with_other_channels_than_its_part_is_a_failure(tmp_path):
    def lacking(case_id):
        made = several(case_id)
        return Prepared(made.array[:2], made.affine, (), {}, {}, {}, made.present[:2])

    ((_, reason, detail),) = written(tmp_path, numbers=[0], produce=lacking).failures
    assert (reason, detail) == ("wrong_shape", "2 channels where the part holds 3")
