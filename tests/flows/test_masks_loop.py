"""A segmentation from files to the report: every figure of masks is where a person looks for it."""

import json
import shutil
from pathlib import Path

import pytest

from flows.data import data_folder
from tasks.evaluate.known import MASK_FIGURES
from tasks.serve.names import load_names
from tasks.serve.tracking import Tracker, client_of, search
from tests.flows.running import Place

CASES = 16

SCENARIO = """\
name: small-brain
title: Two parts of the hippocampus, few and briefly trained
task: segmentation
intended_use: Tests of radloop. Research use only.
not_for: Anything clinical.
population: Sixteen cropped MRI of the Medical Segmentation Decathlon.
cohort: {kind: nifti}
labels: {format: decathlon, classes: [anterior, posterior]}
recipe:
  - {step: normalise, method: zscore}
split: {source: keyed, test: 0.4, folds: 2, key: public, strata: []}
candidates:
  - {name: unet, kind: network, network: unet3d, epochs: 2, features: [4, 8], steps_per_epoch: 8}
evaluate: {primary: nsd, tolerance_mm: 2.0, lesions: {dilation: 1, smallest_mm3: 2}, bootstrap: 200,
  robustness: {kind: mr, corruptions: [rician], cases: 2}}
gate: {margin: 0.05, min_patients: 3, undecidable: promote}
"""


def write_decathlon(source: Path, folder: Path) -> None:
    """Copy the first cases of a decathlon set."""
    index = json.loads((source / "dataset.json").read_text())
    index["training"], index["test"] = index["training"][:CASES], []
    for side, key in (("imagesTr", "image"), ("labelsTr", "label")):
        (folder / side).mkdir(parents=True)
        for pair in index["training"]:
            shutil.copyfile(source / pair[key], folder / pair[key])
    (folder / "dataset.json").write_text(json.dumps(index))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_figure_of_masks_is_logged_and_reported(tmp_path, shared_data):
    place = Place(tmp_path)
    write_decathlon(shared_data / "hippocampus", tmp_path / "brains")
    scenario = tmp_path / "small-brain.yaml"
    scenario.write_text(SCENARIO)
    try:
        trained = place.radloop("retrain", scenario, "--source", tmp_path / "brains", timeout=1000)
        assert "unet: unet3d, patch" in trained.ok().err
        checked = place.radloop("check", "small-brain", timeout=300).ok()
        assert "network unet: unet3d, patch" in checked.out
        again = place.radloop("evaluate", "small-brain", timeout=600).ok()
    finally:
        assert not place.close()
    names = load_names(data_folder("mlflow") / "names.yaml")
    tracker = Tracker(f"sqlite:///{place.home / 'mlflow.db'}", "small-brain", names)
    (training,) = search(tracker, "tags.kind = 'training'")
    (candidate,) = search(tracker, "tags.kind = 'candidate'")
    assert candidate.data.params["plan/features"] == "4-8"
    for run, side in ((training, "test"), (candidate, "oof")):
        for figure in MASK_FIGURES:
            assert f"{side}/{figure}" in run.data.metrics
            assert f"{side}/{figure}_lo" in run.data.metrics
        assert f"{side}/hd95/posterior" in run.data.metrics
        where = client_of(tracker).download_artifacts(
            run.info.run_id, f"tables/{side}_figures.csv", str(tmp_path)
        )
        rows = {line.split(",")[0] for line in Path(where).read_text().splitlines()}
        assert {f"{figure}/anterior" for figure in MASK_FIGURES} <= rows
    report = (place.home / "reports" / "small-brain" / f"{training.info.run_id}.html").read_text()
    for words in ("NSD, anterior", "HD95 (mm)", "volume bias (mL)", "Dice, lesion by lesion"):
        assert words in report
    assert "hd95" in again.out
