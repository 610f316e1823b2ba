"""Another tool's predictions find their cases by any name, and nothing of a name is kept."""

import csv
import json
import re
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from flows.cohorts import Ready, settle
from flows.data import data_folder
from flows.evaluate import Measured, beside_champion
from flows.foreign import keep_foreign, kept_scores
from flows.foreign_names import write_frame
from flows.home import Home
from flows.settings import Settings
from tasks.archive.audit import verify_audit
from tasks.archive.intake import ingest
from tasks.archive.sources import Source
from tasks.archive.vault import put_source
from tasks.errors import RadloopError
from tasks.evaluate.metrics import auroc
from tasks.evaluate.predictions import Predictions
from tasks.imaging.recipe import fit
from tasks.labels.attach import attach_labels
from tasks.learn.job import JobCase, TrainingJob
from tasks.phantom.write import write_limb_archive
from tasks.serve.names import load_names
from tasks.serve.tracking import Tracker, search
from tasks.serve.verdict import Scored
from tests.flows.conftest import LIMB
from tests.flows.running import Place

MASKS = """\
name: lumps
title: Lumps in boxes
task: segmentation
synthetic: true
intended_use: Tests of radloop. Research use only.
not_for: Anything clinical.
population: Nobody. Drawn by a program.
cohort: {kind: nifti}
labels: {format: decathlon, classes: [front, back]}
recipe: [{step: normalise, method: zscore}]
split: {source: keyed, test: 0.3, folds: 2, strata: []}
candidates: [{name: small, kind: network, network: unet3d, epochs: 1}]
evaluate: {primary: dice, bootstrap: 200}
"""

SHAPE = (8, 10, 12)
AFFINE = np.diag([2.0, 1.5, 3.0, 1.0])
"""Index (i, j, k) to RAS millimetres."""


def job_of(ready: Ready) -> TrainingJob:
    """Return the job of a home whose images nobody has prepared: truth needs the archive alone."""
    scenario = ready.scenario
    classes = list(scenario.labels.classes)
    cases = []
    for case in ready.cohort.cases:
        row = ready.sides[case.patient_key]
        target = ready.cohort.targets.get(case.case_id)
        number = None if target is None else classes.index(target)
        cases.append(JobCase(case.case_id, case.patient_key, row.side, row.fold, number))
    recipe = fit([], None).to_dict()
    names = scenario.task, tuple(classes), scenario.labels.positive, scenario.evaluate.primary
    return TrainingJob(scenario.name, *names, (), tuple(cases), recipe=recipe)


def opened(folder: Path, scenario: str, name: str, source: Source) -> tuple[Home, Ready]:
    home = Home(Settings(home=folder))
    (folder / "scenarios").mkdir(parents=True)
    (folder / "scenarios" / f"{name}.yaml").write_text(scenario)
    put_source(home.vault, source)
    ingest(source, home.catalog, home.vault, home.names)
    labels = home.scenario(name).labels
    if labels.format == "table":
        attach_labels(source, labels, home.names, home.catalog, home.vault)
    return home, settle(home, home.scenario(name))


@pytest.fixture(scope="module")
def limbs(tmp_path_factory) -> Iterator[tuple[Home, Ready, TrainingJob, list[dict[str, str]]]]:
    """A home of drawn radiographs, and its test cases as the list names them."""
    folder = tmp_path_factory.mktemp("limbs")
    write_limb_archive(folder / "archive", patients=40, seed=5)
    source = Source("north", "folder", str(folder / "archive"))
    home, ready = opened(folder / "home", LIMB, "small-limb", source)
    job = job_of(ready)
    write_frame(home, ready, job.on("test"), folder / "frame.csv")
    assert stat.S_IMODE((folder / "frame.csv").stat().st_mode) == 0o600
    with (folder / "frame.csv").open() as stream:
        yield home, ready, job, list(csv.DictReader(stream))
    home.catalog.dispose()
    home.vault.dispose()


