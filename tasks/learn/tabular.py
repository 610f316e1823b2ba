"""Tabular candidates: nested tuning, out-of-fold probabilities, the final fit.

Source of the method: nested cross-validation by patient (Varma and Simon 2006, BMC Bioinformatics
7:91); probabilities of support vector machines by Platt's sigmoid on held-out decision values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.errors import LeakageError
from tasks.learn.candidate import TabularCandidate, nearest, search_score
from tasks.learn.estimators import build_pipeline, describe, needs_calibration
from tasks.learn.scoring import RANKED, score
from tasks.learn.search import (
    RunTrials,
    SearchResult,
    grid,
    patient_folds,
    propose,
    search,
)
from tasks.learn.space import has_span

if TYPE_CHECKING:
    import pandas as pd

CALIBRATION_FOLDS = 5
"""Patient folds whose held-out decision values fit Platt's sigmoid."""


@dataclass(frozen=True)
class FoldOutcome:
    """What one outer fold gave; ``rows`` (m,) index the frame, ``probability`` is (m, k)."""

    fold: int
    rows: np.ndarray
    probability: np.ndarray
    score: float
    params: Mapping[str, Any]
    trials: SearchResult | None
    seconds: float


def table_frame(
    facts: Sequence[Mapping[str, object]],
    features: Sequence[str] = (),
    leave_out: Sequence[str] = (),
) -> "pd.DataFrame":
    """Return one row a case: the named features, or all columns in sorted order but the left out.

    A column of numbers and empty cells becomes float64, any other text.  Raises ValueError when a
    named feature is nowhere, or is one of those that must be left out (label, split).
    """
    import pandas as pd

    known = sorted({name for case in facts for name in case})
    missing = [name for name in features if name not in known]
    if missing:
        raise ValueError(nearest("feature", missing[0], known))
    leaking = sorted(set(features) & set(leave_out))
    if leaking:
        raise ValueError(f"feature {leaking[0]!r} holds the label or the split: remove it")
    columns = {}
    for name in features or [name for name in known if name not in leave_out]:
        values = [case.get(name) for case in facts]
        if all(value is None or isinstance(value, int | float) for value in values):
            columns[name] = pd.Series(
                [np.nan if value is None else float(value) for value in values], dtype="float64"
            )
        else:
            columns[name] = pd.Series(
                ["missing" if value is None else str(value) for value in values], dtype="str"
            )
    return pd.DataFrame(columns)


def fit_pipeline(
    candidate: TabularCandidate,
    params: Mapping[str, Any],
    X: "pd.DataFrame",
    y: np.ndarray,
    groups: np.ndarray,
    seed: int,
) -> Any:
    """Fit one setting on all rows given and return an estimator with ``predict_proba``."""
    pipeline = _unfitted(candidate, params, X, seed)
    if not needs_calibration(candidate.estimator, pipeline):
        return pipeline.fit(X, y)
    from sklearn.calibration import CalibratedClassifierCV

    splits = patient_folds(y, groups, CALIBRATION_FOLDS, seed)
    model = CalibratedClassifierCV(pipeline, method="sigmoid", ensemble=False, cv=splits)
    model.fit(X, y)
    # The row numbers of the training patients have no place in the stored model.
    return model.set_params(cv=None)


def _unfitted(
    candidate: TabularCandidate, params: Mapping[str, Any], X: "pd.DataFrame", seed: int
) -> Any:
    row = describe(candidate.estimator)
    if row is not None and row.raw and X.isna().any(axis=None):
        count = int(X.isna().any(axis=1).sum())
        raise ValueError(
            f"{candidate.estimator} takes no empty cells and {count} of {len(X)} rows have some: "
            "choose another estimator or fill them"
        )
    return build_pipeline(candidate.estimator, {**candidate.params, **params}, X, seed)


def predict_table(model: Any, X: "pd.DataFrame", n_classes: int) -> np.ndarray:
    """Return probabilities (n, k) from a frame whose columns may come in any order.

    Raises ValueError when a column of the training is missing, or text stands for a number.
    """
    X = in_order(model, X)
    probability = np.zeros((len(X), n_classes))
    probability[:, np.asarray(model.classes_, dtype=int)] = model.predict_proba(X)
    return probability


def in_order(model: Any, X: "pd.DataFrame") -> "pd.DataFrame":
    """Return the columns a fitted model wants of a frame, as it was fitted on them.

    Raises ValueError when one is missing, or text stands for a number.
    """
    import pandas as pd

    wanted = list(model.feature_names_in_)
    missing = [name for name in wanted if name not in X.columns]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(wanted)} columns the model was trained on are missing, "
            f"e.g. {missing[0]}: supply them"
        )
    X = X[wanted].copy()
    parts = {name: columns for name, _, columns in _transformers(model)}
    for name in parts.get("numbers", ()):
        try:
            X[name] = pd.to_numeric(X[name]).astype("float64")
        except (ValueError, TypeError) as error:
            raise ValueError(f"column {name} was a number in training: supply numbers") from error
    for name in parts.get("words", ()):
        X[name] = X[name].astype("str")
    return X


