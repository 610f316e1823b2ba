"""The challenger is chosen by cross-validation alone, and nobody stands on two sides."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.data import data_folder
from flows.jobs import check_sides
from tasks.errors import LeakageError
from tasks.evaluate.choose import choose_challenger
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.metrics import auroc
from tasks.evaluate.table import metric_table
from tasks.learn.answer import called
from tasks.learn.crossval import FoldRecord
from tasks.learn.job import JobCase, TrainingJob
from tasks.serve.challenger import build_model
from tasks.serve.names import load_names
from tasks.serve.outcome import held_out, sum_up
from tasks.serve.tracking import Tracker, search
from tests.flows.running import Place

TRAINING, TESTED = 120, 40

SCENARIO = """\
name: lucky-test
title: A candidate that shines on the test side only
task: classification
synthetic: true
intended_use: Tests of radloop. Research use only.
not_for: Anything clinical.
population: Nobody. Drawn by a program.
cohort: {kind: row, table: lucky}
labels: {format: column, column: outcome, classes: [well, ill], positive: ill}
split: {source: column, column: side, folds: 3}
candidates:
  - {name: lucky, kind: tabular, estimator: logistic, features: [lucky]}
  - {name: steady, kind: tabular, estimator: logistic, features: [steady]}
evaluate: {primary: auroc, operating_point: {rule: youden}, bootstrap: 200}
gate: {margin: 0.05, undecidable: refuse}
"""


def drawn() -> dict[str, np.ndarray]:
    """Return columns: `lucky` tells little in training and all on the test side."""
    rng = np.random.default_rng(3)
    ill = rng.random(TRAINING + TESTED) < 0.5
    tested = np.arange(TRAINING + TESTED) >= TRAINING
    return {
        "ill": ill,
        "tested": tested,
        "lucky": ill + rng.normal(0, np.where(tested, 0.05, 1.6)),
        "steady": ill + rng.normal(0, np.where(tested, 2.5, 0.5)),
    }


def write_lucky(path: Path) -> dict[str, np.ndarray]:
    columns = drawn()
    lines = ["id,lucky,steady,side,outcome"]
    for row in range(TRAINING + TESTED):
        lucky, steady = columns["lucky"][row], columns["steady"][row]
        side = "test" if columns["tested"][row] else str(row % 3)
        outcome = "ill" if columns["ill"][row] else "well"
        lines.append(f"row{row:05d},{lucky:.5f},{steady:.5f},{side},{outcome}")
    path.write_text("\n".join(lines) + "\n")
    return columns


@pytest.mark.slow
def test_a_candidate_that_is_best_on_test_only_is_not_chosen(table_loop, tmp_path):
    """From a table through the command: the better test figure is there to be had and not taken."""
    place = Place(tmp_path, api=table_loop.place.api_of_server())
    table = tmp_path / "lucky.csv"
    columns = write_lucky(table)
    (tmp_path / "lucky-test.yaml").write_text(SCENARIO)
    out = place.radloop("retrain", tmp_path / "lucky-test.yaml", "--source", table).ok().out
    assert not place.close()

    truth, tested = columns["ill"].astype(int), columns["tested"]
    on_test = {name: auroc(truth[tested], columns[name][tested]) for name in ("lucky", "steady")}
    assert on_test["lucky"] > 0.99 > 0.8 > on_test["steady"]

    assert "* steady" in out
    assert "  lucky" in out
    names = load_names(data_folder("mlflow") / "names.yaml")
    tracker = Tracker(f"sqlite:///{place.home / 'mlflow.db'}", "lucky-test", names)
    (training,) = search(tracker, "tags.kind = 'training'")
    assert training.data.metrics["test/auroc"] == pytest.approx(on_test["steady"], abs=1e-6)
    assert training.data.tags["edition_uses"] == "1"
    by_name = {run.info.run_name: run for run in search(tracker, "tags.kind = 'candidate'")}
    assert by_name["steady"].data.metrics["oof/auroc"] > by_name["lucky"].data.metrics["oof/auroc"]
    for run in by_name.values():
        assert not any(name.startswith("test/") for name in run.data.metrics)


def job_of(patients: int, folds: int = 2) -> TrainingJob:
    cases = [
        JobCase(f"{n:032x}", f"{n + 1000:032x}", "train", n % folds, (n // folds) % 2)
        for n in range(patients)
    ] + [
        JobCase(f"{n + 500:032x}", f"{n + 2000:032x}", "test", None, n % 2)
        for n in range(patients // 2)
    ]
    candidates = [{"name": name, "kind": "tabular", "estimator": "tree"} for name in ("a", "b")]
    return TrainingJob(
        scenario="made",
        task="classification",
        classes=("well", "ill"),
        positive="ill",
        primary="auroc",
        candidates=tuple(candidates),
        cases=tuple(cases),
    )


def records(
    job: TrainingJob, name: str, probability: Callable[[JobCase], float]
) -> Sequence[FoldRecord]:
    """Return what the folds of a candidate would have sent back."""
    found = []
    for fold in job.folds:
        mine = [case for case in job.on("train") if case.fold == fold]
        positive = [float(probability(case)) for case in mine]
        values = tuple((1 - one, one) for one in positive)
        found.append(FoldRecord(name, fold, tuple(case.case_id for case in mine), values))
    return found


def test_the_choice_sees_out_of_fold_figures_of_training_patients_only():
    job = job_of(40)
    rng = np.random.default_rng(0)
    good = records(job, "a", lambda case: 0.3 + 0.4 * case.target + rng.uniform(-0.1, 0.1))
    poor = records(job, "b", lambda case: rng.uniform(0.4, 0.6))
    config = EvaluateConfig(bootstrap=200)
    outcomes = [sum_up(job, "a", good, config), sum_up(job, "b", poor, config)]
    trained = {case.case_id for case in job.on("train")}
    for outcome in outcomes:
        assert set(outcome.scores.case_ids) == trained
    assert choose_challenger({o.name: o.figures for o in outcomes}, "auroc") == "a"


def test_a_record_that_judges_a_test_case_is_refused():
    job = job_of(12)
    found = list(records(job, "a", lambda case: 0.5))
    stolen = job.on("test")[0].case_id
    found[0] = replace(found[0], case_ids=(stolen, *found[0].case_ids[1:]))
    with pytest.raises(ValueError, match="judged by no fold"):
        sum_up(job, "a", found, EvaluateConfig(bootstrap=200))


def test_a_patient_on_two_sides_is_refused():
    job = job_of(12)
    check_sides(job)
    on_test = job.on("test")[0]
    double = replace(on_test, case_id="f" * 32, side="train", fold=0)
    with pytest.raises(LeakageError, match="1 in both train and test") as refusal:
        check_sides(replace(job, cases=(*job.cases, double)))
    assert on_test.patient_key not in str(refusal.value)
    assert f"cases {on_test.case_id[:12]} with ffffffffffff" in str(refusal.value)


def test_a_patient_in_two_folds_is_refused():
    job = job_of(12)
    first = job.on("train")[0]
    double = replace(first, case_id="e" * 32, fold=1 - first.fold)
    with pytest.raises(LeakageError, match="1 in both fold 0 and fold 1"):
        check_sides(replace(job, cases=(*job.cases, double)))


def test_findings_of_the_folds_are_held_to_the_overlap_that_is_asked_for():
    """Also where no operating point is chosen, as for a vendor that is left out."""
    square = np.diag([1.0, 10, 10]).ravel()
    moved = (0.0, 0.9, 0.0, 4.0, 0.0, *square)
    cases = tuple(
        replace(case, boxes=((0.0, 0.0, 0.0, 0.0, *square, 0.0),)) for case in job_of(4).cases
    )
    job = replace(
        job_of(4), task="detection", classes=("mass",), positive=None, primary="ap", cases=cases,
        shape=(1, 64, 64),
    )  # fmt: skip
    found = [
        FoldRecord("a", fold, ids, (), findings=((moved,),) * len(ids))
        for fold in job.folds
        for ids in [tuple(case.case_id for case in job.on("train") if case.fold == fold)]
    ]
    # 60 of 140 mm2 are shared: enough for .3, and not for .5.
    assert metric_table(held_out(job, found, EvaluateConfig(bootstrap=200)))["ap"].value == 1
    strict = EvaluateConfig(bootstrap=200, primary="ap", findings={"iou": 0.5})
    assert metric_table(held_out(job, found, strict))["ap"].value == 0


def test_a_model_calls_the_class_that_its_figures_hold_to_be_positive(tmp_path):
    made = job_of(40)
    facts = [replace(case, facts={"size": float(case.target)}) for case in made.cases]
    job = replace(made, positive=None, cases=tuple(facts))
    config = EvaluateConfig(bootstrap=200, operating_point={"rule": "fixed", "value": 0.2})
    outcome = sum_up(job, "a", records(job, "a", lambda case: 0.1 + 0.2 * case.target), config)
    assert outcome.figures["recall"].value == outcome.figures["specificity"].value == 1
    spec = build_model(job, tmp_path, outcome, tmp_path / "model", {})
    assert spec.positive == "ill"
    for one in (spec, spec.model_copy(update={"positive": None})):  # as older models say it
        assert called(one, np.array([0.7, 0.3])) == "ill"
        assert called(one, np.array([0.9, 0.1])) == "well"
