"""Which columns a tabular model leans on: permutation importance, and signed weights if linear."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.learn.scoring import number_score, score
from tasks.learn.tabular import predict_table
from tasks.learn.tabular_numbers import predict_numbers

if TYPE_CHECKING:
    import pandas as pd


def feature_importance(
    model: Any,
    X: "pd.DataFrame",
    y: np.ndarray,
    seed: int,
    *,
    primary: str = "auroc",
    repeats: int = 10,
    numbers: bool = False,
) -> list[dict[str, Any]]:
    """Return one row a column, most important first: feature, importance, sd, weight.

    Parameters
    ----------
    model : fitted pipeline
    X : DataFrame (n, columns)
        Rows the model has not seen.
    y : array (n,)
        Class numbers, or the true numbers of a regression.
    seed : int
    primary : str
        Figure whose fall is measured, see `tasks.learn.scoring`.
    repeats : int
        Shuffles a column.
    numbers : bool
        Whether the model estimates a number.

    Notes
    -----
    ``importance`` is how much the primary score falls, on average over ``repeats``, when the
    column is shuffled (Breiman 2001, Machine Learning 45:5).  ``weight`` is the coefficient on the
    scaled column of a linear model of two classes or of a number, else None; columns that tell the
    same story share their importance.
    """
    rng = np.random.default_rng(seed)

    def reached(frame: "pd.DataFrame") -> float:
        if numbers:
            return number_score(primary, y, predict_numbers(model, frame))
        return score(primary, y, predict_table(model, frame, int(y.max()) + 1))

    whole = reached(X)
    weights = _weights(model)
    rows = []
    for name in model.feature_names_in_:
        falls = []
        for _ in range(repeats):
            shuffled = X.copy()
            shuffled[name] = X[name].to_numpy()[rng.permutation(len(X))]
            falls.append(whole - reached(shuffled))
        rows.append(
            {
                "feature": str(name),
                "importance": float(np.mean(falls)),
                "sd": float(np.std(falls)),
                "weight": weights.get(str(name)),
            }
        )
    return sorted(rows, key=lambda row: (-row["importance"], row["feature"]))


def _weights(model: Any) -> Mapping[str, float]:
    fitted = model
    if hasattr(model, "calibrated_classifiers_"):
        fitted = model.calibrated_classifiers_[0].estimator
    last = fitted.named_steps["model"]
    linear = hasattr(last, "coef_") and getattr(last, "kernel", "linear") == "linear"
    if not linear or len(np.atleast_2d(last.coef_)) != 1:
        return {}
    names = fitted.named_steps["columns"].get_feature_names_out()
    return {str(name): float(w) for name, w in zip(names, np.ravel(last.coef_), strict=True)}
