"""A patient's side is decided once, by a keyed hash, and never moves."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.cohort.split import (
    PUBLIC_SPLIT_KEY,
    SplitConfig,
    assign_patients,
    newest_edition,
    open_next_edition,
    patient_strata,
    split_id,
    split_key,
)

CONFIG = SplitConfig(key="public")

cohorts = st.dictionaries(
    st.integers(0, 10_000).map(lambda n: f"{n:032x}"), st.sampled_from("abc"), max_size=80
)
configs = st.builds(
    SplitConfig,
    test=st.floats(0.05, 0.9),
    folds=st.integers(2, 6),
    key=st.just("public"),
)


def _by_patient(rows):
    return {row.patient_key: row for row in rows}


def _assign(patients, config=CONFIG, existing=None, key=PUBLIC_SPLIT_KEY):
    return _by_patient(assign_patients(existing or {}, patients, config, key))


def _cohort(n, strata="ab", start=0):
    return {f"{k:032x}": strata[k % len(strata)] for k in range(start, start + n)}


def _turns(assignments):
    return Counter(row.stratum for row in assignments.values() if row.side != "train")


@settings(deadline=None)
@given(cohorts, cohorts, configs)
def test_growth_never_moves_a_patient_and_keeps_every_quota(first, later, config):
    early = _assign(first, config)
    grown = early | _assign(first | later, config, early)
    assert all(grown[patient] == early[patient] for patient in first)
    assert set(grown) == set(first) | set(later)
    sizes = Counter(row.stratum for row in grown.values())
    turns = _turns(grown)
    for stratum, size in sizes.items():
        assert abs(turns[stratum] - config.test * size) < 1


@settings(deadline=None)
@given(cohorts, configs)
def test_first_assignment_meets_the_quota_of_the_whole_cohort(patients, config):
    rows = _assign(patients, config)
    assert abs(sum(_turns(rows).values()) - config.test * len(patients)) <= 0.5
    assert {row.side for row in rows.values()} <= {"train", "test"}


@settings(deadline=None)
@given(cohorts, configs, st.randoms())
def test_the_order_patients_come_in_does_not_matter(patients, config, random):
    shuffled = list(patients.items())
    random.shuffle(shuffled)
    assert assign_patients({}, dict(shuffled), config, PUBLIC_SPLIT_KEY) == assign_patients(
        {}, patients, config, PUBLIC_SPLIT_KEY
    )


@settings(deadline=None)
@given(cohorts, cohorts, configs)
def test_folds_are_stratified_within_one_patient_also_after_growth(first, later, config):
    early = _assign(first, config)
    grown = early | _assign(first | later, config, early)
    train = [row for row in grown.values() if row.side == "train"]
    assert {row.fold for row in train} <= set(range(config.folds))
    per_fold = Counter((row.stratum, row.fold) for row in train)
    for stratum in {row.stratum for row in train}:
        counts = [per_fold[stratum, fold] for fold in range(config.folds)]
        assert max(counts) - min(counts) <= 1


def test_later_test_turns_wait_in_reserve():
    early = _assign(_cohort(50))
    grown = early | _assign(_cohort(100), existing=early)
    assert Counter(row.side for row in early.values()) == {"train": 40, "test": 10}
    assert Counter(row.side for row in grown.values()) == {"train": 80, "test": 10, "reserve": 10}
    assert all(row.edition == 0 for row in grown.values() if row.side != "test")


def test_single_patients_that_drip_in_still_fill_the_quota():
    state = _assign(_cohort(20))
    for n in range(21, 81):
        state |= _assign(_cohort(n), existing=state)
    assert sum(_turns(state).values()) == pytest.approx(16, abs=1)


def test_many_tiny_strata_do_not_lose_the_test_side():
    patients = {f"{k:032x}": f"site{k // 2}" for k in range(40)}
    assert Counter(row.side for row in _assign(patients).values())["test"] == 8


def side_patients(state, side, edition=None):
    newest = newest_edition(state) if side == "test" else None
    wanted = edition or newest
    return {
        patient
        for patient, row in state.items()
        if row.side == side and (wanted is None or row.edition == wanted)
    }


def test_opening_an_edition_turns_the_reserve_into_it_and_leaves_the_old_one():
    state = _assign(_cohort(50))
    state |= _assign(_cohort(100), existing=state)
    opened = open_next_edition(state)
    assert {row.edition for row in opened} == {2}
    after = state | _by_patient(opened)
    assert newest_edition(after) == 2
    assert len(side_patients(after, "test")) == 10
    assert side_patients(after, "test", 1) == side_patients(state, "test")
    assert side_patients(after, "train") == side_patients(state, "train")
    assert not side_patients(after, "reserve")
    with pytest.raises(ValueError, match="reserve holds 0 patients"):
        open_next_edition(after)


def test_a_patient_whose_class_changes_keeps_side_and_stratum():
    state = _assign(_cohort(30))
    changed = {patient: "b" if stratum == "a" else "a" for patient, stratum in _cohort(30).items()}
    assert _assign(changed, existing=state) == {}


def test_the_key_decides_the_ranking():
    secret = split_key(SplitConfig(key="project"), b"k" * 32)
    assert split_key(CONFIG, b"k" * 32) == PUBLIC_SPLIT_KEY != secret
    assert _assign(_cohort(60)) != _assign(_cohort(60), key=secret)


def test_tokens_make_a_public_split_the_same_under_other_pseudonyms():
    here = {f"{k:032x}": "a" for k in range(40)}
    there = {f"{k * 77 + 5:032x}": "a" for k in range(40)}

    def tested(patients):
        tokens = {patient: f"file{k}" for k, patient in enumerate(patients)}
        rows = assign_patients({}, patients, CONFIG, PUBLIC_SPLIT_KEY, tokens)
        return sorted((tokens[row.patient_key], row.side, row.fold) for row in rows)

    assert tested(here) == tested(there)


def test_the_public_ranking_never_changes():
    rows = _assign(_cohort(10, "a"), SplitConfig(key="public", folds=2))
    tested = [int(patient, 16) for patient in side_patients(rows, "test")]
    assert sorted(tested) == [8, 9]


def test_strata_take_the_positive_class_else_the_joined_set():
    config = SplitConfig(strata=("target", "site"))
    patients = {
        "p": [{"target": "normal", "site": "x"}, {"target": "pneumonia", "site": "y"}],
        "q": [{"target": "b", "site": ""}, {"target": "a"}],
    }
    assert patient_strata(patients, config, positive="pneumonia") == {
        "p": "target=pneumonia|site=x+y",
        "q": "target=a+b|site=unknown",
    }


def test_another_config_is_another_split():
    assert split_id("a", CONFIG) == split_id("a", SplitConfig(key="public"))
    assert len({split_id("a", CONFIG), split_id("b", CONFIG), split_id("a", SplitConfig())}) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"source": "column"},
        {"source": "file", "file": "split.csv"},
        {"file": "split.csv"},
        {"test": 1.2},
        {"folds": 1},
    ],
)
def test_a_config_without_its_place_or_outside_its_limits_is_refused(wrong):
    with pytest.raises(ValueError, match=r"split source|meaning|less than|greater than"):
        SplitConfig(**wrong)
