"""A regression by the command line: a table to a gated model, its numbers, and another tool's."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest

from flows.report_facts import split_table
from tasks.scenario import parse_scenario
from tests.flows.running import Place

SCENARIO = """\
name: small-age
title: A drawn table of ages
task: regression
synthetic: true
intended_use: Tests of radloop. Research use only.
not_for: Anything clinical.
population: Nobody. Drawn by a program.
cohort: {kind: row, table: ages}
labels: {format: column, column: bone_age, unit: mo, least: 0}
split: {source: keyed, test: 0.25, folds: 3, key: public}
candidates:
  - {name: ridge, kind: tabular, estimator: ridge, search: {alpha: [0.1, 10.0]}}
  - {name: forest, kind: tabular, estimator: forest, params: {n_estimators: 20}}
evaluate: {primary: mae, bootstrap: 200}
gate: {margin: 2.0, undecidable: refuse}
"""


def write_ages(path, n=150):
    """Write ages that two columns make up in equal parts: a line through both, which no tree is."""
    rng = np.random.default_rng(5)
    one, two = rng.normal(size=(2, n))
    age = 100 + 20 * one + 20 * two + rng.normal(0, 4, n)
    rows = zip(one, two, age, strict=True)
    lines = [f"ZQ{i:04d},{a:.4f},{b:.4f},{c:.2f}" for i, (a, b, c) in enumerate(rows)]
    path.write_text("\n".join(["id,one,two,bone_age", *lines]) + "\n")
    return path


def test_the_table_of_sides_does_not_list_every_patient_s_number():
    scenario = parse_scenario(SCENARIO)
    cases = [SimpleNamespace(case_id=f"c{i}", patient_key=f"p{i}") for i in range(3)]
    ready = SimpleNamespace(
        scenario=scenario,
        cohort=SimpleNamespace(targets={"c0": "34.11", "c1": "68.87", "c2": "99.0"}),
        cases_on=lambda side: cases if side == "train" else [],
    )
    assert split_table(ready)["train"] == {"patients": 3, "cases": 3, "classes": {}}


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_table_of_numbers_becomes_a_model_that_is_compared_with_another_tool(tmp_path):
    place = Place(tmp_path)
    table, scenario = write_ages(tmp_path / "ages.csv"), tmp_path / "small-age.yaml"
    scenario.write_text(SCENARIO)
    out = tmp_path / "judged"
    try:
        told = place.radloop("retrain", scenario, "--source", table, timeout=1200).ok()
        assert "ridge on the test edition" in told.err
        assert "clearly beyond" in " ".join(told.err.split())
        place.radloop("predict", "small-age", table, "--out", out, timeout=400).ok()
        rows = list(csv.DictReader((out / "predictions.csv").read_text().splitlines()))
        told = place.radloop("evaluate", "small-age", "--predictions", out, timeout=400).ok()
        assert "The other tool is not shown to differ from champion version 1 in mae" in told.out
        (out / "predictions.csv").write_text(
            "case_id,bone_age\n" + "".join(f"{row['case_id']},old\n" for row in rows)
        )
        wrong = place.radloop("evaluate", "small-age", "--predictions", out, timeout=400)
        assert wrong.code
        assert "lacks a number in predictions.csv: bone_age (in mo) alone" in wrong.err
    finally:
        assert not place.close()
    said = np.array([float(row["bone_age (mo)"]) for row in rows])
    assert len(said) == 150
    assert 50 < said.mean() < 150
    assert all((out / row["sr"]).is_file() for row in rows)
    reports = [one.read_text() for one in (place.home / "reports" / "small-age").glob("*.html")]
    assert any("Agreement, test" in one and "answers with" in one for one in reports)
    # A patient's own number is in no table of a report.
    ages = {row["bone_age"] for row in csv.DictReader(table.read_text().splitlines())}
    assert not [age for age in ages for one in reports if f">{age}<" in one]
    assert any("mean |Shapley value|, mo" in one and "moves the number" in one for one in reports)
