"""Operating point and calibration: chosen on validation cases, frozen, then only applied."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.evaluate.config import OperatingPoint
from tasks.evaluate.intervals import LEVEL, wilson
from tasks.evaluate.metrics import ECE_BINS, PROBABILITY_FLOOR, equal_mass_bins
from tasks.evaluate.predictions import Predictions

CHOOSING_SIDES = ("val", "oof")
"""Sides on which anything may be chosen; a test side is only ever scored."""

TEMPERATURE_RANGE = (0.05, 20.0)
"""Temperatures searched: beyond them probabilities are all but constant, or all but 0 and 1."""


def choose_threshold(target, probability, rule: OperatingPoint, *, side: str = "oof") -> float:
    """Return the probability from which a case is called positive.

    Parameters
    ----------
    target : array (n,) of 0/1
    probability : array (n,) of float
        Of the positive class, validation or out-of-fold cases only.
    rule : OperatingPoint
        ``youden``: largest sensitivity + specificity. ``sensitivity``: the largest threshold that
        reaches `at_least`, i.e. with the best specificity. ``specificity``: the smallest one.
        ``cost``: least expected cost. ``fixed``: `value`. Ties go to the lower threshold, which
        misses fewer.
    side : {"val", "oof"}
        Where the cases come from; any other side is refused.
    """
    if side not in CHOOSING_SIDES:
        raise ValueError(
            f"a threshold cannot be chosen on the {side!r} side; use val or oof, then freeze it"
        )
    if rule.rule == "fixed":
        return float(rule.value)
    truth, score = np.asarray(target, bool), np.asarray(probability, float)
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not positives or not negatives:
        raise ValueError(
            f"{positives} positive and {negatives} negative cases: choosing a threshold needs both"
        )
    levels = np.unique(score)
    # Halfway between neighbours: a score that moves by rounding keeps its side.
    thresholds = np.r_[levels[0] / 2, (levels[:-1] + levels[1:]) / 2, (levels[-1] + 1) / 2]
    sensitivity = 1 - np.searchsorted(np.sort(score[truth]), thresholds) / positives
    specificity = np.searchsorted(np.sort(score[~truth]), thresholds) / negatives
    if rule.rule == "sensitivity":
        best = np.flatnonzero(sensitivity >= rule.at_least)[-1]
    elif rule.rule == "specificity":
        reached = np.flatnonzero(specificity >= rule.at_least)
        if not len(reached):
            raise ValueError(
                f"no threshold reaches a specificity of {rule.at_least:g}: "
                f"{int(np.sum(score[~truth] >= 1))} of {negatives} negative cases have the "
                "probability 1; calibrate by temperature or platt, or ask for less"
            )
        best = reached[0]
    else:
        gain = sensitivity + specificity
        if rule.rule == "cost":
            gain = -rule.false_negative_cost * (1 - sensitivity) * positives
            gain = gain - rule.false_positive_cost * (1 - specificity) * negatives
        best = np.flatnonzero(gain >= gain.max() - 1e-12)[0]
    return float(thresholds[best])


@dataclass(frozen=True)
class ReliabilityCurve:
    """Mean predicted probability and observed share per bin, with Wilson's limits and counts."""

    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    lo: tuple[float, ...]
    hi: tuple[float, ...]
    count: tuple[int, ...]


def reliability(truth, probability, bins: int = ECE_BINS, level: float = LEVEL) -> ReliabilityCurve:
    """Return the points of the reliability diagram, equal-mass bins.

    Parameters
    ----------
    truth : array (n,) of 0/1
    probability : array (n,) of float
        Of the positive class (or of the called class, with truth = call was right).
    """
    truth, probability = np.asarray(truth, float), np.asarray(probability, float)
    member = equal_mass_bins(probability, bins)
    counts = np.bincount(member)
    hits = np.bincount(member, truth)
    limits = [wilson(k, n, level) for k, n in zip(hits, counts, strict=True)]
    return ReliabilityCurve(
        tuple((np.bincount(member, probability) / counts).tolist()),
        tuple((hits / counts).tolist()),
        tuple(lo for lo, _ in limits),
        tuple(hi for _, hi in limits),
        tuple(counts.tolist()),
    )


