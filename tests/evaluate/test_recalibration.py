import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression

from tasks.evaluate.intervals import bootstrap_replicates
from tasks.evaluate.recalibration import recalibration
from tests.evaluate.cases import draw, two


def drawn(n, seed, *, slope=1.0, shift=0.0):
    """Cases whose true log-odds are slope times the stated ones, plus a shift."""
    rng = np.random.default_rng(seed)
    x = rng.normal(-0.4, 1.3, n)
    return two((rng.uniform(size=n) < expit(slope * x + shift)).astype(int), expit(x))


@pytest.mark.parametrize("pred", [draw(300, gain=0.8), drawn(250, 4, slope=0.5, shift=1.0)])
def test_the_slope_agrees_with_scikit_learn(pred):
    x = logit(pred.score.clip(1e-15, 1 - 1e-15))
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x[:, None], pred.truth)
    found = recalibration(pred)["calibration_slope"]
    assert found.value == pytest.approx(model.coef_[0, 0], rel=1e-4)


def test_the_intercept_makes_the_mean_of_the_probabilities_right():
    pred = drawn(400, 5, shift=-0.8)
    found = recalibration(pred)["calibration_intercept"]
    assert expit(logit(pred.score) + found.value).mean() == pytest.approx(pred.truth.mean())
    by_search = minimize(
        lambda a: np.sum(np.logaddexp(0, logit(pred.score) + a) - pred.truth * (
            logit(pred.score) + a)), 0.0,
    )  # fmt: skip
    assert found.value == pytest.approx(by_search.x[0], abs=1e-4)


def test_with_one_case_a_patient_limits_are_those_of_the_information():
    """The sandwich and the inverse information agree where the model holds and cases are many."""
    pred = drawn(20_000, 6)
    x, p = logit(pred.score), pred.score
    information = np.array([[np.sum(x**a * p * (1 - p)) for a in (2, 1)],
                            [np.sum(x**a * p * (1 - p)) for a in (1, 0)]])  # fmt: skip
    error = np.sqrt(np.linalg.inv(information)[0, 0])
    found = recalibration(pred)["calibration_slope"]
    half = student.ppf(0.975, len(pred) - 1) * error
    assert found.hi - found.value == pytest.approx(half, rel=0.03)


def test_several_cases_a_patient_agree_with_the_patient_bootstrap():
    rng = np.random.default_rng(7)
    patients, cases = 150, 3
    own = np.repeat(rng.normal(size=patients), cases)
    x = rng.normal(size=patients * cases)
    truth = (rng.uniform(size=len(x)) < expit(x + 3 * own)).astype(int)
    pred = two(truth, expit(x), [f"p{i // cases}" for i in range(len(x))])
    found = recalibration(pred)

    def refitted(weights):
        slopes = []
        for row in weights:
            model = LogisticRegression(C=np.inf, tol=1e-6).fit(x[:, None], truth, row)
            slopes.append(model.coef_[0, 0])
        return {"slope": np.array(slopes)}

    spread = bootstrap_replicates(refitted, pred.patient_keys, 200, 1)["slope"].std(ddof=1)
    half = found["calibration_slope"].hi - found["calibration_slope"].value
    # 200 replicates know a standard deviation to about 5 %.
    assert half == pytest.approx(student.ppf(0.975, patients - 1) * spread, rel=0.2)
    apart = recalibration(two(truth, expit(x)))["calibration_intercept"]
    together = found["calibration_intercept"]
    assert together.hi - together.lo > 1.2 * (apart.hi - apart.lo)


@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (0.6, 0.7)])
def test_nineteen_of_twenty_intervals_hold_the_truth(slope, shift):
    rounds, held = 300, {"calibration_slope": 0, "calibration_intercept": 0}
    # The shift that the mean asks for when the slope is held at 1, from very many cases.
    large = recalibration(drawn(400_000, 1, slope=slope, shift=shift))["calibration_intercept"]
    expected = {"calibration_slope": slope, "calibration_intercept": large.value}
    for seed in range(rounds):
        found = recalibration(drawn(120, 1000 + seed, slope=slope, shift=shift))
        for name, value in expected.items():
            held[name] += found[name].lo <= value <= found[name].hi
    # 300 rounds at 95 %: 275..294 hold in 99 of 100 such tests.
    assert all(0.91 * rounds <= count <= 0.985 * rounds for count in held.values()), held


def test_what_has_no_finite_fit_is_not_a_number():
    apart = recalibration(two([0, 0, 1, 1], [0.1, 0.2, 0.7, 0.9]))
    assert np.isnan(apart["calibration_slope"].value)
    assert np.isfinite(apart["calibration_intercept"].value)
    touching = recalibration(two([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.9]))
    assert np.isnan(touching["calibration_slope"].value)
    one_class = recalibration(two([1, 1, 1], [0.1, 0.4, 0.9]))
    assert np.isnan([found.value for found in one_class.values()]).all()


def test_probabilities_of_0_and_1_have_a_fit():
    found = recalibration(two([0, 1, 0, 1, 1, 0], [0.0, 1.0, 1.0, 0.3, 0.6, 0.5]))
    assert np.isfinite(found["calibration_slope"].value)
    assert np.isfinite(found["calibration_intercept"].value)


def test_one_patient_has_no_interval():
    found = recalibration(two([0, 1, 0, 1], [0.2, 0.4, 0.6, 0.8], ["p"] * 4))["calibration_slope"]
    assert np.isfinite(found.value)
    assert np.isnan(found.lo)
