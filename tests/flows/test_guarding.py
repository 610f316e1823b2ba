"""What would make figures too good stops a training before it begins, by name."""

import csv
import json
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flows.cohorts import Ready, settle
from flows.guarding import guard
from flows.home import Home
from flows.jobs import places_of, write_job
from flows.settings import Settings
from tasks.archive.commits import fitting_cases, recipe_for
from tasks.errors import LeakageError
from tasks.learn.job import TrainingJob
from tasks.phantom.encode import encode_pixels, write_dataset
from tasks.phantom.limb import render
from tasks.phantom.write import draw_studies, limb_dataset
from tests.flows.conftest import PATIENTS, SEED
from tests.flows.running import Place

NOWHERE = "tcp://127.0.0.1:1"
"""No scheduler is asked: the training has looked at every part already."""

COPIES = 12
"""Patients with a picture of somebody else: some land on another side than the other."""


@pytest.fixture(scope="module")
def known(loop) -> Iterator[tuple[Home, Ready, TrainingJob]]:
    """The home of the loop with its cases, sides and job; looking decides nothing new."""
    home = Home(Settings(home=loop.home))
    ready = settle(home, home.scenario("small-limb", keep=False))
    yield home, ready, write_job(home, ready)
    home.catalog.dispose()
    home.vault.dispose()


def test_an_honest_training_passes_and_the_report_says_what_was_looked_for(loop, known):
    found = guard(*known, NOWHERE)
    assert found.warnings == ()
    learnt = fitting_cases(known[0].catalog, recipe_for(known[0].catalog, "small-limb")[0])
    assert len(learnt) > 10
    assert f"The recipe was fitted on {len(learnt)} cases, all of training patients." in (
        found.checks
    )
    (report,) = (loop.home / "reports" / "small-limb").glob("*.html")
    for sentence in found.checks:
        assert sentence in report.read_text()


def test_a_patient_who_was_moved_to_the_other_side_is_refused_by_case(known):
    home, ready, job = known
    moved = job.on("test")[0]
    double = replace(moved, case_id="f" * 32, side="train", fold=0)
    with pytest.raises(LeakageError, match=moved.case_id[:12]):
        guard(home, ready, replace(job, cases=(*job.cases, double)), NOWHERE)


def test_a_split_that_changed_after_the_fit_is_refused_by_case(known):
    """What a scenario with another `test` share or another table of sides makes of a kept fit."""
    home, ready, job = known
    learnt = fitting_cases(home.catalog, recipe_for(home.catalog, "small-limb")[0])
    case_id, patient = next(iter(learnt.items()))
    sides = {**ready.sides, patient: replace(ready.sides[patient], side="test", edition=1)}
    with pytest.raises(LeakageError, match=rf"{case_id[:12]} \(test\).*--refit"):
        guard(home, replace(ready, sides=sides), job, NOWHERE)


def test_one_image_under_two_patients_is_refused_by_case(known):
    """The image of a training patient stands under the name of a test patient too."""
    home, ready, job = known
    # The looks of the one stand for the other's, as after a copy under another name.
    looks = home.settings.home / "looks"
    before = {path: path.read_text() for path in looks.glob("*.json")}
    try:
        _copy_look(before, job.on("train")[0].case_id, job.on("test")[0].case_id)
        with pytest.raises(LeakageError, match="1 of them with the very same voxels"):
            guard(home, ready, job, NOWHERE)
    finally:
        for path, text in before.items():
            path.write_text(text)


def _copy_look(files: dict[Path, str], source: str, target: str) -> None:
    rows = {row["case_id"]: row for text in files.values() for row in json.loads(text)}
    for path, text in files.items():
        changed = [
            {**rows[source], "case_id": target} if row["case_id"] == target else row
            for row in json.loads(text)
        ]
        path.write_text(json.dumps(changed))


@pytest.mark.slow
def test_a_copied_image_under_another_name_stops_the_command(loop, tmp_path):
    """From the files of new patients to the refusal: no run, no model, no use of the edition."""
    place = Place(tmp_path, api=loop.place.api_of_server())
    for name in ("catalog.db", "vault.db"):
        with sqlite3.connect(loop.home / name) as database:
            database.execute("pragma wal_checkpoint(truncate)")
    kept = shutil.ignore_patterns("prefect", "mlflow*", "artifacts", "*-wal", "*-shm")
    shutil.copytree(loop.home, place.home, ignore=kept)
    place.home.chmod(0o700)
    archive = tmp_path / "copies"
    write_copies(archive)
    place.radloop("ingest", archive, "--labels-of", "small-limb").ok()
    place.radloop("preprocess", "small-limb").ok()
    refused = place.radloop("train", "small-limb")
    assert refused.code == 1
    assert "pairs of images stand under two patients" in refused.err
    assert not (place.home / "mlflow.db").exists()
    home = Home(Settings(home=place.home))
    ready = settle(home, home.scenario("small-limb", keep=False))
    job = write_job(home, ready)
    where = places_of(job)
    named = {name for name in where if name[:12] in refused.err}
    assert len(named) > 1
    assert len({where[name] for name in named}) > 1
    home.catalog.dispose()
    home.vault.dispose()
    assert "Zq" not in refused.err
    assert "SYNTHETIC" not in refused.err


def write_copies(archive: Path) -> None:
    """Write pictures of the loop's archive, half as fine and brighter, under other names."""
    rows = [("accession_number", "patient_id", "target")]
    for number in range(COPIES):
        study = draw_studies(SEED, number * PATIENTS // COPIES)[0]
        grey = render(study.anatomy, study.shot).astype(np.float64)
        smaller = grey.reshape(grey.shape[0] // 2, 2, grey.shape[1] // 2, 2).mean(axis=(1, 3))
        pixels = np.round(smaller * 0.7 + 500).astype(np.uint16)
        dataset = limb_dataset(replace(study, patient=900 + number, seed=SEED + 500))
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.PresentationLUTShape = "IDENTITY"
        encode_pixels(dataset, pixels, study.syntax)
        write_dataset(archive / f"{number}.dcm", dataset)
        rows.append((dataset.AccessionNumber, dataset.PatientID, study.target))
    with (archive / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
