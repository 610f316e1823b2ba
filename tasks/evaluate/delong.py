"""Variance of the area under the ROC curve, alone and paired, without resampling."""

from math import exp, log, sqrt
from statistics import NormalDist

import numpy as np


def midranks(values: np.ndarray) -> np.ndarray:
    """Return ranks from 1, ties sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def placements(truth, score) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the AUROC and what each case contributes to it (DeLong 1988, ranks of Sun & Xu 2014).

    Parameters
    ----------
    truth : array (n,) of bool or 0/1
    score : array (n,) of float

    Returns
    -------
    auroc : float
    of_positives : array (n_pos,), share of negatives below each positive
    of_negatives : array (n_neg,), share of positives above each negative
    """
    truth, score = np.asarray(truth, bool), np.asarray(score, float)
    positive, negative = score[truth], score[~truth]
    m, n = len(positive), len(negative)
    if not m or not n:
        raise ValueError(f"{m} positive and {n} negative cases: an AUROC needs both")
    ranks = midranks(np.concatenate([positive, negative]))
    of_positives = (ranks[:m] - midranks(positive)) / n
    of_negatives = 1 - (ranks[m:] - midranks(negative)) / m
    return float(of_positives.mean()), of_positives, of_negatives


def auroc_covariance(truth, scores) -> tuple[np.ndarray, np.ndarray]:
    """Return the AUROCs (r,) of r scores (r, n) of the same cases and their covariance (r, r).

    NaN where fewer than two cases of a class leave no variance.
    """
    parts = [placements(truth, score) for score in scores]
    area = np.array([part[0] for part in parts])
    positives, negatives = np.array([p[1] for p in parts]), np.array([p[2] for p in parts])
    m, n = positives.shape[1], negatives.shape[1]
    if m < 2 or n < 2:
        return area, np.full((len(parts), len(parts)), np.nan)
    return area, np.atleast_2d(np.cov(positives) / m + np.cov(negatives) / n)


def auroc_interval(truth, score, level: float = 0.95) -> tuple[float, float, float, str]:
    """Return AUROC, lower and upper limit, and the method used.

    DeLong's variance on the logit scale, which stays within 0..1; where it is not defined (perfect
    separation, or one case of a class) Newcombe's score interval, which does not shrink to a point.
    """
    area, covariance = auroc_covariance(truth, [score])
    value, variance = float(area[0]), float(covariance[0, 0])
    if not variance > 0 or not 0 < value < 1:
        positives = int(np.sum(np.asarray(truth, bool)))
        lo, hi = newcombe_interval(value, positives, len(score) - positives, level)
        return value, lo, hi, "newcombe"
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre, half = log(value / (1 - value)), z * sqrt(variance) / (value * (1 - value))
    return value, _expit(centre - half), _expit(centre + half), "delong-logit"


def error_as_if_unpaired(truth, first, second, level: float = 0.95) -> float:
    """Return a standard error of the difference of two AUROCs where DeLong's is 0.

    So it is of a perfect score beside one that says the same of everybody: nothing varies in such
    cases, and would in others. The distance from the difference to the limit on the side of 0 is
    put together from those of both areas (Zou and Donner, Stat Med 2008), as if unpaired.
    """
    better, worse = sorted(
        (auroc_interval(truth, score, level)[:3] for score in (first, second)), reverse=True
    )
    reach = sqrt((better[0] - better[1]) ** 2 + (worse[2] - worse[0]) ** 2)
    return reach / NormalDist().inv_cdf((1 + level) / 2)


def hanley_mcneil_variance(area: float, positives: int, negatives: int) -> float:
    """Return the variance an AUROC of this size has under Newcombe's symmetric model.

    Newcombe, Stat Med 2006 (method 5): Hanley and McNeil's formula with both group sizes replaced
    by their mean, so that it does not depend on which class is called positive.
    """
    mean = (positives + negatives) / 2 - 1
    spread = 1 + mean * (1 - area) / (2 - area) + mean * area / (1 + area)
    return area * (1 - area) * spread / (positives * negatives)


def newcombe_interval(
    value: float, positives: int, negatives: int, level: float = 0.95
) -> tuple[float, float]:
    """Return the areas whose own standard error leaves `value` within reach (a score interval)."""
    from scipy.optimize import brentq

    z = NormalDist().inv_cdf((1 + level) / 2)

    def distance(area: float) -> float:
        return (value - area) ** 2 - z**2 * hanley_mcneil_variance(area, positives, negatives)

    lo = 0.0 if value <= 0 else brentq(distance, 0.0, value - 1e-12)
    hi = 1.0 if value >= 1 else brentq(distance, value + 1e-12, 1.0)
    return float(lo), float(hi)


def _expit(x: float) -> float:
    return 1 / (1 + exp(-x)) if x >= 0 else exp(x) / (1 + exp(x))
