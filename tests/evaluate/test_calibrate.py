import json

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.isotonic import IsotonicRegression

from tasks.evaluate.calibrate import (
    apply_calibration,
    choose_threshold,
    fit_calibration,
    fit_temperature,
    reliability,
)
from tasks.evaluate.config import EvaluateConfig, OperatingPoint
from tasks.evaluate.metrics import auroc, log_loss
from tasks.evaluate.predictions import Predictions
from tests.evaluate.cases import draw, two

TRUTH = np.array([0, 0, 0, 0, 0, 1, 0, 1, 1, 1])
SCORE = np.array([0.05, 0.1, 0.2, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8, 0.9])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"rule": "youden"}, 0.375),  # 1 + 5/6 there, 3/4 + 1 at 0.55
        ({"rule": "sensitivity", "at_least": 0.95}, 0.375),
        ({"rule": "sensitivity", "at_least": 0.7}, 0.55),
        ({"rule": "specificity", "at_least": 0.95}, 0.55),
        ({"rule": "specificity", "at_least": 0.6}, 0.325),
        ({"rule": "cost", "false_positive_cost": 5}, 0.55),
        ({"rule": "cost", "false_negative_cost": 5}, 0.375),
        ({"rule": "fixed", "value": 0.2}, 0.2),
    ],
)
def test_thresholds_by_hand(rule, expected):
    assert choose_threshold(TRUTH, SCORE, OperatingPoint(**rule)) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_the_sensitivity_rule_keeps_its_word_with_the_best_specificity(seed):
    pred = draw(300, gain=0.8, seed=seed)
    truth, score = pred.truth.astype(bool), pred.score
    t = choose_threshold(truth, score, OperatingPoint(rule="sensitivity", at_least=0.9))
    assert np.mean(score[truth] >= t) >= 0.9
    higher = score[score >= t].min() + 1e-9
    assert np.mean(score[truth] >= higher) < 0.9


def test_nothing_is_chosen_on_the_test_side():
    with pytest.raises(ValueError, match="cannot be chosen on the 'test' side"):
        choose_threshold(TRUTH, SCORE, OperatingPoint(), side="test")
    with pytest.raises(ValueError, match="cannot be fitted on the 'test' side"):
        fit_calibration(draw(20), "platt", side="test")
    with pytest.raises(ValueError, match="cannot be fitted on the 'test' side"):
        fit_calibration(draw(20), "isotonic", side="test")


def test_a_specificity_that_no_threshold_reaches_is_refused_with_the_reason():
    # A soft-max of single precision says 1 of a negative case.
    score = np.where(np.arange(10) == 0, 1.0, SCORE)
    with pytest.raises(ValueError, match=r"specificity of 0\.95: 1 of 6 negative cases have"):
        choose_threshold(TRUTH, score, OperatingPoint(rule="specificity", at_least=0.95))


def test_one_class_alone_has_no_threshold():
    with pytest.raises(ValueError, match="needs both"):
        choose_threshold([1, 1], [0.2, 0.3], OperatingPoint())


@pytest.mark.parametrize(
    "wrong",
    [
        {"rule": "sensitivity"},
        {"rule": "youden", "at_least": 0.9},
        {"rule": "fixed"},
        {"rule": "guess"},
        {"rule": "sensitivity", "at_least": 1.2},
    ],
)
def test_incomplete_rules_are_refused(wrong):
    with pytest.raises(ValidationError):
        OperatingPoint(**wrong)


def test_the_primary_metric_must_exist():
    assert EvaluateConfig(primary="dice/anterior").primary == "dice/anterior"
    with pytest.raises(ValidationError, match="choose one of"):
        EvaluateConfig(primary="auc")
    with pytest.raises(ValidationError, match="choose one of"):
        EvaluateConfig(primary="threshold")


