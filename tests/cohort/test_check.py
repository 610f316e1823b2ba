"""What would go wrong is said before anything is started."""

from dataclasses import replace

import pytest

from tasks.archive.catalog import Case
from tasks.archive.commits import Assignment
from tasks.cohort.check import BalanceRow, class_balance, explain_problems
from tasks.cohort.select import Cohort
from tasks.cohort.sexes import UNKNOWN, sex_of_patients
from tasks.cohort.split import PUBLIC_SPLIT_KEY, SplitConfig, assign_patients, patient_strata

SPLIT = SplitConfig(key="public", folds=3)
CLASSES = ("a", "b")


def _cohort(n, classes="ab", **more):
    cases = tuple(
        Case(f"{k:032x}", f"{k:031x}p", None, None, None, "dicom", "s", 1, {}) for k in range(n)
    )
    targets = {case.case_id: classes[k % len(classes)] for k, case in enumerate(cases)}
    fields = {"masks": {}, "funnel": (("dicom cases", n),), "unmatched": 0, **more}
    return Cohort(cases, targets, **fields)


def _sides(cohort, split=SPLIT):
    strata = patient_strata(cohort.patient_facts(), split)
    rows = assign_patients({}, strata, split, PUBLIC_SPLIT_KEY)
    return {row.patient_key: row for row in rows}


def _texts(cohort, level, sides=None, split=SPLIT, **more):
    sides = _sides(cohort, split) if sides is None else sides
    found = explain_problems(cohort, sides, split, CLASSES, **more)
    return [problem.text for problem in found if problem.level == level]


def test_balance_counts_cases_and_patients_by_side_and_edition():
    cohort = _cohort(6)
    keys = [case.patient_key for case in cohort.cases]
    sides = {
        keys[0]: Assignment(keys[0], "test", 1, None, ""),
        keys[1]: Assignment(keys[1], "train", 0, 0, ""),
        keys[2]: Assignment(keys[2], "test", 2, None, ""),
        keys[3]: Assignment(keys[3], "train", 0, 1, ""),
        keys[4]: Assignment(keys[4], "reserve", 0, None, ""),
    }
    assert class_balance(cohort, sides) == (
        BalanceRow("train", "b", 2, 2),
        BalanceRow("test 1", "a", 1, 1),
        BalanceRow("test 2", "a", 1, 1),
        BalanceRow("reserve", "a", 1, 1),
        BalanceRow("undecided", "b", 1, 1),
    )


def test_a_sound_cohort_has_no_problem_and_says_what_it_can_show():
    cohort = _cohort(150)
    assert not _texts(cohort, "error")
    assert not _texts(cohort, "warning")
    notes = _texts(cohort, "note", detectable=lambda n: 1 / n, margin=0.05)
    assert notes == ["with 30 test patients the gate can show a difference of 0.033"]


def test_a_margin_finer_than_the_test_side_can_show_is_a_warning():
    (warning,) = _texts(_cohort(150), "warning", detectable=lambda n: 0.08, margin=0.02)
    assert warning.endswith("more than its margin of 0.02: expect undecidable verdicts")


def test_patients_whose_headers_name_two_sexes_are_counted_in_a_warning():
    cohort = _cohort(150)
    assert not _texts(cohort, "warning")
    first, second, *rest = cohort.cases
    told = {"M": replace(first, facts={"sex": "M"}), "F": replace(first, facts={"sex": "F"})}
    other = replace(told["F"], case_id="f" * 32)
    # One image without a sex contradicts nothing.
    quiet = replace(second, facts={"sex": "F"}), replace(second, case_id="e" * 32)
    mixed = replace(
        cohort,
        cases=(told["M"], other, *quiet, *rest),
        targets={**cohort.targets, other.case_id: "a", "e" * 32: "b"},
    )
    (warning,) = _texts(mixed, "warning")
    assert warning.startswith("1 of 150 patients have two sexes in their headers")
    sexes = sex_of_patients(mixed.cases)
    keys = [case.patient_key for case in (first, second, rest[0])]
    assert [sexes[key] for key in keys] == [UNKNOWN, "F", None]


def test_a_class_that_is_missing_or_thin_in_a_fold_is_named():
    errors = _texts(_cohort(60, "aaaaaaaaab"), "error")
    assert any(error.startswith("class b has 1 test patients") for error in errors)
    assert "class b has 0 training patients: add some" in _texts(_cohort(60, "a"), "error")
    (thin,) = [t for t in _texts(_cohort(50, "aaaaaaaaab"), "warning") if "class b" in t]
    assert thin.startswith("class b has 1 patients in fold")
    none = _texts(_cohort(20, "aaaaaaaaab"), "error")
    assert any("class b has 0 patients in fold" in error for error in none)


def test_more_folds_than_patients_is_an_error():
    split = SplitConfig(key="public", folds=10)
    errors = _texts(_cohort(8), "error", split=split)
    assert any(error.startswith("10 folds and 6 training patients") for error in errors)


def test_empty_masks_are_counted():
    cohort = _cohort(40, masks={f"{k:032x}": k for k in range(40)})
    voxels = {f"{k:032x}": int(k > 2) for k in range(40)}
    assert any(
        text.startswith("3 of 40 masks are empty")
        for text in _texts(cohort, "warning", foreground=voxels)
    )
    assert any(
        text.startswith("40 of 40 masks are empty")
        for text in _texts(cohort, "error", foreground=dict.fromkeys(voxels, 0))
    )


def test_an_empty_cohort_shows_its_funnel_and_unmatched_labels_are_said():
    (error,) = _texts(_cohort(0), "error", sides={})
    assert "dicom cases: 0" in error
    cohort = _cohort(150, unmatched=7, unlabelled=_cohort(5).cases)
    assert _texts(cohort, "warning")[0].startswith("7 label rows belong to no case")
    assert _texts(cohort, "note") == ["5 of 155 cases have no usable label and are left out"]


@pytest.mark.parametrize("n", [10, 60])
def test_a_small_test_side_is_said_without_a_power_function(n):
    assert any("hardly any difference" in text for text in _texts(_cohort(n), "warning"))
