"""What a header says of a frame: vendors' diffusion values, and series that hang on them."""

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from tasks.archive.choice import parse_choice
from tasks.archive.frames import diffusion
from tasks.archive.sources import FileRef
from tasks.archive.volume import read_volume, read_volumes
from tasks.phantom.ct import write_ct_series


def siemens(dataset, b, way=None):
    block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0C, "IS", str(b))
    if way:
        block.add_new(0x0E, "FD", list(way))


def philips(dataset, b, way=None):
    dataset.private_block(0x2001, "Philips Imaging DD 001", create=True).add_new(0x03, "FL", b)
    if way:
        dataset.DiffusionGradientOrientation = list(way)


def ge(dataset, b, way=None):
    block = dataset.private_block(0x0043, "GEMS_PARM_01", create=True)
    block.add_new(0x39, "IS", [str(1_000_000_000 + b), "8", "0", "0"])
    if way:
        dataset.DiffusionGradientOrientation = list(way)


def ge_as_bytes(dataset, b, way=None):
    """As implicit VR gives private elements: bytes without a type."""
    block = dataset.private_block(0x0043, "GEMS_PARM_01", create=True)
    block.add_new(0x39, "UN", f"{b}\\8\\0\\0".encode())
    if way:
        dataset.DiffusionGradientOrientation = list(way)


def standard(dataset, b, way=None):
    dataset.DiffusionBValue = b
    if way:
        dataset.DiffusionGradientOrientation = list(way)


WAYS = [siemens, philips, ge, ge_as_bytes, standard]


@pytest.mark.parametrize("state", WAYS)
def test_the_b_value_is_known_however_it_is_stated(state):
    dataset = Dataset()
    dataset.Modality = "MR"
    state(dataset, 1000, (0.6, 0.0, 0.8))
    assert diffusion(dataset) == {"b": 1000.0, "direction": (0.6, 0.0, 0.8)}


def test_the_standard_element_is_believed_before_a_vendors():
    dataset = Dataset()
    dataset.Modality = "MR"
    standard(dataset, 800)
    siemens(dataset, 50)
    assert diffusion(dataset)["b"] == 800


@pytest.mark.parametrize("value", ["", "many", None])
def test_a_value_that_is_no_number_is_none(value):
    dataset = Dataset()
    dataset.Modality = "MR"
    dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0C, "LO", value)
    assert diffusion(dataset)["b"] is None


def test_a_ct_has_no_diffusion():
    dataset = Dataset()
    dataset.Modality = "CT"
    standard(dataset, 800)
    assert diffusion(dataset) == {}


@pytest.mark.parametrize("state", WAYS)
def test_a_diffusion_series_of_any_vendor_is_parted_and_can_be_chosen_from(tmp_path, state):
    weights = [(0, None), (1000, (1.0, 0.0, 0.0)), (1000, (0.0, 1.0, 0.0))]
    write_ct_series(tmp_path, shape=(4, 8, 9), modality="MR", volumes=3)
    seen = {}
    for path in sorted(tmp_path.glob("*.dcm")):
        dataset = dcmread(path)
        place = tuple(dataset.ImagePositionPatient)
        copy = seen[place] = seen.get(place, -1) + 1
        state(dataset, *weights[copy])
        dataset.RescaleSlope = str(copy + 1)
        dataset.save_as(path)
    files = [FileRef(str(p), None, "", p.stat().st_size) for p in sorted(tmp_path.glob("*.dcm"))]
    volumes = {volume.key: volume for volume in read_volumes("dicom", files)}
    assert list(volumes) == [
        "b=0,direction=none", "b=1000,direction=0/1/0", "b=1000,direction=1/0/0"
    ]  # fmt: skip
    low = read_volume("dicom", files, choice=parse_choice({"b": {"max": 50}}))
    assert low.key == "b=0,direction=none"
    third = read_volume("dicom", files, choice=parse_choice("b=1000,direction=0/1/0"))
    np.testing.assert_array_equal(third.array, 3 * low.array)
