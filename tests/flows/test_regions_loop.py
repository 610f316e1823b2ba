"""BraTS 2021 by its year's regions: from folders with the 4 to a model that answers by region."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from flows.cohorts import settle
from flows.foreign import keep_foreign, kept_scores
from flows.home import Home
from flows.jobs import write_job
from flows.judging import judge_side
from flows.missing import without_sequences
from flows.orders import orders_of
from flows.probing import stressed
from flows.settings import Settings
from tasks.archive.catalog import quarantine
from tasks.archive.intake import ingest
from tasks.archive.nifti import write_nifti
from tasks.archive.reasons import remedy
from tasks.archive.sources import resolve_source
from tasks.evaluate.table import metric_table
from tasks.learn.crossval import fit_fold, out_of_fold
from tasks.learn.dataset import spacing_of
from tasks.learn.judge import judge_image
from tasks.learn.model import Model, load_model
from tasks.learn.postprocess import cleaned
from tasks.scenario.text import parse_scenario
from tasks.serve.challenger import build_model
from tasks.serve.outcome import sum_up
from tasks.store.read import open_part
from tests.flows.brats import AFFINE, SCENARIO, made, number_of, preprocessed, write_patient

PATIENTS = 6
WRONG = 4
"""Whose mask holds a 3, which BraTS did not have until 2021."""

SCENARIO = SCENARIO.replace("classes: [necrosis, oedema, enhancing]", "regions: brats2021")
SCENARIO = SCENARIO.replace(
    "evaluate: {primary: dice}",
    "evaluate: {primary: dice, lesions: {}, postprocess: {}, bootstrap: 200,\n"
    "  robustness: {kind: mr, corruptions: [rician], cases: 2}}",
)
# Regions begin rare: before some steps nothing is outlined, and nothing left to clean.
SCENARIO = SCENARIO.replace("steps_per_epoch: 4", "steps_per_epoch: 12")


def write_archive(folder: Path) -> None:
    for number in range(PATIENTS):
        write_patient(folder, number, old=True)
    (path,) = folder.glob(f"*{WRONG:05d}/*_seg.nii.gz")
    mask = nibabel.load(path)
    values = np.asarray(mask.dataobj).copy()
    values[values == 4] = 3
    data = nibabel.Nifti1Image(values, mask.affine).to_bytes()
    path.write_bytes(gzip.compress(data))


@pytest.fixture(scope="module")
def brains(tmp_path_factory):
    folder = tmp_path_factory.mktemp("brains")
    write_archive(folder / "archive")
    home = Home(Settings(home=folder / "home"))
    ingest(resolve_source(str(folder / "archive"), "brats"), home.catalog, home.vault, home.names)
    ready = settle(home, parse_scenario(SCENARIO))
    *_, refused = preprocessed(home, ready)
    yield home, ready, refused
    home.catalog.dispose()
    home.vault.dispose()


def test_a_value_of_another_year_is_in_quarantine_with_a_remedy(brains):
    home, ready, refused = brains
    assert [reason for reason, _ in refused] == ["unknown_label"]
    assert "holds the value 3, and the scenario's regions know 0, 1, 2, 4" in refused[0][1]
    (row,) = quarantine(home.catalog)
    assert "labels.regions" in remedy(row.reason)
    job = write_job(home, ready)
    assert len(job.cases) == PATIENTS - 1


def test_masks_read_by_a_year_are_labels_of_their_own(brains):
    home, ready, _ = brains
    plain = SCENARIO.replace("regions: brats2021", "classes: [necrosis, oedema, enhancing]")
    before = settle(home, parse_scenario(plain.replace("name: tumour", "name: plain")))
    assert set(before.label_sets) == set(ready.label_sets)
    assert before.label_sets != ready.label_sets
    assert before.hashes["label_hash"] != ready.hashes["label_hash"]
    assert settle(home, ready.scenario).label_sets == ready.label_sets


def test_the_store_has_the_numbers_of_later_years(brains):
    home, ready, _ = brains
    by_id = {case.case_id: case for case in ready.cohort.cases}
    for case in write_job(home, ready).cases:
        stored = open_part(home.settings.store_root, case.label_part_path).read(case.case_id)
        mask = made(number_of(home, by_id[case.case_id]))[1]
        np.testing.assert_array_equal(
            np.bincount(stored.ravel())[1:], np.bincount(mask.ravel())[1:]
        )


def test_folds_and_the_test_side_are_measured_by_region(brains, tmp_path):
    home, ready, _ = brains
    job = write_job(home, ready)
    place = job.save(tmp_path)
    assert job.plan(job.candidate("unet")).regions == ((1, 2, 3), (1, 3), (3,))
    records = [fit_fold(place, home.settings.store_root, "unet", fold) for fold in job.folds]
    raw = out_of_fold(job, records)
    assert raw.classes == ("WT", "TC", "ET")
    outcome = sum_up(job, "unet", records, ready.scenario.evaluate, place)
    # A network that has hardly learned leaves crumbs everywhere.
    assert outcome.rules
    assert outcome.scores.dice.mean() > raw.dice.mean()
    assert (outcome.scores.dice.mean(0) >= raw.dice.mean(0) - 1e-9).all()
    root = home.settings.store_root
    spec = build_model(job, place, outcome, tmp_path / "model", {}, store_root=root)
    assert (spec.regions, spec.postprocess) == (job.regions, outcome.rules)
    found, pictures = judge_side(home, ready, job.on("test"), tmp_path / "model", tmp_path / "p")
    table = metric_table(found, replicates=200)
    for figure in ("dice", "nsd", "hd95", "lesion_dice", "lesion_hd95", "volume_bias"):
        assert {f"{figure}/{name}" for name in ("WT", "TC", "ET")} <= table.keys()
    assert not {name for name in table if "oedema" in name}
    assert all(Path(one["path"]).is_file() for one in pictures)
    (case, *_) = [case for case in ready.cohort.cases if case.case_id == found.case_ids[0]]
    (order,) = orders_of(home, [case])
    model = load_model(tmp_path / "model")
    judged = judge_image(model, order)
    # How the images lie in the patient is known of those learned from, and of the one judged.
    assert spec.headers["axes"] == [judged.axes]
    bare = Model(
        model.spec.model_copy(update={"postprocess": ()}), model.plan, model.networks, [],
        model.device,
    )  # fmt: skip
    said = judge_image(bare, order).mask
    assert (said != judged.mask).any()
    spacing = spacing_of(judged.affine)
    np.testing.assert_array_equal(judged.mask, cleaned(said, outcome.rules, spacing))
    probes(home, ready, job, tmp_path)


def probes(home, ready, job, folder):
    """Noise, and each sequence that may be missing, are measured on cases of several series."""
    noise = stressed(home, ready, job, folder / "model", folder / "p")
    severities = {row["severity"] for row in noise.tables["robustness"]}
    assert severities >= {1, 2, 3, 4, 5}
    missing = without_sequences(home, ready, job, folder / "model")
    rows = missing.sections["Missing sequences"]
    assert [row["without"] for row in rows] == ["nothing", "t1n", "t2w", "t1n and t2w"]
    for row in rows[1:]:
        change = row["difference (positive: better)"]
        assert row["dice"].value - rows[0]["dice"].value == pytest.approx(change.value)
        assert change.lo <= change.value <= change.hi


def test_masks_of_another_tool_are_measured_by_region(brains, tmp_path):
    """Numbers are the classes', whatever year the truth is of."""
    home, ready, _ = brains
    job = write_job(home, ready)
    by_id = {case.case_id: case for case in ready.cohort.cases}
    for case in job.on("test"):
        mask = made(number_of(home, by_id[case.case_id]))[1]
        mask[mask == 1] = 3  # all of the core enhances, it says
        write_nifti(tmp_path / f"{case.case_id}.nii.gz", mask, AFFINE)
    scores = kept_scores(home, ready, job, keep_foreign(home, ready, job, tmp_path))
    assert scores.classes == ("WT", "TC", "ET")
    np.testing.assert_array_equal(scores.dice[:, :2], 1)
    assert (scores.dice[:, 2] < 1).all()
