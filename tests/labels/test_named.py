"""Names of segments: what a scenario may say of them, and what goes into its label set."""

import pytest
from pydantic import ValidationError

from tasks.labels.config import LabelConfig, label_set_name
from tasks.labels.named import read_named

ORGANS = {"format": "rtstruct", "file": "rs", "classes": ["lung", "tumour"]}


def test_names_are_alternatives_of_which_some_are_several_parts():
    config = LabelConfig(**ORGANS, segments={"lung": ["Lungs", ["Lung_L", " lung_r"]]})
    assert config.join == "series"
    told = read_named(config.named)
    assert told.ways == (
        ("lung", (("Lungs",), ("Lung_L", " lung_r"))),
        ("tumour", (("tumour",),)),
    )
    assert told.names == {"lungs", "lung_l", "lung_r", "tumour"}
    assert (told.absent, told.later_wins) == ((), False)
    assert LabelConfig(**ORGANS, segments={"lung": "L"}).segments == (("lung", (("L",),)),)
    again = LabelConfig.model_validate_json(config.model_dump_json())
    assert again == config


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"segments": {"liver": ["Liver"]}}, "name 'liver'; the classes are lung, tumour"),
        ({"absent": ["liver"]}, "name 'liver'; the classes are lung, tumour"),
        ({"segments": {"lung": 3}}, "give each class a list of names"),
        ({"segments": {"lung": [3]}}, "valid string|valid tuple"),
        ({"segments": ["lung"]}, "valid tuple"),
        ({"segments": {"lung": []}}, "gives lung no name"),
        ({"segments": {"lung": [" "]}}, "gives lung no name"),
        ({"segments": {"lung": ["A"], "tumour": [["a", "b"]]}}, "gives lung and tumour one seg"),
        ({"segments": {"lung": ["Tumour"]}}, "gives lung and tumour one segment"),
        ({"classes": ["Lung", "lung"]}, "gives Lung and lung one segment"),
        ({"classes": [f"c{n}" for n in range(256)]}, "255 classes at most, 256 are named"),
        ({"join": "patient"}, "leave labels.join out"),
        ({"format": "table", "join": "case", "column": "x", "absent": ["lung"]}, "no key absent"),
        ({"format": "masks", "join": "case", "overlap": "later"}, "give labels.segments as well"),
        ({"format": "slicer"}, "need join"),
    ],
)
def test_what_cannot_be_meant_is_refused_when_the_scenario_is_read(more, match):
    with pytest.raises(ValidationError, match=match):
        LabelConfig(**{**ORGANS, **more})


def test_other_names_are_other_labels_and_masks_by_number_keep_their_name():
    plain = LabelConfig(**ORGANS)
    others = [
        LabelConfig(**ORGANS, segments={"lung": ["Lungs"]}),
        LabelConfig(**ORGANS, absent=["tumour"]),
        LabelConfig(**ORGANS, overlap="later"),
    ]
    assert len({label_set_name(one) for one in (plain, *others)}) == 4
    masks = LabelConfig(format="masks", file="m", join="accession", classes=["a"])
    assert masks.named is None
    assert label_set_name(masks) == "masks-fcf503792ba1"
