"""Which columns a tabular model leans on: permutation importance, and signed weights if linear."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.learn.scoring import score
from tasks.learn.tabular import predict_table

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
) -> list[dict[str, Any]]:
    """Return one row a column, most important first: feature, importance, sd, weight.

    Parameters
    ----------
    model : fitted pipeline
    X : DataFrame (n, columns)
        Rows the model has not seen.
    y : array (n,) of int
        Class numbers.
    seed : int
    primary : str
        Figure whose fall is measured, see `tasks.learn.scoring.score`.
    repeats : int
        Shuffles a column.

    Notes
    -----
    ``importance`` is how much the primary score falls, on average over ``repeats``, when the
    column is shuffled (Breiman 2001, Machine Learning 45:5).  ``weight`` is the coefficient on the
    scaled column of a two-class linear model, else None; columns that tell the same story share
    their importance.
    """
    rng = np.random.default_rng(seed)
    k = int(y.max()) + 1
    whole = score(primary, y, predict_table(model, X, k))
    weights = _weights(model)
    rows = []
    for name in model.feature_names_in_:
        falls = []
        for _ in range(repeats):
            shuffled = X.copy()
            shuffled[name] = X[name].to_numpy()[rng.permutation(len(X))]
            falls.append(whole - score(primary, y, predict_table(model, shuffled, k)))
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
    if not linear or np.shape(last.coef_)[0] != 1:
        return {}
    names = fitted.named_steps["columns"].get_feature_names_out()
    return {str(name): float(w) for name, w in zip(names, last.coef_[0], strict=True)}
