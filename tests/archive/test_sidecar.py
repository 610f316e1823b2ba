"""Sidecars carry kept fields under BIDS names and units, and what tells a volume from its kin."""

import json

import numpy as np
import pytest

from tasks.archive.sidecar import file_stem, sidecar
from tasks.archive.volume import Volume

FACTS = {"modality": "MR", "tr": 2000.0, "te": 30.0, "ti": None, "field_strength": 3.0,
         "manufacturer": "Siemens", "model": "Prisma", "slice_thickness": 2.0}  # fmt: skip


def volume(key="", depth=4, **facts):
    certificate = {"spacing": [2.5, 1.0, 1.0], "notes": []}
    return Volume(np.zeros((depth, 2, 2), np.int16), np.eye(4), certificate, facts, key)


def test_times_are_seconds_and_names_are_those_of_bids():
    found = sidecar(FACTS, volume())
    assert (found["RepetitionTime"], found["EchoTime"]) == (2.0, 0.03)
    assert "InversionTime" not in found
    assert found["MagneticFieldStrength"] == 3.0
    assert found["SpacingBetweenSlices"] == 2.5
    assert json.loads(json.dumps(found)) == found


def test_the_key_of_a_volume_overrules_the_facts_of_its_series():
    found = sidecar(FACTS, volume("te=60,b=1000,direction=0.5/0.5/0.7071"))
    assert (found["EchoTime"], found["DiffusionBValue"]) == (0.06, 1000)
    assert found["volume"] == "te=60,b=1000,direction=0.5/0.5/0.7071"


def test_a_single_slice_and_a_cine_have_no_spacing_between_slices():
    assert "SpacingBetweenSlices" not in sidecar(FACTS, volume(depth=1))
    assert "SpacingBetweenSlices" not in sidecar(FACTS, volume(axis="time"))


@pytest.mark.parametrize(
    ("key", "stem"),
    [("", "abc"), ("te=30", "abc_te=30"), ("b=0,direction=0/1/0", "abc_b=0-direction=0-1-0"),
     ("type=../../x", "abc_type=..-..-x")],
)  # fmt: skip
def test_file_names_hold_no_path(key, stem):
    assert file_stem("abc", key) == stem
    assert "/" not in file_stem("abc", key)
