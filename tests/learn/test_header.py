"""A header-only model sees five fields and nothing else."""

import numpy as np
import pytest

from tasks.learn.candidate import TabularCandidate
from tasks.learn.header import HEADER_COLUMNS, header_frame
from tasks.learn.tabular import fit_final, predict_table
from tests.learn.folding import cross_validate

FACTS = {"manufacturer": "Acme", "rows": 512, "transfer_syntax": "1.2", "view": "PA"}


def test_columns_stand_in_a_fixed_order_and_nothing_else_enters():
    frame = header_frame([{**FACTS, "spacing_row": 0.2, "device": "secret", "kvp": 80.0}])
    assert tuple(frame.columns) == HEADER_COLUMNS
    assert "secret" not in frame.to_csv()
    assert frame.loc[0].to_dict() == {**FACTS, "spacing_row": 0.2}


def test_an_empty_field_is_a_value_of_its_own():
    frame = header_frame([{**FACTS, "view": None}, {}])
    assert frame["view"].tolist() == ["missing", "missing"]
    assert np.isnan(frame["rows"][1])
    assert frame["rows"][0] == 512


def test_a_planted_vendor_is_found_and_an_unplanted_one_is_not():
    rng = np.random.default_rng(3)
    vendors = rng.choice(["Acme", "Bolt", ""], 240)
    facts = [{**FACTS, "manufacturer": str(vendor)} for vendor in vendors]
    groups, folds = np.arange(240), np.arange(240) % 4
    candidate = TabularCandidate(name="header-only", kind="header", estimator="logistic")
    X = header_frame(facts)
    planted = cross_validate(candidate, X, (vendors == "Acme").astype(int), groups, folds, 0)
    chance = cross_validate(candidate, X, rng.integers(0, 2, 240), groups, folds, 0)
    assert min(planted.fold_scores) > 0.99
    assert np.mean(chance.fold_scores) == pytest.approx(0.5, abs=0.12)


def test_a_vendor_never_seen_is_predicted_without_complaint():
    X = header_frame([{**FACTS, "manufacturer": name} for name in "AB" * 20])
    y = np.array([0, 1] * 20)
    candidate = TabularCandidate(name="h", kind="header", estimator="logistic")
    model = fit_final(candidate, X, y, np.arange(40), 0)
    new = predict_table(model, header_frame([{"manufacturer": "C"}]), 2)
    assert new.sum() == pytest.approx(1)
