"""Cross-validation of a candidate in one place: the package fits one fold a task."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.learn.tabular import fit_fold


@dataclass(frozen=True)
class OutOfFold:
    """Probabilities (n, k): no row's patient was seen by the model that predicts it."""

    probability: np.ndarray
    fold_scores: tuple[float, ...]
    best_params: tuple[Any, ...]


def cross_validate(candidate, X, y, groups, folds, seed, run_trials=None) -> OutOfFold:
    """Fit every fold and put them together."""
    outcomes = [
        fit_fold(candidate, X, y, groups, folds, int(fold), seed, run_trials)
        for fold in np.unique(folds)
    ]
    probability = np.full((len(y), outcomes[0].probability.shape[1]), np.nan)
    for one in outcomes:
        probability[one.rows] = one.probability
    scores, params = zip(*((one.score, one.params) for one in outcomes), strict=True)
    return OutOfFold(probability, scores, params)
