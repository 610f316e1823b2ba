"""`recipe: auto`: nnU-Net's rules on the training side, once; then frozen, shown and reused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from flows import fitting
from flows.__main__ import main
from flows.cohorts import settle
from flows.fitting import fitted_recipe
from flows.home import Home
from flows.jobs import write_job
from flows.orders import orders_of
from flows.settings import Settings
from tasks.archive.intake import ingest
from tasks.archive.nifti import write_nifti
from tasks.archive.orders import WorkOrder
from tasks.archive.sources import resolve_source
from tasks.archive.vault import recall
from tasks.cohort.fingerprint import Fingerprint
from tasks.hashing import digest_json
from tasks.imaging.recipe import FittedRecipe
from tasks.learn.crossval import fit_fold
from tasks.learn.judge import judge_image
from tasks.learn.model import load_model
from tasks.learn.model_file import ModelSpec, save_model
from tasks.scenario.text import parse_scenario
from tasks.store.fill import fingerprint_order
from tests.flows.brats import preprocessed

SCENARIO = """\
name: slabs
title: Thick slices of made-up CT
task: segmentation
synthetic: true
intended_use: Tests of radloop. Research use only.
not_for: Anything clinical.
population: Nobody. Made-up slabs.
cohort: {kind: nifti}
labels: {format: decathlon, classes: [lesion]}
recipe: auto
split: {source: keyed, test: 0.3, folds: 2, key: public, strata: []}
candidates:
  - {name: net, kind: network, network: nnunet3d, gpu_memory_gb: 0.1}
evaluate: {primary: dice}
gate: {margin: 0.1, min_patients: 2, undecidable: promote}
"""

CASES = 12
THICK = (2.5, 4.0, 5.0, 5.0)
"""Spacing in mm of the slices, case by case in turn; pixels have 0.8 mm."""


def write_slabs(folder: Path, count: int, modality: str = "CT", first: int = 0) -> Path:
    """Write decathlon folders of thick slices; each lesion has an intensity of its own."""
    training = []
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        image = rng.normal(-50, 20, (8, 40, 48)).astype(np.float32)
        mask = np.zeros(image.shape, np.uint8)
        mask[2:6, 10:22, 12:30] = 1
        image[mask > 0] += 100 + 10 * number
        affine = np.zeros((4, 4))
        affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = THICK[number % 4], 0.8, 0.8, 1
        for side, values in (("imagesTr", image), ("labelsTr", mask)):
            (folder / side).mkdir(parents=True, exist_ok=True)
            write_nifti(folder / side / f"slab_{number:03d}.nii.gz", values, affine)
        name = f"slab_{number:03d}.nii.gz"
        training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    said = {"0": modality} if modality else {}
    index = {
        "name": "slabs", "modality": said, "labels": {"0": "background", "1": "lesion"},
        "numTraining": count, "training": training, "test": [],
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(index))
    return folder


def taken_in(home: Home, folder: Path, alias: str) -> None:
    report = ingest(resolve_source(str(folder), alias), home.catalog, home.vault, home.names)
    assert not report.quarantined


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Measure here what the flow would measure in workers of Dask."""

    def measured(home, ready, cases, address, before, step):
        assert step is None
        order = WorkOrder("", "", tuple(orders_of(home, cases, ready.cohort.masks)))
        return fingerprint_order(order, FittedRecipe.from_dict(before))

    monkeypatch.setattr(fitting, "_measure", measured)


@pytest.fixture
def slabs(tmp_path):
    home = Home(Settings(home=tmp_path / "home"))
    taken_in(home, write_slabs(tmp_path / "slabs", CASES), "slabs")
    (home.settings.home / "scenarios").mkdir()
    (home.settings.home / "scenarios" / "slabs.yaml").write_text(SCENARIO)
    yield home, parse_scenario(SCENARIO)
    home.catalog.dispose()
    home.vault.dispose()


def numbers(home, cases):
    return [int(recall(home.vault, "patient", one.patient_key)[-3:]) for one in cases]


def test_spacing_and_scale_come_from_the_training_side_alone(slabs):
    home, scenario = slabs
    ready = settle(home, scenario)
    _, recipe = fitted_recipe(home, ready, "")
    training = ready.cases_on("train")
    assert ready.cases_on("test")
    thick = [THICK[n % 4] for n in numbers(home, training)]
    _, scale, grid = (step.params for step in recipe.steps)
    expected = (max(np.percentile(thick, 10), 0.8), 0.8, 0.8)
    assert grid["spacing"] == pytest.approx(expected, rel=1e-5)
    lesions = [50 + 10 * n for n in numbers(home, training)]
    assert scale["method"] == "fingerprint"
    assert scale["mean"] == pytest.approx(np.mean(lesions), abs=2)
    every = [50 + 10 * n for n in range(CASES)]
    assert abs(np.mean(every) - np.mean(lesions)) > 2, "the sides cannot be told apart: other seed"
    assert recipe.fitted_on == digest_json(sorted(case.case_id for case in training))


