"""A regression from a job to a model that is kept and asked, beside header facts and a forest."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.estimates import Estimates
from tasks.learn.crossval import fit_fold
from tasks.learn.job import JobCase, TrainingJob, load_job
from tasks.learn.judge import judge_rows
from tasks.learn.model import load_model
from tasks.learn.stressed import sample_cases
from tasks.serve.challenger import build_model
from tasks.serve.drawn import draw
from tasks.serve.gate import GateConfig, Scored, decide
from tasks.serve.outcome import header_sentence, sum_up
from tests.learn.small_fold import SIZE, write_store
from tests.learn.test_numbers import squares

CANDIDATES = (
    {"name": "tiny", "kind": "network", "epochs": 4, "batch": 8, "features": [4, 8],
     "augment": "none", "lr": 1e-2},
    {"name": "ridge", "kind": "tabular", "estimator": "ridge", "features": ["mean"]},
    {"name": "header", "kind": "header", "estimator": "ridge"},
)  # fmt: skip


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("regression")
    source, cases = squares(60)
    stored = write_store(folder / "store", source, cases, fixed_shape=(1, SIZE, SIZE))
    job = TrainingJob(
        scenario="squares", task="regression", classes=("area",), positive=None, primary="mae",
        candidates=CANDIDATES, shape=(1, SIZE, SIZE), unit="mm2", recipe={"steps": []},
        cases=tuple(
            JobCase(
                c.case_id, c.patient_key, "train", i % 2, c.target, part_path=c.part_path,
                part_digest=c.part_digest, facts={"rows": 24, "manufacturer": "ab"[i % 3 > 0]},
                features={"mean": float(source.images[c.case_id].mean())},
            )
            for i, c in enumerate(stored)
        ),
    )  # fmt: skip
    place = job.save(folder / "trainings")
    assert load_job(place) == job
    records = {
        body["name"]: [fit_fold(place, str(folder / "store"), body["name"], k) for k in job.folds]
        for body in CANDIDATES
    }
    config = EvaluateConfig(primary="mae", bootstrap=200)
    return job, place, records, {n: sum_up(job, n, r, config) for n, r in records.items()}


def test_folds_travel_as_json_and_are_put_together(fitted):
    job, _, records, outcomes = fitted
    for own in records.values():
        json.dumps([asdict(record) for record in own], allow_nan=False)
    for outcome in outcomes.values():
        assert isinstance(outcome.scores, Estimates)
        assert outcome.scores.words == "area (mm2)"
        assert outcome.scores.target.tolist() == [case.target for case in job.cases]
        assert outcome.threshold is None
    assert outcomes["ridge"].figures["mae"].value < outcomes["header"].figures["mae"].value
    assert "val_mae" in records["tiny"][0].history[0]


def test_the_report_opens_with_header_facts_where_they_do_as_well(fitted):
    _, _, _, outcomes = fitted
    assert header_sentence(list(outcomes.values()), "ridge", "mae") is None
    same = [outcomes["header"], replace(outcomes["header"], name="twin", kind="network")]
    assert "not clearly better" in header_sentence(same, "twin", "mae")


@pytest.mark.parametrize("name", ["tiny", "ridge", "header"])
def test_a_model_is_built_and_says_its_unit(fitted, name, tmp_path):
    job, place, _, outcomes = fitted
    spec = build_model(job, place, outcomes[name], tmp_path, {}, list(outcomes.values()))
    model = load_model(tmp_path, device="cpu")
    assert (model.spec.classes, model.spec.unit) == (("area",), "mm2")
    assert spec.kind == ("network" if name == "tiny" else "sklearn")
    if name == "header":
        said = judge_rows(model, ["a"], [job.cases[0].facts])
        assert 100 < said[0].value < 300
        assert said[0].probability is None


def test_pictures_of_both_kinds_are_drawn(fitted, tmp_path):
    ridge = fitted[3]["ridge"]
    drawn = draw(tmp_path, "oof", ridge.scores, None, "ridge", ridge.figures)
    assert [one["title"] for one in drawn] == ["Estimated and true, oof", "Agreement, oof"]


def test_the_gate_holds_an_error_against_saying_the_same_of_everybody(fitted):
    outcomes = fitted[3]
    config = GateConfig(margin=5.0, bootstrap=200)
    good, poor = (Scored(outcomes[name].scores, "1") for name in ("ridge", "header"))
    assert decide(None, good, config, primary="mae").verdict == "promote"
    assert decide(None, poor, config, primary="mae").verdict != "promote"
    assert decide(poor, good, config, primary="mae").verdict == "promote"
    assert decide(good, poor, config, primary="mae").verdict == "refuse"
    spread = np.abs(good.predictions.target - np.median(good.predictions.target)).mean()
    assert f"floor {spread:g}" == decide(None, good, config, primary="mae").against


def test_a_sample_of_numbers_does_not_favour_small_ones(fitted):
    job = fitted[0]
    chosen = sample_cases(job.cases, 30)
    middle = np.median([case.target for case in job.cases])
    assert 8 <= sum(case.target > middle for case in chosen) <= 22


def test_the_unit_belongs_to_the_key_where_it_is_said(fitted):
    job = fitted[0]
    assert replace(job, unit="cm2").key != job.key
    assert "unit" not in replace(job, unit="")._body()
