import numpy as np
import pytest
from scipy.stats import binomtest, ttest_rel
from sklearn.metrics import roc_auc_score

from tasks.evaluate.compare import (
    NO_SPREAD,
    by_cases,
    holm,
    mcnemar,
    paired_auroc,
    paired_bootstrap,
    paired_mean,
    paired_metric,
)
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.metrics import auroc
from tests.evaluate.cases import draw, two


def correlated(n=300, seed=0, gain=(1.5, 1.0)):
    """Draw truth and two scores with a shared error."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 2
    shared = rng.normal(size=n)
    scores = [0.7 * shared + 0.7 * rng.normal(size=n) + g * truth for g in gain]
    return truth, [1 / (1 + np.exp(-s)) for s in scores]


def test_paired_delong_agrees_with_the_bootstrap():
    truth, (first, second) = correlated()
    exact = paired_auroc(truth, first, second)
    assert exact.value == pytest.approx(roc_auc_score(truth, first) - roc_auc_score(truth, second))
    routed = paired_metric(two(truth, first), two(truth, second), "auroc")
    assert routed.test == "paired DeLong"
    assert (routed.value, routed.lo) == pytest.approx((exact.value, exact.lo))
    keys = [f"p{i}" for i in range(300)]
    resampled = paired_bootstrap(
        lambda weight: auroc(truth, first, weight) - auroc(truth, second, weight), keys
    )
    assert resampled.value == pytest.approx(exact.value)
    # 2,000 replicates know a standard error to 2 %; DeLong's and the bootstrap's differ by more.
    assert resampled.standard_error == pytest.approx(exact.standard_error, rel=0.1)
    assert resampled.lo == pytest.approx(exact.lo, abs=0.3 * exact.standard_error)


@pytest.mark.parametrize("n", [4, 40])
def test_a_perfect_model_beside_one_that_says_the_same_of_all_is_not_beyond_doubt(n):
    truth = np.repeat([0, 1], n // 2)
    perfect, same = truth * 0.8, np.full(n, 0.5)
    found, turned = paired_auroc(truth, perfect, same), paired_auroc(truth, same, perfect)
    assert (found.value, found.lo) == (0.5, -turned.hi)
    # Two of each class prove nothing, twenty do; DeLong's error is 0 for both.
    assert (found.lo > 0) == (n == 40)
    assert (found.p_value < 0.05) == (n == 40)
    assert found.p_value > 0


@pytest.mark.parametrize("n", [3, 8, 60])
def test_the_same_difference_in_every_patient_is_no_surer_than_their_signs(n):
    found = paired_mean(np.ones(n), np.zeros(n))
    expected = max(binomtest(n, n).pvalue, 2 * NO_SPREAD)
    assert found.p_value == pytest.approx(expected, rel=1e-3)
    assert (found.lo > 0) == (found.p_value < 0.05)


def test_a_difference_that_is_rounding_is_none():
    first = np.full(20, 0.3)
    found = paired_mean(first, first - 1e-16)
    assert (found.value, found.lo, found.hi, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_a_plain_function_of_cases_gives_the_same_as_one_of_weights():
    truth, (first, second) = correlated(60)
    keys = [f"p{i // 2}" for i in range(60)]

    def difference(rows):
        return roc_auc_score(truth[rows], first[rows]) - roc_auc_score(truth[rows], second[rows])

    slow = paired_bootstrap(by_cases(difference), keys, replicates=50)
    fast = paired_bootstrap(
        lambda w: auroc(truth, first, w) - auroc(truth, second, w), keys, replicates=50
    )
    assert (slow.value, slow.lo, slow.hi) == pytest.approx((fast.value, fast.lo, fast.hi))


def test_the_first_being_better_is_positive():
    truth, (good, bad) = correlated()
    assert paired_metric(two(truth, good), two(truth, bad), "auroc").value > 0
    assert paired_metric(two(truth, bad), two(truth, good), "auroc").value < 0
    # The Brier score is better when lower, and the sign turns with it.
    sharp, vague = two(truth, truth * 0.8 + 0.1), two(truth, np.full(300, 0.5))
    found = paired_metric(sharp, vague, "brier", replicates=300)
    assert found.value == pytest.approx(0.25 - 0.01)
    assert found.test == "paired patient bootstrap"


def test_swapping_the_two_swaps_the_limits():
    truth, (a, b) = correlated()
    forth, back = paired_auroc(truth, a, b), paired_auroc(truth, b, a)
    assert (forth.lo, forth.hi) == pytest.approx((-back.hi, -back.lo))
    assert forth.p_value == pytest.approx(back.p_value)


def test_a_model_does_not_differ_from_itself():
    pred = draw(100)
    found = paired_metric(pred, pred, "auroc")
    assert (found.value, found.p_value) == (0, 1)


def test_delong_p_values_are_uniform_when_the_models_are_equal():
    p = [paired_auroc(t, *s).p_value for t, s in (correlated(150, i, (1, 1)) for i in range(300))]
    assert 0.02 <= np.mean(np.array(p) < 0.05) <= 0.09
    assert 0.42 <= np.mean(np.array(p) < 0.5) <= 0.58


@pytest.mark.parametrize(
    ("first_only", "second_only", "p"), [(37, 4, 1.0e-7), (15, 6, 0.0784), (0, 0, 1.0), (5, 5, 1.0)]
)
def test_mcnemar_gives_the_published_values(first_only, second_only, p):
    target = np.ones(100, int)
    first, second = np.ones(100, int), np.ones(100, int)
    second[:first_only] = 0
    first[first_only : first_only + second_only] = 0
    a, b, found = mcnemar(target, first, second)
    assert (a, b) == (first_only, second_only)
    assert found == pytest.approx(p, rel=0.05)


def test_dice_is_compared_by_patients():
    rng = np.random.default_rng(0)
    ids, keys = [f"c{i}" for i in range(40)], [f"p{i // 2}" for i in range(40)]
    a, b = rng.beta(8, 2, (40, 2)), rng.beta(8, 3, (40, 2))
    first, second = (MaskScores(ids, keys, ("x", "y"), d) for d in (a, b))
    found = paired_metric(first, second, "dice")
    means = [d.reshape(20, 2, 2).mean((1, 2)) for d in (a, b)]
    assert found.n_patients == 20
    assert found.p_value == pytest.approx(ttest_rel(*means).pvalue)
    assert paired_metric(first, second, "dice/x").value != found.value
    with pytest.raises(ValueError, match="not a metric of these masks"):
        paired_metric(first, second, "auroc")


def test_distances_are_compared_turned_round():
    rng = np.random.default_rng(2)
    ids, dice = [f"c{i}" for i in range(30)], np.full((30, 2), 0.9)
    near, far = rng.gamma(4, 1, (30, 2)), rng.gamma(8, 1, (30, 2))
    first, second = (
        MaskScores(ids, ids, ("x", "y"), dice, None, {"hd95": d, "volume_bias": d})
        for d in (near, far)
    )
    found = paired_metric(first, second, "hd95")
    assert found.value == pytest.approx((far - near).mean())
    assert found.lo > 0
    for wrong in ("nsd", "volume_bias", "hd95/z"):
        with pytest.raises(ValueError, match="choose one of"):
            paired_metric(first, second, wrong)


def test_paired_mean_gives_the_limits_of_student():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=15), rng.normal(size=15)
    expected = ttest_rel(a, b).confidence_interval()
    found = paired_mean(a, b)
    assert (found.lo, found.hi) == pytest.approx((expected.low, expected.high))


def test_clusters_go_through_the_bootstrap_and_widen_the_limits():
    truth, (a, b) = correlated()
    keys = [f"p{i // 6 * 2 + i % 2}" for i in range(300)]
    found = paired_metric(two(truth, a, keys), two(truth, b, keys), "auroc", replicates=300)
    assert found.test == "paired patient bootstrap"
    assert found.n_patients == len(set(keys))


def test_metrics_without_a_better_are_refused():
    with pytest.raises(ValueError, match="cannot be compared"):
        paired_metric(draw(20), draw(20), "threshold")


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1, 1])


def test_scaling_wins_clearly_on_the_wisconsin_table():
    """Real patients: about +.024 AUROC with a standard error of .006, as measured elsewhere."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    X, y = load_breast_cancer(return_X_y=True)
    folds = StratifiedKFold(10, shuffle=True, random_state=0)
    models = (make_pipeline(StandardScaler(), SVC()), SVC())
    scaled, plain = (
        cross_val_predict(model, X, y, cv=folds, method="decision_function") for model in models
    )
    found = paired_auroc(y, scaled, plain)
    assert found.value == pytest.approx(0.024, abs=0.006)
    assert found.standard_error == pytest.approx(0.006, abs=0.0015)
    assert found.p_value < 1e-3
    gained, lost, p = mcnemar(y, scaled > 0, plain > 0)
    assert gained > 25
    assert lost < 12
    assert p < 1e-4
