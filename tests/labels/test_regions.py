"""Regions come back from the label map they were written to, and no year's numbers pass unseen."""

import itertools

import numpy as np
import pytest
from pydantic import ValidationError

from tasks.archive.nifti import read_nifti, write_nifti
from tasks.archive.orders import OrderCase
from tasks.archive.sources import FileRef, digest_of
from tasks.errors import BadCase
from tasks.labels.case_mask import case_mask, read_labels
from tasks.labels.config import LabelConfig
from tasks.labels.regions import (
    PRESETS,
    regions_in,
    renumbered,
    values_of,
    written,
    written_labels,
)

YEARS = pytest.mark.parametrize("year", PRESETS)
AFFINE = np.array([[0, 0, 1.0, 0], [0, 1.0, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])


@YEARS
def test_a_label_map_is_its_regions_and_back(year):
    sets = values_of(PRESETS[year].regions)
    labels = np.arange(len(PRESETS[year].classes) + 1).reshape(1, 1, -1)
    np.testing.assert_array_equal(written(regions_in(labels, sets), sets), labels)


@YEARS
def test_written_regions_hold_one_another_whatever_the_network_says(year):
    sets = values_of(PRESETS[year].regions)
    said = np.array(list(itertools.product([False, True], repeat=len(sets)))).T[:, None, None]
    labels = written(said, sets)
    whole, core, enhancing = regions_in(labels, sets)[:3]
    assert not (enhancing & ~core).any()
    assert not (core & ~whole).any()
    # Nothing is made up: where no region was said there is none, and the last one said is kept.
    np.testing.assert_array_equal(labels > 0, said.any(0))
    np.testing.assert_array_equal(regions_in(labels, sets)[-1], said[-1])


def test_the_values_of_a_region_are_those_that_later_ones_leave_it():
    assert written_labels(((1, 2, 3), (1, 3), (3,))) == (2, 1, 3)
    with pytest.raises(ValueError, match="region 1 leaves 2 labels"):
        written_labels(((1, 2, 3), (2, 3)))
    with pytest.raises(ValueError, match="region 0 leaves 0 labels"):
        written_labels(((3,), (1, 3)))


@pytest.mark.parametrize(
    ("year", "values", "here"),
    [
        ("brats2021", (0, 1, 2, 4), (0, 1, 2, 3)),
        ("brats2023", (0, 1, 2, 3), (0, 1, 2, 3)),
        ("brats2024", (0, 1, 2, 3, 4), (0, 1, 2, 3, 4)),
    ],
)
def test_each_year_is_read_in_its_own_numbers(year, values, here):
    labels = np.array(values, np.uint16).reshape(1, 1, -1)
    np.testing.assert_array_equal(renumbered(labels, PRESETS[year].numbers).ravel(), here)


@pytest.mark.parametrize(
    ("year", "values", "said"),
    [
        ("brats2021", (1, 2, 3), "the value 3.*know 0, 1, 2, 4; brats2023 and brats2024 would"),
        ("brats2023", (1, 2, 4), "the value 4.*know 0, 1, 2, 3; brats2021 and brats2024 would"),
        ("brats2024", (1, 5), "the value 5, and the scenario's regions know 0, 1, 2, 3, 4$"),
    ],
)
def test_a_value_of_another_year_is_refused_by_name(year, values, said):
    with pytest.raises(BadCase, match=said) as refusal:
        renumbered(np.array(values).reshape(1, 1, -1), PRESETS[year].numbers)
    assert refusal.value.reason == "unknown_label"


def test_a_file_of_2021_is_read_by_its_values_and_not_only_by_its_name(tmp_path):
    """nnU-Net's copies of BraTS 2021 lost the name that told of the 4."""
    image, mask = np.zeros((2, 3, 4), np.int16), np.zeros((2, 3, 4), np.uint8)
    mask[0, 1, 2], mask[1, 2, 3] = 4, 1
    refs = {}
    for name, array in (("case_0000", image), ("case", mask), ("BraTS2021_00001_seg", mask)):
        path = tmp_path / f"{name}.nii.gz"
        write_nifti(path, array, AFFINE)
        data = path.read_bytes()
        refs[name] = FileRef(str(path), None, digest_of(data).hex(), len(data))
    like = read_nifti(refs["case_0000"])
    for name in ("case", "BraTS2021_00001_seg"):
        order = OrderCase("c", "nifti", (), refs[name], numbers=PRESETS["brats2021"].numbers)
        found = case_mask(order, like)
        assert (found[0, 1, 2], found[1, 2, 3]) == (3, 1)
    # In 2024 the 4 is the cavity: the name tells that this one is not.
    later = OrderCase("c", "nifti", (), refs[name], numbers=PRESETS["brats2024"].numbers)
    with pytest.raises(BadCase, match="unknown_label: by its name"):
        case_mask(later, like)
    other = OrderCase("c", "nifti", (), refs["case"], numbers=PRESETS["brats2023"].numbers)
    with pytest.raises(BadCase, match="brats2021"):
        case_mask(other, like)


def test_a_scenario_names_a_year_or_its_own_unions():
    year = LabelConfig(format="decathlon", regions="brats2024")
    assert year.classes == ("necrosis", "oedema", "enhancing", "cavity")
    assert year.measured == ("WT", "TC", "ET", "RC")
    own = LabelConfig(
        format="decathlon", classes=("a", "b", "c"), regions={"all": [1, 2, 3], "rest": [2, 3]}
        | {"core": [3]},
    )  # fmt: skip
    assert own.parts == (("all", (1, 2, 3)), ("rest", (2, 3)), ("core", (3,)))
    assert own.numbers is None
    again = LabelConfig.model_validate(own.model_dump(mode="json"))
    assert again == own


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"regions": {"WT": [1, 4]}}, "region WT holds the label 4; classes are 1 to 3"),
        ({"regions": {"WT": [1, 2, 3]}}, "region 0 leaves 3 labels"),
        ({"regions": {"oedema": [2]}}, "give each a name of its own"),
        ({"regions": "brats2024"}, "have 4 classes and 3 are named"),
        ({"regions": "brats2020"}, "brats2021"),
        ({"regions": {"x": [1]}, "format": "column", "column": "a"}, "regions are of masks"),
    ],
)
def test_regions_that_cannot_be_are_refused(labels, said):
    known = {"format": "decathlon", "classes": ["necrosis", "oedema", "enhancing"]}
    with pytest.raises(ValidationError, match=said):
        LabelConfig.model_validate(known | labels)


