"""A detection from trained folds to figures, model, test edition, gate, another tool and a page."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flows.answers import answer_row
from flows.explaining_findings import covered
from flows.foreign import keep_foreign, kept_scores
from flows.guarding import Guarded
from flows.jobs import write_job
from flows.judging import judge_side
from flows.orders import orders_of
from flows.probing import stressed
from flows.promote import champion_scores, signature
from flows.train import conclude, recorded
from tasks.errors import RadloopError
from tasks.evaluate.compare import paired_metric
from tasks.evaluate.config import RobustnessConfig
from tasks.evaluate.table import metric_table
from tasks.learn.box_scores import case_findings
from tasks.learn.boxes import boxes_on, rows_of
from tasks.learn.crossval import fit_fold
from tasks.learn.job import load_job
from tasks.learn.judge import judge_files
from tasks.learn.model import load_model
from tasks.learn.stressed import sample_cases
from tasks.phantom.write_wrist import write_wrist_archive
from tasks.serve.baseline import beside_baseline
from tasks.serve.challenger import build_model
from tasks.serve.drawn import draw
from tasks.serve.gate import decide
from tasks.serve.outcome import sum_up
from tasks.serve.probes import Probe
from tasks.serve.registry import get_alias, set_alias
from tasks.serve.results import ModelFacts, write_predictions
from tasks.serve.tracking import Tracker
from tasks.serve.verdict import GateConfig, Scored
from tests.flows.test_box_labels import WRIST, Made

SCENARIO = WRIST.replace("epochs: 2,", "epochs: 2, lr: 3.0e-3, augment: none, batch: 4,")


def width_of(path: str) -> int:
    with Image.open(path) as picture:
        return picture.size[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a home, a job, its folder, and the one candidate's outcome."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("breaks")
    write_wrist_archive(folder, patients=12, seed=1, shape=(64, 48), spacing=2.2, difficulty="easy")
    made = Made(folder, SCENARIO)
    made.preprocess()
    job = write_job(made.home, made.ready())
    place = job.save(folder / "trainings")
    records = [fit_fold(place, made.root, "finder", fold) for fold in job.folds]
    config = made.ready().scenario.evaluate
    yield made, load_job(place), place, sum_up(job, "finder", records, config)
    made.close()


@pytest.fixture(scope="module")
def judged(trained, tmp_path_factory):
    """Return the model's folder, and the scores and pictures of the test edition."""
    made, job, place, outcome = trained
    folder = tmp_path_factory.mktemp("judged")
    spec = build_model(job, place, outcome, folder / "model", {})
    scores, shown = judge_side(
        made.home, made.ready(), job.on("test"), folder / "model", folder / "pictures"
    )
    return folder / "model", spec, scores, shown


def test_folds_become_figures_and_a_threshold(trained):
    _, job, _, outcome = trained
    assert set(outcome.scores.case_ids) == {case.case_id for case in job.on("train")}
    assert outcome.scores.overlap == 0.3
    for name in ("ap", "cpm", "lesion_recall", "false_alarms"):
        assert np.isfinite(outcome.figures[name].value)
    lesions = sum(int((~case.irrelevant).sum()) for case in outcome.scores.cases)
    assert lesions == sum(len(case.boxes) for case in job.on("train"))
    # The threshold is a score that occurs, or the one that shows nothing.
    scores = np.concatenate([case.score for case in outcome.scores.cases])
    assert outcome.threshold in (*scores, 1.0)


def test_the_test_edition_is_judged_on_the_source_grid(trained, judged, tmp_path):
    made, job, _, outcome = trained
    folder, spec, scores, shown = judged
    assert spec.thresholds == {"positive": outcome.threshold}
    assert set(scores.case_ids) == {case.case_id for case in job.on("test")}
    assert shown
    assert all(width_of(one["path"]) > 100 for one in shown)
    # True boxes are those of the labels: on the source grid they lie within the picture.
    model = load_model(folder)
    by_id = {case.case_id: case for case in job.cases}
    chosen = [c for c in made.ready().cohort.cases if by_id[c.case_id].side == "test"]
    for order, one in judge_files(model, orders_of(made.home, chosen)):
        low, high = np.array([[-0.5] * 3, np.array(one.image.shape) - 0.5])
        for box in (one.findings.box, boxes_on(rows_of(by_id[order.case_id].boxes), one.affine)):
            assert (box >= low - 1e-6).all()
            assert (box <= high + 1e-6).all()
    table = metric_table(scores, outcome.threshold)
    (figure,) = draw(tmp_path, "test", scores, outcome.threshold, "finder", table)
    assert width_of(figure["path"]) > 500