def test_temperature_undoes_what_made_the_probabilities_too_sharp():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3)) * 1.5
    p = np.exp(logits)
    p /= p.sum(1, keepdims=True)
    target = np.array([rng.choice(3, p=row) for row in p])
    sharp = p**2.5
    sharp /= sharp.sum(1, keepdims=True)
    parameters = json.loads(json.dumps(fit_temperature(target, sharp)))
    # 4000 cases know the temperature to about 3 %.
    assert parameters["temperature"] == pytest.approx(2.5, rel=0.08)
    np.testing.assert_allclose(
        apply_calibration({"method": "temperature", "temperature": 2.5}, sharp), p, atol=1e-9
    )


@pytest.mark.parametrize("positive", ["a", "b"])
def test_platt_lowers_the_loss_and_keeps_the_ranking(positive):
    pred = draw(2000, gain=1.0, positive=positive)
    shifted = pred.probability * np.array([0.2, 1.0])
    shifted /= shifted.sum(1, keepdims=True)
    pred = Predictions(
        pred.case_ids, pred.patient_keys, pred.target, shifted, pred.classes, positive
    )
    parameters = json.loads(json.dumps(fit_calibration(pred, "platt")))
    better = apply_calibration(parameters, shifted)
    np.testing.assert_allclose(better.sum(1), 1)
    assert log_loss(pred.target, better) < log_loss(pred.target, shifted) - 0.05
    column = pred.positive_index
    assert better[:, column].mean() == pytest.approx(pred.truth.mean(), abs=0.01)
    assert auroc(pred.truth, better[:, column]) == pytest.approx(auroc(pred.truth, pred.score))


def test_platt_survives_separable_cases():
    truth = np.repeat([0, 1], 20)
    parameters = fit_calibration(two(truth, 0.01 + 0.98 * truth), "platt")
    assert np.isfinite(list(parameters.values())[1:]).all()


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_platt_and_isotonic_are_for_two_classes(method):
    with pytest.raises(ValueError, match="no single positive class"):
        fit_calibration(draw(30, 3), method)


@pytest.mark.parametrize("positive", ["a", "b"])
@pytest.mark.parametrize("n", [2, 3, 40, 900])
def test_isotonic_agrees_with_scikit_learn_up_to_laplaces_limits(positive, n):
    pred = draw(n, gain=0.7, positive=positive, seed=n)
    theirs = IsotonicRegression(out_of_bounds="clip").fit(pred.score, pred.truth)
    parameters = json.loads(json.dumps(fit_calibration(pred, "isotonic")))
    least = 1 / (n + 2)
    # Asked where it was fitted: between the steps the limits bend the lines.
    found = apply_calibration(parameters, pred.probability)
    expected = theirs.predict(pred.score).clip(least, 1 - least)
    np.testing.assert_allclose(found[:, pred.positive_index], expected, atol=1e-9)
    np.testing.assert_allclose(found.sum(1), 1)
    beyond = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert np.isfinite(apply_calibration(parameters, beyond)).all()


def test_isotonic_mends_what_no_logistic_curve_can():
    rng = np.random.default_rng(3)
    chance = rng.uniform(size=4000)
    truth = (rng.uniform(size=4000) < chance).astype(int)
    stepped = two(truth, np.where(chance < 0.5, chance / 2, 0.5 + chance / 2))
    fresh = rng.uniform(size=4000) < chance
    loss = {}
    for method in ("none", "platt", "isotonic"):
        mended = apply_calibration(fit_calibration(stepped, method), stepped.probability)
        loss[method] = log_loss(fresh.astype(int), mended)
    assert loss["isotonic"] < loss["platt"] - 0.002 < loss["none"]


def test_no_calibration_changes_nothing():
    pred = draw(20, 3)
    found = apply_calibration(fit_calibration(pred, "none"), pred.probability)
    np.testing.assert_array_equal(found, pred.probability)


def test_reliability_counts_every_case_once():
    pred = draw(200)
    curve = reliability(pred.truth, pred.score)
    assert sum(curve.count) == 200
    assert all(np.array(curve.lo) <= np.array(curve.observed))
    weighted = np.average(curve.observed, weights=curve.count)
    assert weighted == pytest.approx(pred.truth.mean())
