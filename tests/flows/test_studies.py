"""Radiographs of two views: figures, thresholds and answers are of studies."""

import argparse
import csv
from dataclasses import replace

import numpy as np
import pytest
from pydicom import dcmread

from flows.answers import answer_row
from flows.cohorts import settle
from flows.commands.bring_home import bring_home
from flows.dicom import dicom_desk
from flows.foreign import keep_foreign, kept_scores
from flows.foreign_names import write_frame
from flows.home import Home
from flows.jobs import check_sides, write_job
from flows.judging import judge_side
from flows.orders import orders_of
from flows.report_facts import data_warnings, facts_of_scored, groups_of_test, judged_as
from flows.settings import Settings
from flows.studies import by_study, first_of_study, with_study
from tasks.archive.intake import ingest
from tasks.archive.sources import resolve_source
from tasks.archive.vault import put_source
from tasks.errors import BadCase, RadloopError, ScenarioError
from tasks.evaluate.predictions import Predictions
from tasks.labels.attach import attach_labels
from tasks.learn.crossval import fit_fold, out_of_fold
from tasks.learn.job import load_job
from tasks.learn.judge import judge_rows
from tasks.learn.judgement import Judgement
from tasks.learn.model import load_model
from tasks.learn.model_file import read_spec
from tasks.learn.permuted import random_labels
from tasks.phantom.write_wrist import write_wrist_archive
from tasks.scenario.text import parse_scenario
from tasks.serve.challenger import build_model
from tasks.serve.outcome import sum_up
from tasks.serve.results import ModelFacts, PredictionRow, write_predictions
from tests.flows.brats import preprocessed

PATIENTS = 30

SCENARIO = """\
name: wrists
title: Drawn wrists in two views
task: classification
intended_use: Tests of radloop. Research use only.
not_for: Anything clinical.
population: Nobody. Drawn by a program.
synthetic: true
cohort: {kind: dicom, modality: [CR, DX]}
labels: {format: table, file: ../truth/labels.csv, join: accession, column: target,
  classes: [no_fracture, fracture], positive: fracture}
recipe:
  - {step: resize, shape: [1, 16, 16]}
  - {step: normalise, method: zscore}
split: {source: keyed, test: 0.4, folds: 2, key: public, strata: [target]}
candidates:
  - {name: header-only, kind: header, estimator: logistic}
evaluate: {primary: auroc, unit: study, calibration: platt, bootstrap: 200}
gate: {margin: 0.1, min_patients: 2, undecidable: promote}
"""


