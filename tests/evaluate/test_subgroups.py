"""Every group has its patients and its interval; a small one has neither."""

import numpy as np
import pytest

from tasks.evaluate.masks import MaskScores
from tasks.evaluate.subgroups import FACTS, FEWEST, NOT_STATED, band, rows_of, subgroups
from tasks.evaluate.table import metric_table
from tests.evaluate.cases import two

N = 90


def scored():
    rng = np.random.default_rng(2)
    truth = np.arange(N) % 2
    return two(truth, 1 / (1 + np.exp(-(2 * truth - 1 + rng.normal(size=N)))))


def test_a_group_is_measured_on_its_own_cases():
    pred = scored()
    sex = ["F" if n % 3 else "M" for n in range(N)]
    women, men = subgroups(pred, {"sex": sex}, threshold=0.5, replicates=200)
    assert (women.value, men.value) == ("F", "M")
    assert (women.n_patients, men.n_patients) == (60, 30)
    own = pred.take([n for n in range(N) if n % 3 == 0])
    assert men.figures == metric_table(own, 0.5, replicates=200)
    rows = rows_of([women, men], "auroc")
    assert [row["patients"] for row in rows] == ["60", "30"]
    assert list(rows[0]) == ["subgroup of", "group", "patients", "auroc", "recall", "specificity"]
    assert rows[1]["auroc"].lo < rows[1]["auroc"].value < rows[1]["auroc"].hi


def test_a_group_of_fewer_than_ten_patients_is_listed_without_a_number():
    site = ["a" * 32] * 50 + ["b" * 32] * (40 - FEWEST + 1) + ["c" * 32] * (FEWEST - 1)
    found = subgroups(scored(), {"site": site}, replicates=200)
    assert [group.n_patients for group in found] == [50, 31, None]
    (*_, row) = rows_of(found, "auroc")
    assert row == {"subgroup of": "site", "group": "c" * 12, "patients": "under 10", "auroc": None}


def test_a_patient_with_several_cases_is_one_patient():
    pred = two(np.arange(40) % 2, np.linspace(0, 1, 40), [f"p{n // 4}" for n in range(40)])
    found = subgroups(pred, {"view": ["AP", "LL"] * 20}, replicates=200)
    assert [group.n_patients for group in found] == [10, 10]


def test_a_fact_that_is_the_same_for_all_tells_nothing():
    assert subgroups(scored(), {"sex": ["F"] * N, "kernel": [None] * N}, replicates=200) == []


def test_a_group_of_one_class_has_no_auroc():
    pred = scored()
    found = subgroups(pred, {"side": [str(t) for t in pred.target]}, threshold=0.5, replicates=200)
    assert len(found) == 2
    for group in found:
        assert np.isnan(group.figures["auroc"].value)
        assert np.isfinite(group.figures["accuracy"].value)


def test_masks_have_groups_too():
    rng = np.random.default_rng(0)
    names = tuple(f"c{n}" for n in range(30))
    scores = MaskScores(names, names, ("lung",), rng.uniform(0.5, 1, (30, 1)))
    low, high = subgroups(scores, {"slice_thickness": [1.0] * 12 + [2.5] * 18}, replicates=200)
    assert (low.value, high.value) == ("up to 1 mm", "over 1 to 3 mm")
    assert low.figures["dice"].value == pytest.approx(scores.dice[:12].mean())


@pytest.mark.parametrize(
    ("fact", "value", "expected"),
    [
        ("slice_thickness", 0.5, "up to 1 mm"),
        ("slice_thickness", 5.0, "over 3 to 5 mm"),
        ("slice_thickness", 5.1, "over 5 mm"),
        ("field_strength", 1.494, "1.5 T"),
        ("field_strength", 2.89, "3 T"),
        ("field_strength", 0.2, "0.2 T"),
        ("kernel", None, NOT_STATED),
        ("sex", "", NOT_STATED),
        ("manufacturer", "A", "A"),
    ],
)
def test_numbers_have_bands(fact, value, expected):
    assert band(fact, value) == expected


def test_the_facts_are_kept_by_the_archive():
    from tasks.archive.kept import FACT_TYPES

    assert set(FACTS) <= set(FACT_TYPES)


@pytest.mark.parametrize(
    ("kept", "shown"),
    [("5-9", "0 to 19 years"), ("20-24", "20 to 39 years"), ("90+", "80 to 99 years")],
)
def test_ages_are_shown_in_bands_of_twenty_years(kept, shown):
    assert band("age_band", kept) == shown
