"""Figures of numbers against scipy, scikit-learn and plain formulas."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from tasks.evaluate.agreement import weighted_agreement
from tasks.evaluate.agreement_figure import draw_bland_altman, draw_scatter
from tasks.evaluate.compare import paired_metric
from tasks.evaluate.estimates import Estimates
from tasks.evaluate.known import NUMBER_FIGURES
from tasks.evaluate.noninferior import noninferiority
from tasks.evaluate.table import metric_table


def numbers(n=60, patients=None, noise=8.0, lean=3.0, seed=1, steps=None):
    rng = np.random.default_rng(seed)
    target = rng.uniform(20, 200, n)
    value = target + lean + rng.normal(0, noise, n)
    if steps:
        target, value = (np.round(one / steps) * steps for one in (target, value))
    keys = [f"p{i if patients is None else i % patients}" for i in range(n)]
    return Estimates([f"c{i}" for i in range(n)], keys, target, value, "bone_age", "mo")


@pytest.mark.parametrize("steps", [None, 25])
def test_figures_are_those_of_scipy_and_scikit_learn(steps):
    found = numbers(steps=steps)
    said = weighted_agreement(found)(None)
    gap = found.value - found.target
    assert said["mae"] == pytest.approx(mean_absolute_error(found.target, found.value))
    assert said["rmse"] == pytest.approx(root_mean_squared_error(found.target, found.value))
    assert said["r2"] == pytest.approx(r2_score(found.target, found.value))
    assert said["spearman"] == pytest.approx(spearmanr(found.target, found.value).statistic)
    assert said["bias"] == pytest.approx(gap.mean())
    assert said["loa_upper"] == pytest.approx(gap.mean() + 1.96 * gap.std(ddof=1))
    assert said["loa_lower"] == pytest.approx(gap.mean() - 1.96 * gap.std(ddof=1))


def test_a_weight_is_a_repetition():
    found = numbers(steps=25)
    weight = np.random.default_rng(3).integers(0, 4, (5, len(found)))
    said = weighted_agreement(found)(weight)
    for row, times in enumerate(weight):
        again = np.repeat(np.arange(len(found)), times)
        target, value = found.target[again], found.value[again]
        gap = value - target
        assert said["spearman"][row] == pytest.approx(spearmanr(target, value).statistic)
        assert said["r2"][row] == pytest.approx(r2_score(target, value))
        assert said["loa_upper"][row] == pytest.approx(gap.mean() + 1.96 * gap.std(ddof=1))


def test_the_interval_of_the_bias_is_that_of_a_mean():
    found = numbers(n=200, noise=8.0)
    table = metric_table(found, replicates=4000)
    gap = found.value - found.target
    half = 1.972 * gap.std(ddof=1) / np.sqrt(len(gap))
    assert table["bias"].lo == pytest.approx(gap.mean() - half, abs=0.15)
    assert table["bias"].hi == pytest.approx(gap.mean() + half, abs=0.15)
    assert set(table) == set(NUMBER_FIGURES)


def test_cases_of_one_patient_widen_the_interval():
    one = numbers(n=120)
    again = [i % 40 for i in range(120)]
    several = Estimates(
        one.case_ids, [f"p{i}" for i in again], one.target[again], one.value[again], "x", "mo"
    )
    width = {n: t["mae"].hi - t["mae"].lo for n, t in _tables(one, several).items()}
    assert width["several"] > 1.4 * width["one"]


def _tables(one, several):
    return {"one": metric_table(one), "several": metric_table(several)}


def test_the_smaller_error_is_better():
    good, bad = numbers(noise=4, lean=0), numbers(noise=12, lean=0)
    told = paired_metric(good, bad, "mae", replicates=500)
    assert told.value == pytest.approx(
        float(weighted_agreement(bad)(None)["mae"] - weighted_agreement(good)(None)["mae"])
    )
    assert told.lo > 0
    assert told.p_value < 0.01
    assert noninferiority(good, bad, "rmse", 2.0, replicates=500).lo > 0
    assert paired_metric(good, bad, "spearman", replicates=500).value > 0
    with pytest.raises(ValueError, match="does not rank"):
        paired_metric(good, bad, "bias")


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        Estimates(["a"], ["p"], [1.0], [np.nan], "x", "mo")
    one = numbers()
    other = Estimates(one.case_ids, one.patient_keys, one.target, one.value, "volume", "mL")
    with pytest.raises(ValueError, match="classes differ"):
        paired_metric(one, other, "mae")
    moved = Estimates(one.case_ids, one.patient_keys, one.target + 1, one.value, "bone_age", "mo")
    with pytest.raises(ValueError, match="60 cases have other truths"):
        paired_metric(one, moved, "mae")
    flat = Estimates(["a", "b"], ["p", "q"], [1.0, 1.0], [1.0, 2.0], "x", "mo")
    said = weighted_agreement(flat)(None)
    assert np.isnan(said["r2"])
    assert np.isnan(said["spearman"])


def test_a_table_comes_back_and_pictures_are_the_same_bytes(tmp_path):
    found = numbers()
    again = Estimates.from_table(found.to_table())
    assert np.array_equal(again.value, found.value)
    assert again.words == "bone_age (mo)"
    for draw in (draw_scatter, draw_bland_altman):
        first, second = (draw(tmp_path / f"{i}.png", found).read_bytes() for i in range(2))
        assert first == second
        assert len(first) > 10_000


def test_negative_limits_are_told_without_a_dash():
    from tasks.evaluate.agreement_figure import _told
    from tasks.evaluate.intervals import Interval

    assert _told(Interval(-15.72, -18.61, -12.0, "", 9)) == "-15.7 (-18.6 to -12)"
