"""Which series of a study make a case of several channels, and why a study makes none."""

from dataclasses import replace

import pytest

from tasks.archive.catalog import Case
from tasks.cohort.config import CohortConfig
from tasks.cohort.select import match_rows, narrow
from tasks.labels.config import LabelConfig

CHANNELS = [{"name": name, "where": {"sequence": name}} for name in ("t1n", "t1c", "t2f")]
CONFIG = CohortConfig(kind="nifti", channels=CHANNELS, required=["t1c", "t2f"])


def series(number, study, sequence, patient="p1", **facts):
    return Case(
        f"{number:032x}",
        patient,
        study,
        f"series{number}",
        None,
        "nifti",
        "north",
        1,
        {"sequence": sequence, **facts},
    )


def whole(start, study, patient="p1"):
    names = ("t1n", "t1c", "t2f")
    return [series(start + i, study, name, patient) for i, name in enumerate(names)]


def test_the_series_of_a_study_are_one_case_with_the_reference_first():
    cases, funnel, refused = narrow([*whole(1, "s1"), *whole(11, "s2", "p2")], CONFIG)
    assert refused == ()
    assert [name for name, _ in cases[0].series] == ["t1c", "t1n", "t2f"]
    assert {case.patient_key for case in cases} == {"p1", "p2"}
    assert cases[0].lead.facts["sequence"] == "t1c"
    assert [count for _, count in funnel] == [6, 6, 2, 2, 2]


def test_the_id_hangs_on_the_versions_of_the_series_alone():
    (first,), _, _ = narrow(whole(1, "s1"), CONFIG)
    (again,), _, _ = narrow(list(reversed(whole(1, "s1"))), CONFIG)
    turned = CONFIG.model_copy(update={"channels": tuple(reversed(CONFIG.channels))})
    (reordered,), _, _ = narrow(whole(1, "s1"), turned)
    (changed,), _, _ = narrow(
        [replace(one, case_id="f" * 32) if i == 2 else one for i, one in enumerate(whole(1, "s1"))],
        CONFIG,
    )
    assert first.case_id == again.case_id == reordered.case_id != changed.case_id


def test_an_optional_channel_may_be_missing_and_a_required_one_not():
    without_t1n, without_t2f = whole(1, "s1")[1:], whole(11, "s2")[:2]
    (case,), funnel, (none,) = narrow([*without_t1n, *without_t2f], CONFIG)
    assert [name for name, _ in case.series] == ["t1c", "t2f"]
    assert (none.reason, "no series for t2f" in none.detail) == ("missing_channel", True)
    assert ("with t1c and t2f", 1) in funnel


@pytest.mark.parametrize(
    ("several", "slices", "taken"),
    [
        ("refuse", (1.0, 5.0), None),
        ("finest", (5.0, 1.0), 100),
        ("finest", (1.0, 5.0), 2),
        ("finest", (2.0, 2.0), None),
        ("finest", (None, 2.0), None),
    ],
)
def test_of_two_series_for_one_channel_the_finest_or_none(several, slices, taken):
    found = whole(1, "s1")
    sides = {"spacing_row": 1.0, "spacing_col": 1.0}
    found[1] = series(2, "s1", "t1c", slice_thickness=slices[0], **sides)
    found.append(series(100, "s1", "t1c", slice_thickness=slices[1], **sides))
    cases, _, refused = narrow(found, CONFIG.model_copy(update={"several": several}))
    if taken is None:
        assert cases == []
        assert [(one.reason, "t1c (2)" in one.detail) for one in refused] == [
            ("several_series", True)
        ]
    else:
        assert cases[0].lead.case_id == f"{taken:032x}"


def test_labels_find_the_case_by_any_of_its_series():
    class Row:
        def __init__(self, join, key):
            self.join, self.key, self.value, self.locator = join, key, None, 7

    (case,), _, _ = narrow(whole(1, "s1"), CONFIG)
    rows = [Row("study", "s1"), Row("series", "series1"), Row("sop", "x"), Row("patient", "p1")]
    for row in rows:
        _, masks, left = match_rows([case], [row], {"x": f"{3:032x}"})
        assert (masks, left) == ({case.case_id: {7}}, 0)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"channels": CHANNELS[:1]}, "give 2 to 16"),
        ({"channels": [CHANNELS[0]] * 2}, "each its own name"),
        ({"channels": CHANNELS, "required": ["t9"]}, "'t9' is none of t1n, t1c, t2f"),
        ({"channels": CHANNELS, "required": ["t1c"], "reference": "t1n"}, "must be among required"),
        ({"required": ["t1c"]}, "go with channels"),
        ({"channels": [{"name": "a", "where": {"te_": 1}}, CHANNELS[1]]}, "unknown field 'te_'"),
    ],
)
def test_what_contradicts_itself_is_refused(said, words):
    with pytest.raises(ValueError, match=words):
        CohortConfig(kind="nifti", **said)


def test_a_cohort_without_channels_says_what_it_said_before():
    told = CohortConfig(kind="dicom", modality="CT").model_dump(mode="json")
    assert told.keys() == {
        "kind", "modality", "body_part", "table", "where", "volume", "without"
    }  # fmt: skip
    assert LabelConfig(format="decathlon").format == "decathlon"
