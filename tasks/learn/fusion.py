"""Late fusion: one linear model on what several candidates say of a case; light to import.

Each candidate's probability enters as log-odds, so the logistic model calibrates and weighs at once
(stacking: Wolpert 1992, with Platt's scaling).  Numbers enter as they are and get weights that are
not negative, by a ridge (Breiman 1996, "Stacked regressions").  There is one model for each set of
candidates that can be present; a case without a modality gets the one of those it has, instead of a
filled-in value (reduced-feature models: Saar-Tsechansky and Provost 2007).
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tasks.learn.candidate import one_seed

LEAST_PROBABILITY = 1e-4
"""Log-odds stop here: a forest that says 0 must not outvote everything else."""

MOST_MEMBERS = 4
"""15 sets of present candidates; more would have few cases each."""

BETWEEN = "+"
"""Stands between the names of a set of candidates."""


class FusionCandidate(BaseModel):
    """Several candidates as one; they stand in the same scenario."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    kind: Literal["fusion"]
    members: tuple[str, ...] = Field(min_length=2, max_length=MOST_MEMBERS)
    """Names of candidates of kind network or tabular."""
    C: float = Field(1.0, gt=0)
    """Inverse strength of the ridge on the weights."""

    @model_validator(mode="before")
    @classmethod
    def _fitted_once(cls, said: Any) -> Any:
        return one_seed(said)

    @field_validator("members")
    @classmethod
    def _once(cls, members: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(members)) < len(members):
            raise ValueError("a member stands twice")
        return members


def log_odds(probability: np.ndarray) -> np.ndarray:
    """Return (n, k - 1) log-odds against the first class of probabilities (n, k)."""
    kept = np.log(np.maximum(probability, LEAST_PROBABILITY))
    return kept[:, 1:] - kept[:, :1]


def entered(said: np.ndarray) -> np.ndarray:
    """Return what of a member's answers (n, k) the model sees: log-odds, or the number itself."""
    return said if said.shape[1] == 1 else log_odds(said)


def fit_fusion(
    said: Mapping[str, np.ndarray], target: np.ndarray, n_classes: int, C: float = 1.0
) -> dict[str, Any]:
    """Fit the models of all sets of members.

    Parameters
    ----------
    said : mapping of str to (n, k) array
        Each member's probabilities of the same cases, or its number in one column, by models that
        did not see them; a row of NaN where the member has no input.
    target : (n,) array
        Class numbers, or the true numbers.
    n_classes : int
        1 of a number.
    C : float

    Returns
    -------
    dict
        JSON-able, for `apply_fusion`: ``members``, ``prior`` and ``models`` by set.

    Raises
    ------
    ValueError
        When all members together never spoke of two classes, or of two numbers.
    """
    fit = _fit_number if n_classes == 1 else _fit_classes
    names, target = list(said), np.asarray(target)
    models: dict[str, Any] = {}
    for size in range(len(names), 0, -1):
        for chosen in combinations(names, size):
            rows = np.all([_speaks(said[name]) for name in chosen], axis=0)
            if len(np.unique(target[rows])) < 2:
                continue
            x = np.concatenate([entered(said[name][rows]) for name in chosen], axis=1)
            models[BETWEEN.join(chosen)] = fit(x, target[rows], n_classes, C)
    if not models:
        what = "numbers" if n_classes == 1 else "classes"
        raise ValueError(f"no cases of two {what} were judged by a member: nothing can be fused")
    if n_classes == 1:
        return {"members": names, "prior": [float(target.mean())], "models": models}
    prior = (np.bincount(target, minlength=n_classes) + 1) / (len(target) + n_classes)
    return {"members": names, "prior": prior.tolist(), "models": models}


def apply_fusion(fusion: Mapping[str, Any], said: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return probabilities (n, k), or numbers (n, 1).

    Of a case no model knows it is the shares of the training classes, or their mean number.

    Where the exact set of present members had no model, the largest one of them that had decides.
    """
    names = fusion["members"]
    present = np.stack([_speaks(said[name]) for name in names], axis=1)
    out = np.tile(np.asarray(fusion["prior"]), (len(present), 1))
    for pattern in np.unique(present, axis=0):
        rows = np.flatnonzero((present == pattern).all(1))
        chosen = _known([n for n, there in zip(names, pattern, strict=True) if there], fusion)
        if not chosen:
            continue
        model = fusion["models"][BETWEEN.join(chosen)]
        x = np.concatenate([entered(said[name][rows]) for name in chosen], axis=1)
        score = x @ np.asarray(model["weights"]).T + np.asarray(model["intercepts"])
        if out.shape[1] == 1:
            out[rows] = score
            continue
        odds = np.exp(score - score.max(1, keepdims=True))
        out[rows] = odds / odds.sum(1, keepdims=True)
    return out


def _known(names: Sequence[str], fusion: Mapping[str, Any]) -> tuple[str, ...]:
    sets = [c for size in range(len(names), 0, -1) for c in combinations(names, size)]
    return next((c for c in sets if BETWEEN.join(c) in fusion["models"]), ())


def _speaks(probability: np.ndarray) -> np.ndarray:
    return ~np.isnan(probability).any(1)


NEVER = -30.0
"""Score of a class that no case had."""


def _fit_number(x: np.ndarray, target: np.ndarray, _: int, C: float) -> dict[str, Any]:
    """Fit weights that are not negative; in standard units, so that C has one meaning in any."""
    from sklearn.linear_model import Ridge

    centre, scale = float(target.mean()), float(target.std())
    model = Ridge(alpha=1 / C, positive=True).fit((x - centre) / scale, (target - centre) / scale)
    intercept = centre * (1 - float(model.coef_.sum())) + scale * float(model.intercept_)
    return {"weights": [model.coef_.tolist()], "intercepts": [intercept]}


def _fit_classes(x: np.ndarray, target: np.ndarray, n_classes: int, C: float) -> dict[str, Any]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=C, max_iter=5000).fit(x, target)
    weights = np.zeros((n_classes, model.coef_.shape[1]))
    intercepts = np.full(n_classes, NEVER)
    if len(model.classes_) == 2:
        first, second = model.classes_
        intercepts[first] = 0.0
        weights[second], intercepts[second] = model.coef_[0], model.intercept_[0]
    else:
        weights[model.classes_], intercepts[model.classes_] = model.coef_, model.intercept_
    return {"weights": weights.tolist(), "intercepts": intercepts.tolist()}
