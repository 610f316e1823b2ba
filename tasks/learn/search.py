"""Choose a candidate's parameters by inner cross-validation over patients; knows no engine.

Trials run through a ``run_trials(function, trials)`` callable that returns the results in order, so
that a flow may spread them; `run_here` is the plain loop.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from tasks.learn.optimise import Ask, Search, Told, optimise
from tasks.learn.space import Space

T = TypeVar("T")
R = TypeVar("R")
RunTrials = Callable[[Callable[[T], R], Sequence[T]], list[R]]

MIN_FOLDS = 2
"""Fewer cannot hold anything out."""


@dataclass(frozen=True)
class Trial:
    """One setting of the search space with its inner cross-validation score (higher is better)."""

    params: Mapping[str, Any]
    score: float
    sd: float


@dataclass(frozen=True)
class SearchResult:
    """The chosen setting and every trial, in the order of the grid."""

    best: Mapping[str, Any]
    trials: tuple[Trial, ...]


def run_here(function: Callable[[T], R], trials: Sequence[T]) -> list[R]:
    """Run the trials one after the other in this process."""
    return [function(trial) for trial in trials]


def grid(
    space: Mapping[str, Sequence[Any]], max_trials: int, seed: int
) -> tuple[dict[str, Any], ...]:
    """Return the settings of a space: all, or a seeded sample of ``max_trials`` in order."""
    names = list(space)
    settings = [
        dict(zip(names, values, strict=True)) for values in itertools.product(*space.values())
    ]
    if len(settings) <= max_trials:
        return tuple(settings)
    drawn = np.random.default_rng(seed).choice(len(settings), max_trials, replace=False)
    return tuple(settings[k] for k in sorted(drawn))


def patient_folds(
    y: np.ndarray, groups: np.ndarray, folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (train rows, held-out rows) of stratified folds in which no patient is on both sides.

    Parameters
    ----------
    y : ndarray (n,) of int
    groups : ndarray (n,)
        Patient of each row.
    folds : int
        Wanted number; lowered to the number of patients of the rarest class.

    Raises
    ------
    ValueError
        When a class has fewer than 2 patients.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    patients = {int(label): len(set(groups[y == label])) for label in np.unique(y)}
    rarest = min(patients, key=lambda label: patients[label])
    folds = min(folds, patients[rarest])
    if folds < MIN_FOLDS or len(patients) < MIN_FOLDS:
        raise ValueError(
            f"class {rarest} has {patients[rarest]} training patients of {len(patients)} classes "
            f"and inner cross-validation needs at least {MIN_FOLDS} of each of 2: "
            "add labelled patients or merge classes"
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return [(train, held) for train, held in splitter.split(np.zeros(len(y)), y, groups)]


def search(
    score_split: Callable[[Mapping[str, Any], np.ndarray, np.ndarray], float],
    settings: Sequence[Mapping[str, Any]],
    splits: Sequence[tuple[np.ndarray, np.ndarray]],
    run_trials: RunTrials | None = None,
) -> SearchResult:
    """Score every setting on every split and return the best mean; a tie goes to the earlier one.

    ``score_split(params, train, held)`` must be picklable where ``run_trials`` sends it elsewhere.
    """
    scores = (run_trials or run_here)(partial(_score_setting, score_split, splits), settings)
    trials = tuple(
        Trial(dict(params), float(np.mean(values)), float(np.std(values)))
        for params, values in zip(settings, scores, strict=True)
    )
    best = max(range(len(trials)), key=lambda k: (trials[k].score, -k))
    return SearchResult(dict(trials[best].params), trials)


def propose(
    score_split: Callable[[Mapping[str, Any], np.ndarray, np.ndarray], float],
    space: Space,
    trials: int,
    splits: Sequence[tuple[np.ndarray, np.ndarray]],
    seed: int,
    run_trials: RunTrials | None = None,
) -> SearchResult:
    """Search a space with spans, as :func:`search` does lists: by `tasks.learn.optimise`."""
    scored: dict[int, list[float]] = {}

    def run(asked: Sequence[Ask]) -> list[Told]:
        function = partial(_score_setting, score_split, splits)
        values = (run_trials or run_here)(function, [ask.params for ask in asked])
        scored.update({ask.number: one for ask, one in zip(asked, values, strict=True)})
        return [
            Told(ask.number, ask.params, (float(np.mean(one)),))
            for ask, one in zip(asked, values, strict=True)
        ]

    optuna_search = Search(space, trials, seed)
    best = optimise(optuna_search, run)
    found = tuple(
        Trial(dict(t.params), t.score, float(np.std(scored[t.number])))
        for t in optuna_search.told()
    )
    return SearchResult(dict(best.params), found)


def table_rows(result: SearchResult) -> list[dict[str, Any]]:
    """Return the trials of a table's search as they travel and are shown."""
    chosen = next(k for k, one in enumerate(result.trials) if one.params == result.best)
    return [
        {
            "trial": k,
            "state": "chosen" if k == chosen else "done",
            "score": one.score,
            "params": dict(one.params),
        }
        for k, one in enumerate(result.trials)
    ]


def _score_setting(
    score_split: Callable[[Mapping[str, Any], np.ndarray, np.ndarray], float],
    splits: Sequence[tuple[np.ndarray, np.ndarray]],
    params: Mapping[str, Any],
) -> list[float]:
    return [score_split(params, train, held) for train, held in splits]