def test_a_classical_detector_is_fitted_in_the_same_folds_compared_and_kept(trained, tmp_path):
    made, job, kept, outcome = trained
    ready = made.ready()
    body = {"name": "places", "kind": "tabular", "estimator": "tree"}
    both = replace(job, candidates=(*job.candidates, body))
    place = both.save(tmp_path / "trainings")
    records = [fit_fold(place, made.root, "places", fold) for fold in both.folds]
    classical = sum_up(both, "places", records, ready.scenario.evaluate)
    assert classical.scores.case_ids == outcome.scores.case_ids
    found = beside_baseline([outcome, classical], "finder", ready.scenario.evaluate)
    assert "the classical baseline places: ap" in found.sentence
    itself = beside_baseline([outcome, classical], "places", ready.scenario.evaluate)
    assert "places was chosen itself" in itself.sentence
    spec = build_model(both, place, classical, tmp_path / "model", {}, store_root=made.root)
    assert spec.of_pictures
    network = build_model(job, kept, outcome, tmp_path / "network", {}, store_root=made.root)
    # Radiographs lie in no patient: nothing is said of how they lie.
    assert "modality" in network.headers
    assert "axes" not in network.headers
    assert signature(spec, both) == signature(network, job)
    scores, shown = judge_side(
        made.home, ready, both.on("test"), tmp_path / "model", tmp_path / "pictures"
    )
    assert set(scores.case_ids) == {case.case_id for case in job.on("test")}
    assert all(width_of(one["path"]) > 100 for one in shown)
    # Covers ask a network; a forest is not asked, and the training ends all the same.
    explained = covered(made.home, ready, both, tmp_path / "model", tmp_path / "pictures")
    assert explained == Probe()


def test_the_gate_weighs_it_against_itself(judged):
    _, spec, scores, _ = judged
    mine = Scored(scores, "1", spec.thresholds["positive"])
    verdict = decide(mine, mine, GateConfig(bootstrap=200, min_patients=2), primary="ap")
    assert verdict.estimate == 0
    assert verdict.verdict == "promote"


