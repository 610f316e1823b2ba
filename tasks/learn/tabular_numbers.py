"""Tabular candidates that estimate a number: nested tuning, out-of-fold estimates, the final fit.

As `tasks.learn.tabular` for classes; inner folds are of whole patients and know no strata.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.learn.candidate import TabularCandidate
from tasks.learn.estimators import build_pipeline
from tasks.learn.scoring import number_score
from tasks.learn.search import MIN_FOLDS, SearchResult, grid, propose, search
from tasks.learn.space import has_span
from tasks.learn.tabular import FoldOutcome, fold_sides, in_order

if TYPE_CHECKING:
    import pandas as pd


def predict_numbers(model: Any, X: "pd.DataFrame") -> np.ndarray:
    """Return estimates (n,) from a frame whose columns may come in any order.

    Raises ValueError when a column of the training is missing, or text stands for a number.
    """
    return np.asarray(model.predict(in_order(model, X)), dtype=np.float64)


def fit_fold_numbers(
    candidate: TabularCandidate,
    X: "pd.DataFrame",
    y: np.ndarray,
    groups: np.ndarray,
    folds: np.ndarray,
    fold: int,
    seed: int,
    *,
    primary: str = "mae",
) -> FoldOutcome:
    """Tune and fit without one outer fold and estimate it.

    Parameters
    ----------
    candidate : TabularCandidate
    X : DataFrame (n rows)
    y : ndarray (n,) of float
    groups : ndarray (n,)
        Patient of each row; no patient may stand in two folds (LeakageError).
    folds : ndarray (n,) of int
    fold : int
        The one that is left out.
    seed : int
    primary : str
        What the inner search optimises: ``mae``, ``rmse``, ``r2`` or ``spearman``.

    Returns
    -------
    FoldOutcome
        Its ``probability`` (m, 1) holds the estimates.
    """
    started = perf_counter()
    train, held = fold_sides(groups, folds, fold)
    found = _tune(candidate, X.iloc[train], y[train], groups[train], seed, primary)
    params = dict(found.best) if found else {}
    model = _fit(candidate, params, X.iloc[train], y[train], seed)
    value = predict_numbers(model, X.iloc[held])
    reached = number_score(primary, y[held], value)
    seconds = perf_counter() - started
    return FoldOutcome(fold, held, value[:, None], reached, params, found, seconds)


def fit_final_numbers(
    candidate: TabularCandidate,
    X: "pd.DataFrame",
    y: np.ndarray,
    groups: np.ndarray,
    seed: int,
    *,
    primary: str = "mae",
) -> Any:
    """Refit on the whole training side with what a search finds there."""
    found = _tune(candidate, X, y, groups, seed, primary)
    return _fit(candidate, found.best if found else {}, X, y, seed)


def _fit(
    candidate: TabularCandidate, params: Mapping[str, Any], X: "pd.DataFrame", y: np.ndarray,
    seed: int,
) -> Any:  # fmt: skip
    settings = {**candidate.params, **params}
    return build_pipeline(candidate.estimator, settings, X, seed, numbers=True).fit(X, y)


def _tune(
    candidate: TabularCandidate,
    X: "pd.DataFrame",
    y: np.ndarray,
    groups: np.ndarray,
    seed: int,
    primary: str,
) -> SearchResult | None:
    if not candidate.search:
        return None
    splits = _patient_folds(groups, candidate.inner_folds, seed)
    judge = partial(_score_split, candidate, X, y, seed, primary)
    if has_span(candidate.search):
        return propose(judge, candidate.search, candidate.max_trials, splits, seed)
    return search(judge, grid(candidate.search, candidate.max_trials, seed), splits)


def _patient_folds(
    groups: np.ndarray, folds: int, seed: int
) -> Sequence[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import GroupKFold

    folds = min(folds, len(set(groups)))
    if folds < MIN_FOLDS:
        raise ValueError(
            f"{len(set(groups))} training patients: a search needs at least {MIN_FOLDS}; add "
            "labelled patients or remove search"
        )
    splitter = GroupKFold(folds, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(groups)), groups=groups))


def _score_split(
    candidate: TabularCandidate,
    X: "pd.DataFrame",
    y: np.ndarray,
    seed: int,
    primary: str,
    params: Mapping[str, Any],
    train: np.ndarray,
    held: np.ndarray,
) -> float:
    model = _fit(candidate, params, X.iloc[train], y[train], seed)
    return number_score(primary, y[held], predict_numbers(model, X.iloc[held]))