def fit_calibration(predictions: Predictions, method: str, *, side: str = "oof") -> dict[str, Any]:
    """Return JSON-able parameters for `apply_calibration`, fitted on validation predictions."""
    if side not in CHOOSING_SIDES:
        raise ValueError(f"a calibration cannot be fitted on the {side!r} side; use val or oof")
    if method == "none":
        return {"method": "none"}
    if method == "temperature":
        return fit_temperature(predictions.target, predictions.probability)
    if method == "platt":
        parameters = fit_platt(predictions.truth, predictions.score)
        return {**parameters, "positive": predictions.positive_index}
    if method == "isotonic":
        parameters = fit_isotonic(predictions.truth, predictions.score)
        return {**parameters, "positive": predictions.positive_index}
    raise ValueError(_unknown(method))


def fit_temperature(target, probability) -> dict[str, Any]:
    """Fit one temperature by maximum likelihood (Guo et al., ICML 2017); keeps every ranking.

    Parameters
    ----------
    target : array (n,) of int
    probability : array (n, k) of float
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    logits = _log(probability)
    rows, target = np.arange(len(logits)), np.asarray(target)

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(np.mean(logsumexp(scaled, axis=1) - scaled[rows, target]))

    bounds = tuple(np.log(TEMPERATURE_RANGE))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return {"method": "temperature", "temperature": float(np.exp(found.x))}


def fit_platt(truth, probability) -> dict[str, Any]:
    """Fit a logistic curve on the logit of the positive probability (Platt 1999).

    The targets are Platt's smoothed ones, so that separable cases keep finite parameters.
    """
    from scipy.optimize import minimize

    truth = np.asarray(truth, bool)
    x = logit(probability)
    positives, negatives = truth.sum(), (~truth).sum()
    goal = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        z = parameters[0] * x + parameters[1]
        error = 1 / (1 + np.exp(-np.clip(z, -500, 500))) - goal
        value = np.logaddexp(0, z) - goal * z
        return float(value.mean()), np.array([np.mean(error * x), np.mean(error)])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS")
    return {"method": "platt", "slope": float(found.x[0]), "intercept": float(found.x[1])}


def fit_isotonic(truth, probability) -> dict[str, Any]:
    """Fit the rising steps nearest the outcomes (pool adjacent violators).

    Between the knots lines are drawn. No probability is nearer to 0 or 1 than Laplace's rule
    allows after as many cases: n of n does not make the next one certain.
    """
    from scipy.optimize import isotonic_regression

    levels, member, counts = np.unique(
        np.asarray(probability, float), return_inverse=True, return_counts=True
    )
    shares = np.bincount(member, np.asarray(truth, float)) / counts
    least = 1 / (len(member) + 2)
    steps = np.clip(isotonic_regression(shares, weights=counts).x, least, 1 - least)
    # A step's first and last level draw it; those between say nothing more.
    flat = np.diff(steps) == 0
    kept = ~np.r_[False, flat[:-1] & flat[1:], False][: len(levels)]
    return {"method": "isotonic", "from": levels[kept].tolist(), "to": steps[kept].tolist()}


def apply_calibration(parameters: Mapping[str, Any], probability) -> np.ndarray:
    """Return calibrated probabilities (n, k) of probabilities (n, k)."""
    probability = np.asarray(probability, float)
    method = parameters["method"]
    if method == "none":
        return probability
    if method == "temperature":
        scaled = _log(probability) / parameters["temperature"]
        scaled = np.exp(scaled - scaled.max(1, keepdims=True))
        return scaled / scaled.sum(1, keepdims=True)
    if method in ("platt", "isotonic"):
        positive = int(parameters.get("positive", 1))
        score = probability[:, positive]
        if method == "platt":
            z = parameters["slope"] * logit(score) + parameters["intercept"]
            calibrated = 1 / (1 + np.exp(-np.clip(z, -500, 500)))
        else:
            calibrated = np.interp(score, parameters["from"], parameters["to"])
        out = np.stack([1 - calibrated, calibrated], axis=1)
        return out if positive == 1 else out[:, ::-1]
    raise ValueError(_unknown(method))


def _unknown(method: str) -> str:
    return f"calibration {method!r} is unknown; choose none, temperature, platt or isotonic"


def _log(probability) -> np.ndarray:
    return np.log(np.clip(np.asarray(probability, float), PROBABILITY_FLOOR, 1))


def logit(probability) -> np.ndarray:
    """Return the log-odds of probabilities, which are kept a little from 0 and 1."""
    p = np.clip(np.asarray(probability, float), PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    return np.log(p) - np.log1p(-p)