@pytest.fixture(scope="module")
def wrists(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrists")
    write_wrist_archive(folder, patients=PATIENTS, seed=2, shape=(32, 24), spacing=4.0)
    home = Home(Settings(home=folder / "home"))
    scenario = parse_scenario(SCENARIO)
    source = resolve_source(str(folder / "dicom"), "wrists")
    ingest(source, home.catalog, home.vault, home.names)
    attach_labels(source, scenario.labels, home.names, home.catalog, home.vault)
    ready = settle(home, scenario)
    preprocessed(home, ready)
    job = write_job(home, ready)
    place = job.save(folder / "training")
    records = [fit_fold(place, home.settings.store_root, "header-only", f) for f in job.folds]
    yield home, ready, job, place, records
    home.catalog.dispose()
    home.vault.dispose()


@pytest.fixture(scope="module")
def model(wrists, tmp_path_factory):
    _, ready, job, place, records = wrists
    outcome = sum_up(job, "header-only", records, ready.scenario.evaluate, place)
    folder = tmp_path_factory.mktemp("model")
    build_model(job, place, outcome, folder, {})
    return folder, outcome


def test_the_two_views_of_a_study_are_one_unit_on_one_side(wrists):
    _, _, job, *_ = wrists
    check_sides(job)
    assert len(job.cases) == 2 * PATIENTS
    units = job.units("train") + job.units("test")
    assert len(units) == len(set(units)) == PATIENTS
    for case in job.cases:
        (lead,) = (other for other in job.cases if other.case_id == case.unit)
        assert (lead.patient_key, lead.side, lead.fold) == (case.patient_key, case.side, case.fold)


def test_the_job_comes_back_and_a_job_of_cases_knows_no_studies(wrists):
    _, _, job, place, _ = wrists
    assert load_job(place) == job
    of_cases = replace(job, views=None, cases=tuple(replace(c, study=None) for c in job.cases))
    body = of_cases._body()
    assert "views" not in body
    assert "study" not in body["cases"][0]
    assert of_cases.key != job.key


def test_out_of_fold_figures_are_of_studies(wrists, model):
    _, _, job, _, records = wrists
    _, outcome = model
    scores = out_of_fold(job, records)
    assert scores.case_ids == job.units("train")
    said = {c: v for r in records for c, v in zip(r.case_ids, r.values, strict=True)}
    for unit, row in zip(scores.case_ids, scores.probability, strict=True):
        own = [said[case.case_id] for case in job.on("train") if case.unit == unit]
        assert len(own) == 2
        np.testing.assert_allclose(row, np.mean(own, axis=0))
    assert outcome.calibration["method"] == "platt"
    assert outcome.figures["auroc"].n_patients == len(scores) == len(job.units("train"))


def test_the_test_side_is_judged_by_studies_with_their_calibration(wrists, model):
    home, ready, job, *_ = wrists
    folder, outcome = model
    spec = read_spec(folder)
    assert spec.views == "mean"
    assert judged_as(spec) == "studies, by the mean of their views"
    assert spec.thresholds["positive"] == outcome.threshold
    scores, _ = judge_side(home, ready, job.on("test"), folder, folder)
    assert scores.case_ids == job.units("test")
    test = job.on("test")
    views = judge_rows(load_model(folder), [c.case_id for c in test], [c.facts for c in test])
    own = [one.probability for one, c in zip(views, test, strict=True) if c.unit == test[0].unit]
    mean = np.mean(own, axis=0)
    row = scores.probability[0]
    assert not np.allclose(row, mean), "the calibration was fitted on studies and is not applied"
    slope, intercept = (outcome.calibration[name] for name in ("slope", "intercept"))
    odds = np.log(mean[1] / mean[0])
    np.testing.assert_allclose(row[1], 1 / (1 + np.exp(-(slope * odds + intercept))), rtol=1e-6)
    groups = groups_of_test(ready, scores, outcome.threshold)
    assert {group.fact for group in groups} >= {"sex"}


def test_a_patient_of_two_sexes_is_in_one_group_of_sex_and_the_report_warns(wrists):
    _, ready, *_ = wrists
    cases = ready.cohort.cases
    keys = [case.patient_key for case in cases]
    assert data_warnings(ready) == ()
    # The last view of three patients says the other sex than their first.
    turned = {key: len(keys) - 1 - keys[::-1].index(key) for key in ready.cohort.patients[:3]}
    other = {"F": "M", "M": "F"}
    mixed = [
        replace(case, facts={**case.facts, "sex": other[case.facts["sex"]]})
        if turned.get(case.patient_key) == i
        else case
        for i, case in enumerate(cases)
    ]
    ready = replace(ready, cohort=replace(ready.cohort, cases=tuple(mixed)))
    target, share = np.arange(len(keys)) % 2, np.full((len(keys), 2), 0.5)
    ids = [case.case_id for case in mixed]
    scores = Predictions(ids, keys, target, share, ready.scenario.labels.classes)
    sexes = facts_of_scored(ready, scores, ["sex", "modality"])["sex"]
    groups = {sex: {k for k, s in zip(keys, sexes, strict=True) if s == sex} for sex in set(sexes)}
    assert groups["unknown"] == turned.keys()
    assert sum(len(patients) for patients in groups.values()) == PATIENTS
    (warning,) = data_warnings(ready)
    assert warning.startswith(f"3 of {PATIENTS} patients have two sexes")


def test_random_labels_are_given_to_studies(wrists):
    _, ready, job, _, records = wrists
    given = []

    def fit(one) -> Predictions:
        given.append({case.case_id: (case.unit, case.target) for case in one.cases})
        return out_of_fold(one, records)

    random_labels(job, "header-only", ready.scenario.evaluate, fit)
    for labels in given:
        assert all(target == labels[unit][1] for unit, target in labels.values())


def test_each_view_gets_the_answer_about_its_study(wrists, model):
    _, ready, *_ = wrists
    spec = read_spec(model[0])
    cases = by_study(ready.cohort.cases)
    study_of = first_of_study(cases)
    assert [study_of[case.case_id] for case in cases] == sorted(study_of.values())
    rng = np.random.default_rng(0)
    score = rng.random(len(cases))
    judged = [
        (case.case_id, Judgement(case.case_id, "", np.array([1 - p, p])))
        for case, p in zip(cases, score, strict=True)
    ]
    judged[3] = judged[3][0], BadCase("no_pixels")
    found = list(with_study(spec, judged, study_of))
    assert [case_id for case_id, _ in found] == [case.case_id for case in cases]
    first, second, third, bad = (one for _, one in found[:4])
    assert isinstance(bad, BadCase)
    assert (first.views, second.views, third.views) == (2, 2, 1)
    assert first.study == second.study != third.study
    np.testing.assert_array_equal(first.answer, second.answer)
    np.testing.assert_array_equal(first.probability, [1 - score[0], score[0]])


def test_a_report_names_all_views_of_its_study_and_goes_home(wrists, model, tmp_path):
    home, ready, *_ = wrists
    asked = load_model(model[0])
    cases = by_study(ready.cohort.cases)[:2]
    views = [(case.case_id, Judgement(case.case_id, "", np.array([0.4, 0.6]))) for case in cases]
    facts = ModelFacts("wrists", "t", "wrists", "1", "ab" * 32, "classification", "now",
                       positive="fracture", classes=asked.spec.classes)  # fmt: skip
    desk = dicom_desk(home, home, ready.scenario.outputs, facts, asked.spec.recipe, cases)
    rows = []
    for case_id, one in with_study(asked.spec, views, first_of_study(cases)):
        row = answer_row(asked, one, None, (), ready.scenario, tmp_path)
        assert row.beside == tuple(case.case_id for case in cases if case.case_id != case_id)
        rows.append(desk.written(row, None, tmp_path))
    write_predictions(tmp_path, rows, facts)
    put_source(home.vault, resolve_source(str(home.settings.home.parent / "dicom"), "wrists"))
    out = tmp_path.parent / f"{tmp_path.name}-own"
    how = {"to": "dicom", "results": tmp_path, "source": "wrists", "verbose": True}
    how["home"] = home.settings.home
    assert bring_home(argparse.Namespace(**how, out=out)) == 0
    originals = set()
    for order in orders_of(home, cases):
        originals |= {str(dcmread(ref.path).SOPInstanceUID) for ref in order.files}
    assert len(originals) == 2
    reports = [dcmread(path) for path in out.iterdir()]
    assert len(reports) == 2
    for report in reports:
        (study,) = report.CurrentRequestedProcedureEvidenceSequence
        named = {i.ReferencedSOPInstanceUID for s in study.ReferencedSeriesSequence
                 for i in s.ReferencedSOPSequence}  # fmt: skip
        assert named == originals


def test_the_table_of_predictions_shows_study_and_view(tmp_path):
    facts = ModelFacts("s", "t", "n", "1", "d", "classification", "now", positive="yes")
    rows = [
        PredictionRow("a" * 32, label="yes", score=0.6, study="a" * 32, views=2, view_score=0.9),
        PredictionRow("b" * 32, label="yes", score=0.6, study="a" * 32, views=2, view_score=0.3),
    ]
    write_predictions(tmp_path, rows, facts)
    with (tmp_path / "predictions.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [(row["score"], row["view_score"]) for row in table] == [("0.6", "0.9"), ("0.6", "0.3")]
    page = (tmp_path / "index.html").read_text()
    assert "2 views" in page
    assert '<b>1</b><span class="soft small">yes</span>' in page, "a study counts once"
    assert ", study" in page
    write_predictions(tmp_path, [replace(rows[0], study=None)], facts)
    assert "view_score" not in (tmp_path / "predictions.csv").read_text()
    assert "This view" not in (tmp_path / "index.html").read_text()


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ("unit: study", "unit: study, views: max", None),
        ("classes: [no_fracture, fracture], positive: fracture", "classes: [a, b, c]", None),
        ("unit: study, calibration: platt", "unit: study, views: max", "two classes"),
        ("kind: dicom, modality: [CR, DX]", "kind: row, table: t", "rows of a table"),
        ("unit: study", "unit: study, baseline: [forest]", "'forest' is no candidate"),
        ("gate: {", "gate: {beat_baseline: true, ", "no candidate stands for the classical way"),
    ],
)
def test_a_scenario_says_why_studies_cannot_be_judged(was, now, told):
    text = SCENARIO.replace(was, now)
    if told == "two classes":
        text = text.replace(
            "classes: [no_fracture, fracture], positive: fracture", "classes: [a, b, c]"
        )
    if told is None:
        assert parse_scenario(text).evaluate.join in ("mean", "max")
        return
    with pytest.raises(ScenarioError, match=told):
        parse_scenario(text)


def test_another_tool_may_answer_by_study(wrists, tmp_path):
    home, ready, job, *_ = wrists
    frame = tmp_path / "cases.csv"
    write_frame(home, ready, job.on("test"), frame)
    with frame.open(newline="") as stream:
        accessions = {row["case_id"]: row["accession"] for row in csv.DictReader(stream)}
    truth = {case.unit: 0 for case in job.on("test")}
    for case in job.on("test"):
        truth[case.unit] |= case.target
    lines = [f"{accessions[unit]},{0.9 if ill else 0.2}" for unit, ill in truth.items()]
    (tmp_path / "predictions.csv").write_text("\n".join(["accession,p/fracture", *lines]) + "\n")
    digest = keep_foreign(home, ready, job, tmp_path)
    scores = kept_scores(home, ready, job, digest)
    assert scores.case_ids == job.units("test")
    np.testing.assert_allclose(scores.score, np.where(scores.truth, 0.9, 0.2))
    (tmp_path / "predictions.csv").write_text(
        "\n".join(["accession,p/fracture", *lines[1:]]) + "\n"
    )
    with pytest.raises(RadloopError, match=r"2 of \d+ test cases are not in"):
        keep_foreign(home, ready, job, tmp_path)