def _transformers(model: Any) -> list[tuple]:
    """Return (name, transformer, columns) of a fitted pipeline or of the calibrated one inside."""
    return getattr(model, "estimator", model).named_steps["columns"].transformers


def tune(
    candidate: TabularCandidate,
    X: "pd.DataFrame",
    y: np.ndarray,
    groups: np.ndarray,
    seed: int,
    run_trials: RunTrials | None = None,
    primary: str = "auroc",
) -> SearchResult | None:
    """Search the candidate's space by inner folds over patients; None without a space."""
    if not candidate.search:
        return None
    splits = patient_folds(y, groups, candidate.inner_folds, seed)
    score_split = partial(_score_split, candidate, X, y, groups, seed, primary)
    if has_span(candidate.search):
        return propose(
            score_split, candidate.search, candidate.max_trials, splits, seed, run_trials
        )
    settings = grid(candidate.search, candidate.max_trials, seed)
    return search(score_split, settings, splits, run_trials)


def _score_split(
    candidate: TabularCandidate,
    X: "pd.DataFrame",
    y: np.ndarray,
    groups: np.ndarray,
    seed: int,
    primary: str,
    params: Mapping[str, Any],
    train: np.ndarray,
    held: np.ndarray,
) -> float:
    k = int(y.max()) + 1
    model = _unfitted(candidate, params, X.iloc[train], seed)
    by_rank = search_score(primary) in RANKED and k == 2
    if by_rank and needs_calibration(candidate.estimator, model):
        # The sigmoid rises with the decision value, so a sixth of the fits gives the same ranks.
        values = model.fit(X.iloc[train], y[train]).decision_function(X.iloc[held])
        ranks = np.unique(values, return_inverse=True)[1] / len(values)
        return score(primary, y[held], np.stack([1 - ranks, ranks], axis=1))
    model = fit_pipeline(candidate, params, X.iloc[train], y[train], groups[train], seed)
    return score(primary, y[held], predict_table(model, X.iloc[held], k))


def fold_sides(groups: np.ndarray, folds: np.ndarray, fold: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows outside a fold and those inside; LeakageError when they share a patient."""
    train, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
    if shared := set(groups[train]) & set(groups[held]):
        raise LeakageError(
            f"{len(shared)} patients stand both in fold {fold} and outside it: assign folds by "
            "patient"
        )
    return train, held


def fit_fold(
    candidate: TabularCandidate,
    X: "pd.DataFrame",
    y: np.ndarray,
    groups: np.ndarray,
    folds: np.ndarray,
    fold: int,
    seed: int,
    run_trials: RunTrials | None = None,
    *,
    primary: str = "auroc",
    n_classes: int | None = None,
) -> FoldOutcome:
    """Tune and fit without one outer fold and predict it.

    Parameters
    ----------
    X : DataFrame (n rows)
    y : ndarray (n,) of int
        Class numbers 0..k-1.
    groups : ndarray (n,)
        Patient of each row; no patient may stand in two folds (LeakageError).
    folds : ndarray (n,) of int
        Outer fold of each row, from the split.
    fold : int
        The one left out.
    seed : int
        Of the estimators, the inner folds and the sample of the grid.
    run_trials : callable, optional
        See `tasks.learn.search`.
    primary : str
        What the inner search optimises and the fold reports; see `score`.
    n_classes : int, optional
        By default one more than the highest number.
    """
    started = perf_counter()
    train, held = fold_sides(groups, folds, fold)
    k = n_classes or int(y.max()) + 1
    found = tune(candidate, X.iloc[train], y[train], groups[train], seed, run_trials, primary)
    params = dict(found.best) if found else {}
    model = fit_pipeline(candidate, params, X.iloc[train], y[train], groups[train], seed)
    probability = predict_table(model, X.iloc[held], k)
    value = score(primary, y[held], probability)
    return FoldOutcome(fold, held, probability, value, params, found, perf_counter() - started)


def fit_final(
    candidate: TabularCandidate,
    X: "pd.DataFrame",
    y: np.ndarray,
    groups: np.ndarray,
    seed: int,
    run_trials: RunTrials | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    primary: str = "auroc",
) -> Any:
    """Refit on the whole training side, with ``params`` or with what `tune` finds there."""
    if params is None:
        found = tune(candidate, X, y, groups, seed, run_trials, primary)
        params = found.best if found else {}
    return fit_pipeline(candidate, params, X, y, groups, seed)