def test_another_tools_boxes_are_held_to_the_same_truth(trained, judged, tmp_path):
    made, job, *_ = trained
    _, _, scores, _ = judged
    ready = made.ready()
    by_id = {case.case_id: case for case in job.on("test")}
    chosen = [case for case in ready.cohort.cases if case.case_id in by_id]
    model = load_model(judged[0])
    rows = []
    for order, one in judge_files(model, orders_of(made.home, chosen)):
        true = boxes_on(rows_of(by_id[order.case_id].boxes), one.affine)
        # A reader who draws every box as it is, and says nothing of an image without.
        rows += [[order.case_id, "0.9", *box[0, 1:], *box[1, 1:]] for box in true]
        rows += [] if len(true) else [[order.case_id, "", "", "", "", ""]]
    head = ["case", "score", "y0", "x0", "y1", "x1"]

    def write(some) -> None:
        with (tmp_path / "findings.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([head, *some])

    write(rows)
    theirs = kept_scores(made.home, ready, job, keep_foreign(made.home, ready, job, tmp_path))
    table = metric_table(theirs, 0.5, replicates=200)
    assert table["ap"].value == 1
    assert table["false_alarms"].value == 0
    assert paired_metric(theirs, scores, "ap", replicates=200).value >= 0
    without = rows[0][0]
    write([row for row in rows if row[0] != without])
    with pytest.raises(RadloopError, match=r"1 of \d+ test cases are not in findings.csv"):
        keep_foreign(made.home, ready, job, tmp_path)
    write([[rows[0][0], "", 1, 1, 2, 2]])
    with pytest.raises(RadloopError, match=r"line 2 of findings.csv lacks a number"):
        keep_foreign(made.home, ready, job, tmp_path)
    head[1] = "confidence"
    write(rows)
    with pytest.raises(RadloopError, match=r"findings.csv has no column score"):
        keep_foreign(made.home, ready, job, tmp_path)
    head[1] = "score"
    write([[rows[0][0], "1.5", 1, 1, 2, 2]])
    with pytest.raises(RadloopError, match="a score lies from 0 to 1"):
        keep_foreign(made.home, ready, job, tmp_path)


def test_findings_that_radloop_wrote_give_the_same_figures_when_they_are_handed_back(
    trained, judged, tmp_path
):
    made, job, *_ = trained
    folder, spec, scores, _ = judged
    ready, model = made.ready(), load_model(folder)
    tested = {case.case_id: case for case in job.on("test")}
    chosen = [case for case in ready.cohort.cases if case.case_id in tested]
    rows = [
        answer_row(model, one, None, (), ready.scenario, tmp_path)
        for _, one in judge_files(model, orders_of(made.home, chosen))
    ]
    facts = ModelFacts(
        "breaks", "Synthetic wrists", "breaks", "1", "0" * 64, "detection", "2026-11-27",
        threshold=spec.thresholds["positive"], classes=spec.classes,
    )  # fmt: skip

    def handed_back(some):
        write_predictions(tmp_path, some, facts)
        return kept_scores(made.home, ready, job, keep_foreign(made.home, ready, job, tmp_path))

    def figures(of):
        return {n: one.value for n, one in metric_table(of, None, replicates=200).items()}

    theirs = handed_back(rows)
    assert figures(theirs) == figures(scores)
    assert theirs.truth_differs(scores) == 0
    # Looked at, and nothing was found, is an answer; not looked at is none.
    emptied = next(number for number, row in enumerate(rows) if row.findings)
    case_id = rows[emptied].case_id
    nothing = [replace(row, findings=()) if row is rows[emptied] else row for row in rows]
    cases = list(scores.cases)
    cases[scores.case_ids.index(case_id)] = case_findings((), tested[case_id].boxes)
    assert figures(handed_back(nothing)) == figures(replace(scores, cases=cases))
    failed = [replace(nothing[emptied], status="failed", reason="too_dark")]
    with pytest.raises(RadloopError, match=rf"1 of \d+ test cases .*{case_id[:12]}"):
        handed_back([*rows[:emptied], *failed, *rows[emptied + 1 :]])


def test_a_prediction_tells_every_finding(trained, judged, tmp_path):
    made, *_ = trained
    folder, spec, *_ = judged
    model, body = load_model(folder), made.ready().scenario
    # Shown from 0 on, so that a model of three epochs shows something.
    model.spec = spec.model_copy(update={"thresholds": {"positive": 0.0}})
    chosen = list(made.ready().cohort.cases)[:4]
    rows = [
        answer_row(model, one, None, (), body, tmp_path)
        for _, one in judge_files(model, orders_of(made.home, chosen))
    ]
    facts = ModelFacts(
        "breaks", "Synthetic wrists", "breaks", "1", "0" * 64, "detection", "2026-11-27",
        threshold=0.0, classes=spec.classes,
    )  # fmt: skip
    write_predictions(tmp_path, rows, facts)
    with (tmp_path / "findings.csv").open(newline="") as stream:
        told = list(csv.DictReader(stream))
    found = [row for row in told if row["score"]]
    assert len(found) == sum(len(row.findings) for row in rows) > 0
    assert {row["class"] for row in found} == {"fracture"}
    for row in rows:
        assert row.measures["fracture findings"] == len(row.findings)
        assert (tmp_path / row.overlay).is_file()
    assert "fracture findings" in (tmp_path / "index.html").read_text()


def test_the_report_says_what_was_found_and_what_is_not_done(trained, tmp_path, monkeypatch):
    made, job, place, outcome = trained
    for name in ("table", "text", "link"):
        # No server of Prefect runs here, which keeps copies of what is asserted below.
        monkeypatch.setattr(f"flows.reports.{name}", lambda *_said, **_more: None)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    tracker = Tracker(
        uri=f"sqlite:///{tmp_path / 'mlflow.db'}", experiment="breaks",
        artifact_location=str(tmp_path / "artifacts"),
    )  # fmt: skip
    ready = made.ready()
    with recorded(tracker, ready, job) as run_id:
        result = conclude(
            made.home, ready, job, place, tracker, run_id, [outcome], outcome, Guarded(), []
        )
    assert result["version"] == "1"
    assert result["verdict"] in ("promote", "refuse", "undecidable")
    assert {"ap", "cpm", "lesion_recall", "false_alarms"} <= set(result["test"])
    said = Path(result["report"]).read_text()
    assert "findings are shown from" in said
    assert "FROC, test" in said
    assert "not measured for a detection" in said
    assert "What findings rest on, test" in said
    assert "points into its own box" in said
    # A second training meets the first as champion, on the same patients.
    champion = get_alias(tracker, "breaks", "challenger")
    set_alias(tracker, "breaks", "champion", champion.version)
    scored, figures, why = champion_scores(made.home, ready, job, tracker)
    assert why == ""
    assert figures["ap"].value == result["test"]["ap"][0]
    assert len(scored.predictions) == len(job.on("test"))


def test_worse_images_are_asked_about_as_well(trained, judged, tmp_path):
    made, job, *_ = trained
    folder, _, scores, _ = judged
    ready = made.ready()
    asked = {"cases": 4, "kind": "radiograph", "corruptions": ("noise",)}
    body = ready.scenario.evaluate
    body = body.model_copy(update={"robustness": RobustnessConfig(**asked), "bootstrap": 200})
    ready = replace(ready, scenario=ready.scenario.model_copy(update={"evaluate": body}))
    found = stressed(made.home, ready, job, folder, tmp_path)
    rows = found.tables["robustness"]
    assert [row["severity"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert {row["metric"] for row in rows} == {"ap"}
    # The clean images of the sample are judged as those of the test edition were.
    sample = {case.case_id for case in sample_cases(job.on("test"), 4)}
    part = scores.take([number for number, key in enumerate(scores.case_ids) if key in sample])
    assert rows[0]["value"] == pytest.approx(metric_table(part, replicates=200)["ap"].value)
    assert width_of(found.figures[0]["path"]) > 300
