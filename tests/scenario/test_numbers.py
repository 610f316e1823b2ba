"""Scenarios of a regression: what fits together, and what is refused with its remedy."""

import pytest
import yaml

from tasks.errors import ScenarioError
from tasks.scenario import parse_scenario

TEXT = """\
name: bone-age
title: Age of the bones in a radiograph of the hand
task: regression
intended_use: Research use only.
not_for: Anything clinical.
population: Children.
cohort: {kind: dicom, modality: [DX]}
labels: {format: table, file: ages.csv, join: accession, column: bone_age, unit: mo, most: 240}
recipe:
  - {step: resize, shape: [1, 32, 32]}
  - {step: normalise, method: zscore}
  - {step: features, families: [intensity]}
candidates:
  - {name: cnn, kind: network, network: small_cnn, loss: mse, monitor: mae}
  - {name: forest, kind: tabular, estimator: forest}
  - {name: headers, kind: header, estimator: ridge}
evaluate: {primary: mae}
gate: {margin: 2.5}
"""


def changed(**parts):
    data = yaml.safe_load(TEXT)
    for name, more in parts.items():
        data[name] = {**data[name], **more} if isinstance(more, dict) else more
    return yaml.safe_dump(data, sort_keys=False)


def test_a_regression_is_read():
    scenario = parse_scenario(TEXT)
    assert scenario.estimates
    assert scenario.labels.answers == ("bone_age",)
    assert scenario.gate.margin == 2.5


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"labels": {"unit": None, "most": None, "classes": ["a", "b"]}}, "labels.unit is missing"),
        ({"labels": {"classes": ["a", "b"]}}, "numbers with a `unit`, or have `classes`"),
        ({"labels": {"least": 300}}, "least is 300 and most is 240: swap them"),
        ({"gate": {"margin": None}}, "gate.margin"),
        ({"gate": {}, "evaluate": {"primary": "auroc"}}, "use mae"),
        ({"evaluate": {"calibration": "platt"}}, "evaluate.calibration is of probabilities"),
        ({"evaluate": {"unit": "study"}}, "not for a regression"),
        ({"candidates": [{"name": "a", "kind": "network", "network": "unet2d"}]}, "use small_cnn"),
        (
            {"candidates": [{"name": "a", "kind": "tabular", "estimator": "logistic"}]},
            "which tells classes; use forest, boosting, ridge",
        ),
        (
            {
                "candidates": [
                    {
                        "name": "a", "kind": "tabular", "estimator": "forest",
                        "params": {"class_weight": "balanced"},
                    }
                ]
            },
            "unknown parameter of forest for numbers 'class_weight'",
        ),
        (
            {
                "candidates": [
                    {"name": "a", "kind": "tabular", "estimator": "ridge"},
                    {"name": "b", "kind": "header", "estimator": "ridge"},
                    {"name": "c", "kind": "fusion", "members": ["a", "b"]},
                ]
            },
            "c fuses 'b', which is header-only",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(parts, words):
    with pytest.raises(ScenarioError) as error:
        parse_scenario(changed(**parts))
    assert words in str(error.value)


def test_the_margin_must_be_said_in_its_unit():
    data = yaml.safe_load(TEXT)
    del data["gate"]
    with pytest.raises(ScenarioError, match=r"gate.margin is missing: .* \(mo\); say it"):
        parse_scenario(yaml.safe_dump(data))
    data["evaluate"] = {"primary": "r2"}
    assert parse_scenario(yaml.safe_dump(data)).gate.margin == 0.02


def test_numbers_serve_no_other_task():
    classes = {"unit": None, "most": None, "classes": ["no", "yes"], "positive": "yes"}
    candidates = [{"name": "cnn", "kind": "network"}]
    said = {"task": "classification", "evaluate": {"primary": "auroc"}, "labels": classes}
    fine = changed(**said, candidates=candidates, gate={"margin": 0.1})
    assert parse_scenario(fine).task == "classification"
    with pytest.raises(ScenarioError, match="auroc lies between 0 and 1"):
        parse_scenario(changed(**said, candidates=candidates))
    with pytest.raises(ScenarioError, match="use task: regression"):
        parse_scenario(
            changed(**{**said, "labels": {}}, candidates=candidates, gate={"margin": 0.1})
        )
    wrong = [{"name": "cnn", "kind": "network", "loss": "mse"}]
    with pytest.raises(ScenarioError, match="has loss mse, which is of a regression"):
        parse_scenario(changed(**said, candidates=wrong, gate={"margin": 0.1}))
    with pytest.raises(ScenarioError, match="has estimator ridge, which estimates numbers"):
        parse_scenario(
            changed(
                **said, gate={"margin": 0.1},
                candidates=[{"name": "a", "kind": "tabular", "estimator": "ridge"}],
            )
        )  # fmt: skip