def answer(folder: Path, header: list[str], rows: list[list[object]]) -> Path:
    folder.mkdir(exist_ok=True)
    with (folder / "predictions.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return folder


def test_the_list_is_the_test_edition_under_every_name(limbs):
    _, ready, job, frame = limbs
    assert {row["case_id"] for row in frame} == {case.case_id for case in job.on("test")}
    by_id = {case.case_id: case for case in ready.cohort.cases}
    for row in frame:
        assert row["export_name"] == by_id[row["case_id"]].series_key
        assert row["accession"]
        assert row["file"].endswith(f"{row['accession']}/IM0000.dcm")


@pytest.mark.parametrize("name", ["case_id", "export_name", "accession"])
def test_probabilities_find_their_cases_and_are_held_against_the_truth(limbs, name, tmp_path):
    home, ready, job, frame = limbs
    rng = np.random.default_rng(0)
    said = {
        row["case_id"]: round(float(p), 3)
        for row, p in zip(frame, rng.random(len(frame)), strict=True)
    }
    rows = [[row[name], 1 - said[row["case_id"]], said[row["case_id"]]] for row in frame]
    folder = answer(
        tmp_path / "t", ["case", "p/no_fracture", "p/fracture"], [*rows, ["gone", 1, 0]]
    )
    digest = keep_foreign(home, ready, job, folder)
    scores = kept_scores(home, ready, job, digest)
    assert set(scores.case_ids) == set(said)
    truth = {case.case_id: case.target for case in job.on("test")}
    expected = auroc([truth[c] for c in said], list(said.values()))
    assert auroc(scores.truth, scores.score) == pytest.approx(expected)
    kept = (home.settings.home / "foreign" / digest / "predictions.csv").read_text()
    assert not any(row["accession"] in kept for row in frame)
    one = answer(tmp_path / "one", ["id", "fracture"], [[r[0], r[2]] for r in rows])
    assert auroc(scores.truth, kept_scores(home, ready, job, keep_foreign(
        home, ready, job, one)).score) == pytest.approx(expected)  # fmt: skip


def test_what_a_reader_said_in_a_column_beside_is_no_probability(limbs, tmp_path):
    home, ready, job, frame = limbs
    truth = {case.case_id: case.target for case in job.on("test")}
    rows = [[row["case_id"], 0.3, truth[row["case_id"]]] for row in frame]
    folder = answer(tmp_path / "t", ["case", "p/fracture", "fracture"], rows)
    scores = kept_scores(home, ready, job, keep_foreign(home, ready, job, folder))
    assert set(scores.score.tolist()) == {0.3}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda rows: rows[2:], r"2 of \d+ test cases are not in predictions.csv: [0-9a-f]{12}; "),
        (lambda rows: [*rows, rows[0]], "1 test cases stand in predictions.csv twice"),
        (lambda rows: [[rows[0][0], 0.9, 0.4], *rows[1:]], "with the sum 1.3"),
        (lambda rows: [[rows[0][0], "", 0.4], *rows[1:]], "lacks a number"),
        (lambda rows: [[rows[0][0], -1, 2], *rows[1:]], "numbers from 0 to 1"),
    ],
)
def test_a_table_that_cannot_be_compared_is_refused_with_the_cases(
    limbs, change, sentence, tmp_path
):
    home, ready, job, frame = limbs
    # Two values, so that the empty one cannot be told from the other.
    three = replace(job, classes=("no_fracture", "fracture"), positive="no_fracture")
    rows = [[row["accession"], 0.5, 0.5] for row in frame]
    folder = answer(tmp_path / "t", ["accession", "no_fracture", "fracture"], change(rows))
    with pytest.raises(RadloopError, match=sentence) as refusal:
        keep_foreign(home, ready, three, folder)
    assert not any(row["accession"] in str(refusal.value) for row in frame)


def test_a_name_that_ends_in_a_number_is_not_cut_to_that_of_another_case(limbs, tmp_path):
    home, ready, job, frame = limbs
    rows = [[row["case_id"], 0.5] for row in frame]
    rows[0][0] += ".7"  # as UIDs of two files of a series differ
    folder = answer(tmp_path / "t", ["case", "fracture"], rows)
    with pytest.raises(RadloopError, match=r"1 of \d+ test cases are not in predictions.csv"):
        keep_foreign(home, ready, job, folder)


