import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from tasks.evaluate.delong import (
    auroc_covariance,
    auroc_interval,
    midranks,
    newcombe_interval,
    placements,
)
from tests.evaluate.cases import draw


def test_midranks_are_those_of_scipy():
    values = np.random.default_rng(0).integers(0, 20, 100).astype(float)
    np.testing.assert_array_equal(midranks(values), rankdata(values))


def test_variance_is_that_of_the_definition():
    pred = draw(80, gain=0.8)
    truth, score = pred.truth.astype(bool), pred.score
    above = score[truth][:, None] > score[~truth]
    wins = above + 0.5 * (score[truth][:, None] == score[~truth])
    m, n = wins.shape
    variance = wins.mean(1).var(ddof=1) / m + wins.mean(0).var(ddof=1) / n
    area, covariance = auroc_covariance(truth, [score])
    assert area[0] == pytest.approx(roc_auc_score(truth, score))
    assert covariance[0, 0] == pytest.approx(variance)


def test_limits_stay_inside_and_hold_the_area():
    pred = draw(60, gain=2.5)
    value, lo, hi, method = auroc_interval(pred.truth, pred.score)
    assert 0 < lo < value < hi < 1
    assert method == "delong-logit"


def test_perfect_separation_does_not_shrink_to_a_point():
    truth = np.repeat([0, 1], [20, 20])
    value, lo, hi, method = auroc_interval(truth, truth * 0.8)
    assert (value, hi, method) == (1.0, 1.0, "newcombe")
    assert 0.8 < lo < 0.95


def test_newcombe_limits_solve_their_equation_and_narrow_with_n():
    small, large = newcombe_interval(0.8, 20, 30), newcombe_interval(0.8, 200, 300)
    assert small[0] < large[0] < 0.8 < large[1] < small[1]


def test_one_class_alone_is_refused():
    with pytest.raises(ValueError, match="needs both"):
        placements([1, 1], [0.1, 0.2])
