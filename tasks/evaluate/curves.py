"""Points and bands of the ROC and precision-recall curves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.evaluate.intervals import LEVEL, REPLICATES, resampled_weights
from tasks.evaluate.metrics import grouped_weights

GRID = 101
"""Points of the horizontal axis on which the bands of replicates are taken."""


@dataclass(frozen=True, eq=False)
class Curve:
    """A stepped curve (x, y) and the band (grid, lo, hi) of patient resampling."""

    x: np.ndarray
    y: np.ndarray
    grid: np.ndarray
    lo: np.ndarray
    hi: np.ndarray


def roc_points(truth, score, weight=None) -> tuple[np.ndarray, np.ndarray]:
    """Return 1 - specificity and sensitivity at each threshold, from the strictest.

    Parameters
    ----------
    truth : array (n,) of 0 and 1
    score : array (n,) of float
    weight : array (n,) or (replicates, n), optional
        Of the cases.

    Returns
    -------
    two arrays (..., g + 1)
        One more than there are different scores; the first is 0.
    """
    positive, negative = grouped_weights(truth, score, weight)
    return _shares(negative), _shares(positive)


def precision_recall_points(truth, score, weight=None) -> tuple[np.ndarray, np.ndarray]:
    """Return recall and precision at each threshold, from the strictest; arrays (..., g)."""
    positive, negative = grouped_weights(truth, score, weight)
    found = np.cumsum(positive[..., ::-1], -1)
    called = np.cumsum((positive + negative)[..., ::-1], -1)
    precision = np.where(called > 0, found / np.where(called > 0, called, 1), np.nan)
    return _shares(positive)[..., 1:], precision


def roc_curve(
    truth, score, patient_keys: Sequence[str], *, replicates: int = REPLICATES, seed: int = 0
) -> Curve:
    """Return the ROC curve; the band is that of the sensitivity at each false-positive rate.

    Parameters
    ----------
    truth : array (n,) of 0 and 1
    score : array (n,) of float
    patient_keys : sequence of str, length n
        Patients are resampled, not cases.
    replicates, seed : int
    """
    grid = np.linspace(0, 1, GRID)
    x, y = roc_points(truth, score)
    rows = []
    for weight in resampled_weights(patient_keys, replicates, seed):
        fpr, tpr = roc_points(truth, score, weight)
        rows += [
            np.interp(grid, *_steps(a, b))
            for a, b in zip(fpr, tpr, strict=True)
            if np.isfinite(a[-1]) and np.isfinite(b[-1])
        ]
    return Curve(x, y, grid, *_band(rows))


def precision_recall_curve(
    truth, score, patient_keys: Sequence[str], *, replicates: int = REPLICATES, seed: int = 0
) -> Curve:
    """Return the precision-recall curve; the band is that of the precision at each recall.

    Parameters are those of `roc_curve`.
    """
    grid = np.linspace(0, 1, GRID)
    x, y = precision_recall_points(truth, score)
    rows = []
    for weight in resampled_weights(patient_keys, replicates, seed):
        recall, precision = precision_recall_points(truth, score, weight)
        for a, b in zip(recall, precision, strict=True):
            if np.isfinite(a[-1]):
                # The precision where this recall is first reached, as the steps are drawn.
                first = np.minimum(np.searchsorted(a, grid - 1e-12), len(a) - 1)
                rows.append(b[first])
    return Curve(x, y, grid, *_band(rows))


def _steps(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep the highest point over each x, which is where the stepped curve stands."""
    last = np.r_[np.diff(x) > 0, True]
    return x[last], y[last]


def _band(rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    if not rows:
        return np.full(GRID, np.nan), np.full(GRID, np.nan)
    table = np.stack(rows)
    # The strictest thresholds of a replicate may call nothing: no precision there.
    tail = (1 - LEVEL) / 2
    lo, hi = np.full(GRID, np.nan), np.full(GRID, np.nan)
    there = ~np.isnan(table).all(0)
    lo[there], hi[there] = np.nanquantile(table[:, there], [tail, 1 - tail], axis=0)
    return lo, hi


def _shares(mass: np.ndarray) -> np.ndarray:
    total = mass.sum(-1, keepdims=True)
    share = np.cumsum(mass[..., ::-1], -1) / np.where(total > 0, total, np.nan)
    return np.concatenate([np.zeros_like(share[..., :1]), share], -1)
