"""Whether probabilities are too extreme or too high: logistic recalibration with its limits."""

from math import nan, sqrt

import numpy as np

from tasks.evaluate.calibrate import logit
from tasks.evaluate.intervals import LEVEL, Interval, patient_index
from tasks.evaluate.predictions import Predictions

STEPS = 100
"""Newton steps at most; a fit that exists takes about ten."""

SMALL_STEP = 1e-9
"""Change of the coefficients at which the fit stands."""

METHOD = "sandwich over patients"


def recalibration(pred: Predictions, level: float = LEVEL) -> dict[str, Interval]:
    """Return slope and intercept of calibration of two classes, with intervals.

    ``calibration_slope`` is the coefficient of the logit in a logistic regression of the outcome
    on it (Cox 1958): below 1 the probabilities are too extreme. ``calibration_intercept`` is the
    intercept when the slope is held at 1 (calibration in the large): above 0 they are too low.
    Limits come from the sandwich estimate with patients as clusters and Student's t. Where no
    finite fit exists (one class only, or scores that part the classes) the figure is NaN.
    """
    truth, x = pred.truth.astype(float), logit(pred.score)
    n, index = patient_index(pred.patient_keys)
    ones = np.ones_like(x)
    undefined = Interval(nan, nan, nan, METHOD, n)
    found = {"calibration_slope": undefined, "calibration_intercept": undefined}
    if 0 < truth.sum() < len(truth):
        found["calibration_intercept"] = _fit(ones[:, None], truth, x, index, n, level)
        if _overlap(truth, x):
            design = np.stack([x, ones], 1)
            found["calibration_slope"] = _fit(design, truth, 0 * x, index, n, level)
    return found


def _overlap(truth: np.ndarray, x: np.ndarray) -> bool:
    """Return whether no cut parts the classes either way round."""
    positive, negative = x[truth == 1], x[truth == 0]
    return bool(negative.max() > positive.min() and positive.max() > negative.min())


def _fit(design, truth, offset, index, n_patients, level) -> Interval:
    """Fit a logistic regression and return its first coefficient with limits."""
    from scipy.special import expit, stdtrit

    beta = np.zeros(design.shape[1])
    loss = _loss(design, truth, offset, beta)
    for _ in range(STEPS):
        chance = expit(offset + design @ beta)
        slopes = design.T @ (truth - chance)
        curvature = (design * (chance * (1 - chance))[:, None]).T @ design
        step = np.linalg.lstsq(curvature, slopes, rcond=None)[0]
        # Half as far until it is no worse: far from the solution a whole step overshoots.
        while (after := _loss(design, truth, offset, beta + step)) > loss + 1e-12:
            step = step / 2
        beta, loss = beta + step, after
        if np.abs(step).max() < SMALL_STEP:
            break
    if n_patients < 2:
        return Interval(float(beta[0]), nan, nan, METHOD, n_patients)
    each = np.zeros((n_patients, len(beta)))
    np.add.at(each, index, design * (truth - chance)[:, None])
    bread = np.linalg.pinv(curvature)
    spread = bread @ (each.T @ each) @ bread * n_patients / (n_patients - 1)
    half = float(stdtrit(n_patients - 1, (1 + level) / 2)) * sqrt(spread[0, 0])
    value = float(beta[0])
    return Interval(value, value - half, value + half, METHOD, n_patients)


def _loss(design, truth, offset, beta) -> float:
    z = offset + design @ beta
    return float(np.sum(np.logaddexp(0, z) - truth * z))
