"""Which columns speak for a class, or raise a number: Shapley values of a table's model, by SHAP.

Lundberg and Lee 2017. Permutation sampling with antithetic pairs, which any estimator allows and
which is exact in sum: the values of a row add up to its log-odds, or its number, less those of the
background.
"""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.evaluate.metrics import PROBABILITY_FLOOR
from tasks.learn.tabular import predict_table
from tasks.learn.tabular_numbers import predict_numbers

if TYPE_CHECKING:
    import pandas as pd

BACKGROUND_ROWS = 50
"""Training rows that stand for a column that is not known."""

PAIRS = 1
"""Permutations a row, each with its reverse; the mean over the rows is what is read."""

MOST_ROWS = 400_000
"""Rows that the model is asked about in all: of many columns fewer cases are explained."""


def rows_within(wanted: int, columns: int) -> int:
    """Return how many rows of a table can be explained within `MOST_ROWS`, at least one."""
    return max(1, min(wanted, MOST_ROWS // (BACKGROUND_ROWS * PAIRS * (2 * columns + 1))))


def shapley_values(
    model: Any,
    background: "pd.DataFrame",
    rows: "pd.DataFrame",
    n_classes: int | None,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the Shapley values of the log-odds of every class, or of a number.

    Parameters
    ----------
    model : fitted estimator
    background : DataFrame
        Training rows; at most `BACKGROUND_ROWS` are taken, spread over all.
    rows : DataFrame (n rows)
        With the columns of the model.
    n_classes : int, optional
        None of a model that estimates a number: k is then 1.
    seed : int
        Of the permutations.

    Returns
    -------
    ndarray (n, columns, k)
        In the order of ``model.feature_names_in_``.
    ndarray (n, k)
        The log-odds of the rows, or their numbers in the label's unit.
    """
    import pandas as pd

    with warnings.catch_warnings():
        # Its colour maps use a function that matplotlib 3.11 means to give up.
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        import shap

    names = [str(name) for name in model.feature_names_in_]
    step = -(-len(background) // BACKGROUND_ROWS)
    taken = background[names].iloc[::step]
    both = pd.concat([taken, rows[names]], ignore_index=True)
    # SHAP mixes rows as numbers: words go in and come out by their place in a list.
    words = {
        name: list(dict.fromkeys(both[name].astype("str")))
        for name in names
        if not pd.api.types.is_numeric_dtype(both[name])
    }
    coded = pd.DataFrame(
        {
            name: both[name].astype("str").map(words[name].index)
            if name in words
            else both[name].astype("float64")
            for name in names
        }
    ).to_numpy(np.float64)

    def said(numbers: np.ndarray) -> np.ndarray:
        frame = pd.DataFrame(numbers, columns=names)
        for name, known in words.items():
            frame[name] = [known[int(code)] for code in frame[name]]
        if n_classes is None:
            return predict_numbers(model, frame)[:, None]
        p = predict_table(model, frame, n_classes)
        p = np.clip(p, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
        return np.log(p) - np.log1p(-p)

    head, asked = coded[: len(taken)], coded[len(taken) :]
    masker = shap.maskers.Independent(head, max_samples=len(head))
    explainer = shap.explainers.Permutation(said, masker, seed=seed)
    found = explainer(asked, max_evals=PAIRS * (2 * len(names) + 1), silent=True)
    # Of one output SHAP leaves the last axis out.
    values = np.asarray(found.values, np.float64).reshape(len(asked), len(names), -1)
    return values, said(asked)