def test_growth_keeps_the_fit_and_a_refit_changes_it(slabs, tmp_path):
    home, scenario = slabs
    key, recipe = fitted_recipe(home, settle(home, scenario), "")
    more = write_slabs(tmp_path / "more", 6, first=100)
    taken_in(home, more, "more")
    grown = settle(home, scenario)
    assert len(grown.cohort.cases) == CASES + 6
    assert fitted_recipe(home, grown, "") == (key, recipe)
    again, other = fitted_recipe(home, grown, "", refit=True)
    assert again != key
    assert other.steps[1].params["mean"] > recipe.steps[1].params["mean"] + 100


def test_the_plan_is_said_before_and_after_images_are_prepared(slabs, capsys):
    home, scenario = slabs
    ready = settle(home, scenario)
    _, recipe = fitted_recipe(home, ready, "")
    words = ["plan", "slabs", "--home", str(home.settings.home)]
    assert main(words) == 0
    before = capsys.readouterr().out
    preprocessed(home, ready)
    assert main(words) == 0
    after = capsys.readouterr().out
    assert before == after
    assert "modality CT" in after
    (line,) = [line for line in after.splitlines() if "network net" in line]
    assert "nnunet3d, patch " in line
    lines = after.splitlines()
    said = "\n".join(lines[lines.index("recipe:") : lines.index(line)])
    steps = yaml.safe_load(said)["recipe"]
    written = parse_scenario(yaml.safe_dump(yaml.safe_load(SCENARIO) | {"recipe": steps}))
    assert [s.parameters().model_dump(mode="json") for s in written.recipe] == [
        s.params for s in recipe.steps
    ]


def test_a_network_learns_on_the_planned_grid_and_answers_on_the_patient_s(slabs, tmp_path):
    home, scenario = slabs
    _, recipe, refused = preprocessed(home, settle(home, scenario))
    assert refused == []
    ready = settle(home, scenario)
    job = write_job(home, ready)
    body = {**job.candidates[0], "epochs": 1, "steps_per_epoch": 2, "features": [4, 8]}
    job = replace(job, candidates=(body,))
    place = job.save(tmp_path / "training")
    record = fit_fold(place, home.settings.store_root, "net", 0)
    spec = ModelSpec(
        name="slabs", candidate="net", task="segmentation", kind="network",
        classes=("background", "lesion"), plan=job.plan(job.candidate("net")),
        recipe=recipe.to_dict(),
    )  # fmt: skip
    save_model(tmp_path / "model", spec, folds=[place / record.weights])
    (order, *_) = orders_of(home, ready.cases_on("test"))
    one = judge_image(load_model(tmp_path / "model"), order)
    assert one.mask.shape == one.image.shape == (8, 40, 48)
    (thick,) = (THICK[n % 4] for n in numbers(home, ready.cases_on("test")[:1]))
    assert one.shown.shape == (round(8 * thick / job.spacing[0]), 40, 48)


def test_ct_that_does_not_say_so_is_not_guessed(tmp_path):
    home = Home(Settings(home=tmp_path / "home"))
    taken_in(home, write_slabs(tmp_path / "slabs", 6, ""), "slabs")
    with pytest.raises(ValueError, match="auto must know whether the images are CT"):
        fitted_recipe(home, settle(home, parse_scenario(SCENARIO)), "")


def test_the_hippocampus_stays_on_its_grid(tmp_path, shared_data):
    home = Home(Settings(home=tmp_path / "home"))
    taken_in(home, shared_data / "hippocampus", "hippocampus")
    text = SCENARIO.replace("[lesion]", "[anterior, posterior]")
    _, recipe = fitted_recipe(home, settle(home, parse_scenario(text)), "")
    _, scale, grid = (step.params for step in recipe.steps)
    assert (scale["method"], grid["spacing"]) == ("zscore", [1.0, 1.0, 1.0])


def test_a_fingerprint_is_kept_beside_the_recipe(slabs):
    from tasks.archive.commits import recipe_for

    home, scenario = slabs
    fitted_recipe(home, settle(home, scenario), "")
    seen = Fingerprint.from_dict(recipe_for(home.catalog, "slabs")[1]["fingerprint"])
    assert seen.n_cases == len(settle(home, scenario).cases_on("train"))
    assert seen.modalities == ("CT",)
