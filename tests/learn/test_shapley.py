"""Shapley values against the closed form of linear models and against their own sum."""

import numpy as np
import pandas as pd
import pytest

from tasks.learn.candidate import TabularCandidate
from tasks.learn.importance import feature_importance
from tasks.learn.shapley import BACKGROUND_ROWS, rows_within, shapley_values
from tasks.learn.tabular import fit_final
from tasks.learn.tabular_numbers import fit_final_numbers


def table(n=120, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    numbers = rng.normal(size=(n, 3)) + np.stack([1.5 * y, 0.5 * y, 0 * y], axis=1)
    X = pd.DataFrame(numbers, columns=["clear", "faint", "noise"])
    X["vendor"] = np.where(rng.uniform(size=n) < 0.5 + 0.4 * (y - 0.5), "A", "B")
    X["vendor"] = X["vendor"].astype("str")
    return X, y


def fitted(estimator, X, y):
    candidate = TabularCandidate(name="it", estimator=estimator)
    return fit_final(candidate, X, y, np.arange(len(y)), 0)


def test_a_logistic_models_values_are_weight_times_distance_from_the_background():
    X, y = table()
    X = X[["clear", "faint", "noise"]]
    model = fitted("logistic", X, y)
    values, _ = shapley_values(model, X[:50], X[50:60], 2)
    inside = model.named_steps["columns"].transform(X[model.feature_names_in_])
    exact = (inside[50:60] - inside[:50].mean(0)) * model.named_steps["model"].coef_[0]
    np.testing.assert_allclose(values[:, :, 1], exact, atol=2e-3)
    np.testing.assert_allclose(values[:, :, 0], -exact, atol=2e-3)


@pytest.mark.parametrize("estimator", ["tree", "boosting"])
def test_the_values_of_a_row_add_up_to_its_log_odds_words_and_all(estimator):
    X, y = table()
    model = fitted(estimator, X, y)
    values, odds = shapley_values(model, X[:40], X[40:44], 2)
    base = shapley_values(model, X[:40], X[:40], 2)[1].mean(0) if estimator == "tree" else None
    total = values.sum(1)
    # All rows have one base, whatever it is; for the tree it is checked to be the background's.
    np.testing.assert_allclose(odds - total, np.tile((odds - total)[0], (4, 1)), atol=1e-6)
    if base is not None:
        np.testing.assert_allclose((odds - total)[0], base, atol=1e-6)
    assert values.shape == (4, 4, 2)


def test_values_of_an_estimated_number_are_in_its_unit_and_add_up():
    X, _ = table()
    X = X[["clear", "faint", "noise"]]
    age = (100 + 30 * X["clear"]).to_numpy() + np.random.default_rng(1).normal(0, 3, len(X))
    candidate = TabularCandidate(name="it", estimator="ridge")
    model = fit_final_numbers(candidate, X, age, np.arange(len(X)), 0)
    values, said = shapley_values(model, X[:50], X[50:60], None)
    base = shapley_values(model, X[:50], X[:50], None)[1].mean(0)
    np.testing.assert_allclose(said - values.sum(1), np.tile(base, (10, 1)), atol=1e-6)
    # Months a unit of the column, not standard deviations.
    clear = list(model.feature_names_in_).index("clear")
    away = (X["clear"][50:60] - X["clear"][:50].mean()).to_numpy()
    np.testing.assert_allclose(values[:, clear, 0], 30 * away, atol=4)
    rows = feature_importance(model, X[60:], age[60:], 0, primary="mae", numbers=True)
    assert rows[0]["feature"] == "clear"
    assert rows[0]["importance"] > 20
    assert rows[0]["weight"] > 5 * abs(rows[1]["weight"])


def test_the_column_that_tells_has_the_largest_values_and_noise_the_least():
    X, y = table(600)
    model = fitted("logistic", X, y)
    values, _ = shapley_values(model, X[:40], X[40:60], 2)
    size = dict(
        zip(map(str, model.feature_names_in_), np.abs(values[:, :, 1]).mean(0), strict=True)
    )
    assert size["clear"] > 2 * size["faint"] > 2 * size["noise"]
    assert size["vendor"] > size["noise"]


def test_a_wide_table_is_explained_on_fewer_rows():
    assert rows_within(60, 30) == 60
    assert 1 <= rows_within(60, 1000) < 10
    assert rows_within(60, 1000) * 2001 * BACKGROUND_ROWS <= 400_000