def test_another_tool_s_decisions_are_held_against_the_champion_s(limbs):
    _, ready, job, _ = limbs
    cases = job.on("test")
    ids, keys = ([getattr(c, name) for c in cases] for name in ("case_id", "patient_key"))
    target = np.array([case.target for case in cases])

    def measured(what: str, p: np.ndarray, threshold: float | None) -> Measured:
        pair = np.stack([1 - p, p], 1)
        scores = Predictions(ids, keys, target, pair, job.classes, job.positive)
        return Measured(what, Scored(scores, str(ready.edition), threshold), {})

    # Both rank alike; the champion's threshold calls everybody positive.
    p = np.where(target == 1, 0.8, 0.3)
    tool, champion = measured("predictions", p, None), measured("champion version 1", p, 0.2)
    found = beside_champion(ready, tool, champion)
    healthy = len({key for key, one in zip(keys, target, strict=True) if one == 0})
    assert found.difference.value == 0
    assert (
        f"At the operating points (0.5 and 0.2) the other tool alone decides {healthy} of "
        f"{len(set(keys))} patients rightly, champion version 1 alone 0: p "
    ) in found.sentence
    assert found.sentence.endswith("exact McNemar.")
    (rows,) = found.sections.values()
    assert rows[1]["test"] == f"exact McNemar: {healthy} right alone, the champion 0"
    assert beside_champion(ready, tool, None).sections == {}


def test_a_folder_without_a_table_says_what_to_write(limbs, tmp_path):
    home, ready, job, _ = limbs
    with pytest.raises(RadloopError, match=r"others are p/no_fracture, p/fracture"):
        keep_foreign(home, ready, job, tmp_path)


@pytest.fixture(scope="module")
def lumps(tmp_path_factory) -> Iterator[tuple[Home, Ready, TrainingJob, Path]]:
    """A home of drawn volumes in decathlon form."""
    folder = tmp_path_factory.mktemp("lumps")
    archive = folder / "archive"
    pairs = []
    for number in range(20):
        image = np.random.default_rng(number).normal(size=SHAPE).astype(np.float32)
        for place, array in (("imagesTr", image), ("labelsTr", drawn(number))):
            (archive / place).mkdir(parents=True, exist_ok=True)
            path = archive / place / f"lump_{number:03d}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(array, AFFINE), path)
        name = f"lump_{number:03d}.nii.gz"
        pairs.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    index = {"modality": {"0": "MRI"}, "training": pairs, "test": []}
    (archive / "dataset.json").write_text(json.dumps(index))
    home, ready = opened(
        folder / "home", MASKS, "lumps", Source("north", "decathlon", str(archive))
    )
    yield home, ready, job_of(ready), archive
    home.catalog.dispose()
    home.vault.dispose()


def drawn(number: int, shift: int = 0) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    at = 1 + number % 3 + shift
    mask[2:6, at : at + 3, 2:6] = 1
    mask[2:6, at : at + 3, 7:11] = 2
    return mask


def write_masks(folder: Path, *, shift: int = 0, affine: np.ndarray = AFFINE, flip: bool = False):
    folder.mkdir()
    for number in range(20):
        mask = drawn(number, shift)
        if flip:
            turn = np.diag([-1.0, 1.0, 1.0, 1.0])
            turn[0, 3] = SHAPE[0] - 1
            mask, affine = mask[::-1], AFFINE @ turn
        image = nibabel.Nifti1Image(mask, affine)
        image.header["descrip"] = b"ZQ^Someone"
        nibabel.save(image, folder / f"lump_{number:03d}.nii.gz")
    return folder


def test_masks_are_held_against_the_truth_on_the_grid_of_the_source(lumps, tmp_path):
    home, ready, job, _ = lumps
    same = kept_scores(
        home, ready, job, keep_foreign(home, ready, job, write_masks(tmp_path / "a"))
    )
    assert len(same) == len(job.on("test")) > 3
    assert (same.dice == 1).all()
    turned = write_masks(tmp_path / "b", flip=True)
    assert (kept_scores(home, ready, job, keep_foreign(home, ready, job, turned)).dice == 1).all()
    moved = keep_foreign(home, ready, job, write_masks(tmp_path / "c", shift=1))
    assert kept_scores(home, ready, job, moved).dice == pytest.approx(2 / 3)
    kept = list((home.settings.home / "foreign").rglob("*.nii.gz"))
    assert all(nibabel.load(path).header["descrip"] == b"" for path in kept)
    assert not any("lump" in path.name for path in kept)


