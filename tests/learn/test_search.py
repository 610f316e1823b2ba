"""Inner cross-validation keeps patients together and chooses the best mean."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.learn.search import grid, patient_folds, run_here, search


def _peak(params, train, held):
    return -((params["C"] - 3) ** 2) + len(held) / 1e6


@given(st.integers(0, 1000), st.integers(2, 5))
def test_no_patient_is_on_both_sides_and_every_row_is_held_out_once(seed, folds):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 30, 120)
    y = (groups % 3 == 0).astype(int)
    held_out = []
    for train, held in patient_folds(y, groups, folds, seed):
        assert not set(groups[train]) & set(groups[held])
        assert set(y[held]) == {0, 1}
        held_out += held.tolist()
    assert sorted(held_out) == list(range(120))


def test_folds_fall_to_the_patients_of_the_rarest_class():
    y = np.array([0] * 20 + [1] * 6)
    groups = np.array([*range(20), 20, 20, 21, 21, 22, 22])
    assert len(patient_folds(y, groups, 5, 0)) == 3


def test_a_class_with_one_patient_is_refused_with_the_count():
    with pytest.raises(ValueError, match="class 1 has 1 training patients"):
        patient_folds(np.array([0, 0, 1, 1]), np.array([1, 2, 3, 3]), 5, 0)


def test_the_grid_is_whole_or_a_seeded_sample_in_order():
    space = {"a": [1, 2, 3], "b": ["x", "y"]}
    whole = grid(space, 10, 0)
    assert whole[0] == {"a": 1, "b": "x"}
    assert len(whole) == 6
    some = grid(space, 4, 7)
    assert some == grid(space, 4, 7)
    assert [whole.index(one) for one in some] == sorted(whole.index(one) for one in some)
    assert len(some) == 4


def test_the_best_mean_wins_and_a_tie_goes_to_the_earlier():
    splits = [(np.arange(5), np.arange(5, 8)), (np.arange(3), np.arange(3, 8))]
    settings = [{"C": 1}, {"C": 5}, {"C": 2}, {"C": 4}]
    found = search(_peak, settings, splits)
    assert found.best == {"C": 2}
    assert [trial.params["C"] for trial in found.trials] == [1, 5, 2, 4]
    assert found.trials[0].sd > 0


def test_trials_may_run_elsewhere_with_the_same_result():
    splits = [(np.arange(5), np.arange(5, 8))]
    settings = [{"C": value} for value in range(8)]

    def pooled(function, trials):
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(function, trials))

    assert search(_peak, settings, splits, pooled) == search(_peak, settings, splits, run_here)
