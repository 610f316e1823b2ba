"""What is measured is what is trained on, exported, and measured again in new images."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from flows.home import Home
from flows.orders import orders_of
from flows.settings import load_settings
from tasks.archive.catalog import cases
from tasks.archive.commits import PartRow, commit_part, features, put_recipe, want_cases
from tasks.archive.intake import ingest
from tasks.archive.orders import WorkOrder
from tasks.archive.sources import resolve_source
from tasks.errors import BadCase
from tasks.evaluate.config import EvaluateConfig
from tasks.imaging.columns import columns_of
from tasks.imaging.recipe import fit
from tasks.imaging.steps import parse_steps
from tasks.learn.answer import calibrated
from tasks.learn.crossval import fit_fold
from tasks.learn.header import HEADER_COLUMNS
from tasks.learn.job import JobCase, TrainingJob
from tasks.learn.judge import is_header_model, judge_files, needs_files
from tasks.learn.model import load_model
from tasks.learn.tabular import predict_table, table_frame
from tasks.phantom.write import write_limb_archive
from tasks.serve.challenger import build_model
from tasks.serve.outcome import sum_up
from tasks.store.fill import write_image_part
from tasks.store.measured import measured_in
from tasks.store.read import open_part
from tasks.store.schema import part_id, recipe_id
from tests.flows.conftest import LIMB, LOOP_SECONDS
from tests.flows.running import Place

STEPS = [
    {"step": "pad_square"},
    {"step": "resize", "shape": [1, 32, 32]},
    {
        "step": "features",
        "families": ["intensity", "glcm", "lbp"],
        "bins": 16,
        "glcm": ["2d_slice_merged"],
    },
    {"step": "normalise", "method": "zscore"},
]

CANDIDATE = {"name": "measured", "kind": "tabular", "estimator": "tree"}

SCENARIO = (
    LIMB.replace("small-limb", "limb-features")
    .replace("  - {step: percentile_clip, low: 0.5, high: 99.5}\n", "")
    .replace(
        "  - {step: normalise",
        "  - {step: features, families: [intensity, glcm, lbp], bins: 16, "
        "glcm: [2d_slice_merged]}\n  - {step: normalise",
    )
    .replace(
        "{name: small-cnn, kind: network, network: small_cnn, epochs: 2}",
        "{name: measured, kind: tabular, estimator: logistic}",
    )
)


class Measured:
    """A small archive whose images were measured into a part and the catalog."""

    def __init__(self, place: Place) -> None:
        self.place = place
        archive = place.folder / "archive"
        write_limb_archive(archive, patients=24, seed=4)
        self.home = Home(load_settings(place.home))
        ingest(resolve_source(str(archive)), self.home.catalog, self.home.vault, self.home.names)
        self.cases = cases(self.home.catalog, kind="dicom")
        self.recipe = fit(parse_steps(STEPS), None)
        self.key = recipe_id(self.recipe)
        self.orders = tuple(orders_of(self.home, self.cases))
        ids = [case.case_id for case in self.cases]
        body = {"asked": "", "recipe": self.recipe.to_dict()}
        put_recipe(self.home.catalog, self.key, "limb-features", body, "")
        want_cases(self.home.catalog, self.key, ids)
        order = WorkOrder(part_id(ids, self.key, "image"), self.key, self.orders)
        self.root = self.home.settings.store_root
        self.record = write_image_part(self.root, order, self.recipe)
        self.numbers = measured_in(open_part(self.root, self.record.path, self.record.digest))
        row = PartRow(
            self.record.part_id, "image", self.key, None, None, self.record.path,
            self.record.case_ids, self.record.bytes, self.record.digest,
        )  # fmt: skip
        commit_part(self.home.catalog, row, self.record.failures, measured=self.numbers)

    def job(self) -> TrainingJob:
        """A training that has to tell bright images from dark ones."""
        table = features(self.home.catalog, self.key)
        bright = {case_id: row["image_intensity_median"] for case_id, row in table.items()}
        middle = np.median(list(bright.values()))
        patients = sorted({case.patient_key for case in self.cases})
        return TrainingJob(
            scenario="limb-features",
            task="classification",
            classes=("dark", "bright"),
            positive="bright",
            primary="auroc",
            candidates=(CANDIDATE,),
            cases=tuple(
                JobCase(
                    case_id=case.case_id,
                    patient_key=case.patient_key,
                    side="train",
                    fold=patients.index(case.patient_key) % 2,
                    target=int(bright[case.case_id] > middle),
                    facts=dict(case.facts),
                    features=table[case.case_id],
                )
                for case in self.cases
            ),
            recipe=self.recipe.to_dict(),
        )


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    made = Measured(Place(tmp_path_factory.mktemp("measured")))
    yield made
    made.home.catalog.dispose()
    made.home.vault.dispose()


@pytest.fixture(scope="module")
def trained(measured, tmp_path_factory):
    """The cross-validated outcome and the model that the challenger would be."""
    folder = tmp_path_factory.mktemp("trained")
    job = measured.job()
    place = job.save(folder)
    records = [fit_fold(place, measured.root, "measured", fold) for fold in job.folds]
    outcome = sum_up(job, "measured", records, EvaluateConfig(bootstrap=200))
    build_model(job, place, outcome, folder / "model", {})
    return outcome, load_model(folder / "model")


def test_the_catalog_holds_what_the_part_holds(measured):
    assert not measured.record.failures
    table = features(measured.home.catalog, measured.key)
    assert table == measured.numbers
    assert table.keys() == {case.case_id for case in measured.cases}
    for row in table.values():
        assert row.keys() == set(columns_of(measured.recipe))
        # Before the image was normalised, in its own units.
        assert row["image_intensity_variance"] > 100


def test_a_model_of_measured_columns_measures_new_images_by_its_own_recipe(measured, trained):
    outcome, model = trained
    # Far above chance; how far hangs on the folds, which the home's own key draws.
    assert outcome.figures["auroc"].value > 0.7
    # Columns of the recipe and none of the header, which would tell the vendor.
    assert set(model.spec.features) == set(columns_of(measured.recipe))
    assert needs_files(model.spec)
    judged = dict(judge_files(model, measured.orders))
    assert len(judged) == len(measured.cases)
    for order, one in judged.items():
        frame = table_frame([measured.numbers[order.case_id]])
        expected = calibrated(model.spec, predict_table(model.pipeline, frame, 2))[0]
        np.testing.assert_array_equal(one.probability, expected)
        assert one.prepared.shape == (1, 32, 32)
        assert model.heatmap(one.prepared, 1) is None


def test_an_image_that_cannot_be_measured_is_answered_with_its_reason(measured, trained):
    whole, other = measured.orders[:2]
    gone = replace(other, files=tuple(replace(ref, path=ref.path + ".gone") for ref in other.files))
    answers = dict(judge_files(trained[1], [gone, whole]))
    assert isinstance(answers[gone], BadCase)
    assert answers[whole].probability.sum() == pytest.approx(1)


def test_a_header_model_and_one_of_rows_need_no_file(trained):
    spec = trained[1].spec
    assert not is_header_model(spec)
    header = spec.model_copy(update={"features": HEADER_COLUMNS})
    assert is_header_model(header)
    assert not needs_files(header)
    assert not needs_files(spec.model_copy(update={"recipe": None}))


def test_the_table_for_other_tools_is_the_catalogs(measured):
    place = measured.place
    (place.folder / "limb-features.yaml").write_text(SCENARIO)
    out = place.folder / "tables" / "limb.csv"
    ran = place.radloop("features", place.folder / "limb-features.yaml", "--out", out).ok()
    columns = columns_of(measured.recipe)
    assert ran.out == f"{len(measured.cases)} cases, {len(columns)} columns written to {out}\n"
    with out.open(newline="") as stream:
        rows = {row.pop("case_id"): row for row in csv.DictReader(stream)}
    patients = {case.case_id: case.patient_key for case in measured.cases}
    assert rows.keys() == patients.keys()
    for case_id, row in rows.items():
        assert row.pop("patient_key") == patients[case_id]
        assert tuple(row) == columns
        kept = {name: float(text) if text else None for name, text in row.items()}
        assert kept == measured.numbers[case_id]
    told = json.loads(out.with_suffix(".json").read_text())
    assert told["recipe_id"] == measured.key
    assert told["columns"]["image_intensity_mean"]["ibsi"] == "Q4LE"
    contrast = told["columns"]["image_glcm_2d_slice_merged_contrast"]
    assert contrast["ibsi"] == "ACUI SUJT"
    assert contrast["settings"]["bins"] == 16
    assert "PHANTOM" not in out.read_text() + out.with_suffix(".json").read_text()


def test_a_scenario_that_measured_nothing_has_no_table(measured):
    place, plain = measured.place, measured.place.folder / "small-limb.yaml"
    plain.write_text(LIMB)
    steps = parse_steps([{"step": "normalise"}])
    body = {"asked": "", "recipe": fit(steps, None).to_dict()}
    put_recipe(measured.home.catalog, "0" * 32, "small-limb", body, "")
    ran = place.radloop("features", plain, "--out", "x.csv")
    assert ran.code == 1
    assert "the recipe of scenario small-limb measures nothing: add a features step" in ran.err


@pytest.mark.slow
@pytest.mark.timeout(LOOP_SECONDS)
def test_the_loop_from_archive_to_predictions_with_a_table_of_measured_features(tmp_path):
    place = Place(tmp_path)
    archive, judged = tmp_path / "archive", tmp_path / "judged"
    write_limb_archive(archive, patients=40, seed=3)
    (tmp_path / "limb-features.yaml").write_text(SCENARIO)
    try:
        out = place.radloop("retrain", tmp_path / "limb-features.yaml", "--source", archive).ok()
        assert "* measured" in out.out
        predicted = place.radloop("predict", "limb-features", archive, "--out", judged).ok()
        assert "0 failed" in predicted.out
        table = tmp_path / "table.csv"
        place.radloop("features", "limb-features", "--out", table).ok()
    finally:
        left = place.close()
    assert not left
    with table.open(newline="") as stream:
        measured = {row["case_id"] for row in csv.DictReader(stream)}
    rows = json.loads((judged / "predictions.json").read_text())["predictions"]
    assert {row["case_id"] for row in rows} == measured
    for row in rows:
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert (judged / row["overlay"]).is_file()