def test_masks_on_another_grid_are_refused_with_how_far_they_are(lumps, tmp_path):
    home, ready, job, _ = lumps
    affine = AFFINE.copy()
    affine[0, 3] = 4
    digest = keep_foreign(home, ready, job, write_masks(tmp_path / "a", affine=affine))
    with pytest.raises(RadloopError, match=r"masks do not fit.*4\.0000 mm off the image, limit"):
        kept_scores(home, ready, job, digest)


def test_masks_of_another_shape_are_refused_with_both_grids(lumps, tmp_path):
    home, ready, job, _ = lumps
    folder = write_masks(tmp_path / "a")
    for path in folder.iterdir():
        coarse = nibabel.Nifti1Image(
            np.asarray(nibabel.load(path).dataobj)[::2], AFFINE @ np.diag([2.0, 1, 1, 1])
        )
        nibabel.save(coarse, path)
    digest = keep_foreign(home, ready, job, folder)
    shapes = r"shape \(12, 10, 4\).*\(12, 10, 8\), voxels of \[3.0, 1.5, 4.0\].*\[3.0, 1.5, 2.0\]"
    with pytest.raises(RadloopError, match=shapes):
        kept_scores(home, ready, job, digest)


def test_a_label_beyond_the_classes_and_a_missing_mask_are_named(lumps, tmp_path):
    home, ready, job, _ = lumps
    folder = write_masks(tmp_path / "a")
    digest = keep_foreign(home, ready, job, folder)
    fewer = replace(job, classes=("front",))
    with pytest.raises(RadloopError, match=r"label 2, classes are 1 to 1"):
        kept_scores(home, ready, fewer, digest)
    for number in range(3, 20):
        (folder / f"lump_{number:03d}.nii.gz").unlink()
    with pytest.raises(RadloopError, match=r"of \d+ test cases are not in"):
        keep_foreign(home, ready, job, folder)
    with pytest.raises(RadloopError, match="are not in this home"):
        kept_scores(home, ready, job, "0" * 32)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_command_compares_another_tool_with_the_champion(table_loop, tmp_path):
    """From the list of the test edition to a report, a run and one more use of the edition."""
    place = Place(tmp_path, api=table_loop.place.api_of_server())
    for name in ("catalog.db", "vault.db", "mlflow.db"):
        with sqlite3.connect(table_loop.home / name) as database:
            database.execute("pragma wal_checkpoint(truncate)")
    shutil.copytree(
        table_loop.home, place.home, ignore=shutil.ignore_patterns("prefect", "*-wal", "*-shm")
    )
    place.home.chmod(0o700)
    place.radloop("evaluate", "small-table", "--list", tmp_path / "frame.csv").ok()
    with (tmp_path / "frame.csv").open() as stream:
        frame = list(csv.DictReader(stream))
    guesses = np.random.default_rng(0).random(len(frame)).round(3)
    rows = [[row["case_id"], p] for row, p in zip(frame, guesses, strict=True)]
    folder = answer(tmp_path / "other", ["case", "ill"], rows)
    refused = place.radloop(
        "evaluate",
        "small-table",
        "--predictions",
        answer(tmp_path / "few", ["case", "ill"], rows[1:]),
    )
    assert (refused.code, "1 of " in refused.err) == (1, True)
    out = place.radloop("evaluate", "small-table", "--predictions", folder).ok().out
    assert re.search(r"other tool is (worse than|not shown to differ from) champion version 1", out)
    assert "paired DeLong" in out
    # What both decide is compared too, at the tool's .5 and the champion's stored threshold.
    assert re.search(r"At the operating points \(0\.5 and 0\.\d+\) .*: p .*exact McNemar\.", out)
    assert "this edition has been used 2 times" in out
    report = Path(re.search(r"^report +(\S+)$", out, re.MULTILINE)[1]).read_text()
    assert "Other tool" in report
    assert "RESEARCH USE ONLY" in report
    names = load_names(data_folder("mlflow") / "names.yaml")
    tracker = Tracker(f"sqlite:///{place.home / 'mlflow.db'}", "small-table", names)
    (run,) = search(tracker, "tags.kind = 'evaluation'")
    assert run.info.status == "FINISHED"
    assert {"test/auroc", "test/auroc_lo", "test/auroc_hi"} <= run.data.metrics.keys()
    assert len(search(tracker, "tags.kind = 'training'")) == 1
    assert not verify_audit(place.home / "audit.jsonl")