@pytest.mark.parametrize(("value", "classes"), [(3, ("one", "two")), (300, ())])
def test_a_value_that_no_class_names_is_refused(tmp_path, value, classes):
    mask = np.zeros((2, 3, 4), np.uint16)
    mask[0, 0, :2] = (2, value)
    path = tmp_path / "a.nii.gz"
    write_nifti(path, mask, AFFINE)
    data = path.read_bytes()
    ref = FileRef(str(path), None, digest_of(data).hex(), len(data))
    with pytest.raises(BadCase, match=f"unknown_label: the mask holds the value {value}"):
        case_mask(OrderCase("c", "nifti", (), ref, classes=classes), read_nifti(ref))
    three = OrderCase("c", "nifti", (), ref, classes=("one", "two", "three"))
    if value == 3:
        np.testing.assert_array_equal(case_mask(three, read_nifti(ref)), mask)


def test_masks_of_children_are_not_read_in_adults_numbers_of_2024(tmp_path):
    mask = np.zeros((2, 3, 4), np.uint8)
    mask[0, 0] = (1, 2, 3, 4)
    refs = {}
    for name in ("BraTS-PED-00001-000-seg", "BraTS-GLI-00001-000-seg"):
        path = tmp_path / f"{name}.nii.gz"
        write_nifti(path, mask, AFFINE)
        data = path.read_bytes()
        refs[name] = FileRef(str(path), None, digest_of(data).hex(), len(data))
    child, adult = (
        OrderCase("c", "nifti", (), ref, numbers=PRESETS["brats2024"].numbers)
        for ref in refs.values()
    )
    like = read_nifti(child.mask)
    np.testing.assert_array_equal(case_mask(adult, like), mask)
    with pytest.raises(BadCase, match="unknown_label: by its name the mask is of BraTS-PEDs"):
        case_mask(child, like)


@pytest.mark.parametrize(
    ("name", "values", "read"),
    [
        ("BraTS2021_00001_seg", (1, 2, 4), (1, 2, 3)),
        ("BraTS-GLI-02062-102_seg", (1, 3, 4), (1, 3, 4)),
        ("BraTS2021_00001_seg", (1, 3, 4), "unknown_label"),
    ],
)
def test_a_name_of_2021_never_makes_two_values_one(tmp_path, name, values, read):
    mask = np.zeros((2, 3, 4), np.uint8)
    mask[0, 0, :3] = values
    path = tmp_path / f"{name}.nii.gz"
    write_nifti(path, mask, AFFINE)
    data = path.read_bytes()
    ref = FileRef(str(path), None, digest_of(data).hex(), len(data))
    if isinstance(read, str):
        with pytest.raises(BadCase, match=read):
            read_labels(ref, read_nifti(ref))
    else:
        assert tuple(read_labels(ref, read_nifti(ref))[0, 0, :3]) == read
