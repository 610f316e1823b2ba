"""A trained network of volumes that was made champion is applied to new scans."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from highdicom.sr import srread
from PIL import Image
from pydicom import dcmread

from flows.evidence import tracker_for
from flows.guarding import Guarded
from flows.jobs import write_job
from flows.predict import _predict_source
from flows.train import choose, conclude, recorded
from tasks.archive.sources import resolve_source
from tasks.archive.vault import put_source
from tasks.learn.crossval import fit_fold
from tasks.phantom.write_chest import write_chest_archive
from tasks.serve.findings_picture import FOUND
from tasks.serve.outcome import sum_up
from tasks.serve.registry import set_alias
from tests.flows.test_box_labels import CHEST, WRIST, Made
from tests.serve.dicom_cases import errors_of

SHAPE, SPACING = (24, 48, 48), (6.0, 7.0, 7.0)

SCENARIO = yaml.safe_dump(
    yaml.safe_load(WRIST)
    | CHEST
    | {
        "recipe": [{"step": "window", "name": "lung"}],
        "candidates": [
            {
                "name": "finder", "kind": "network", "network": "retinanet3d", "epochs": 4,
                "batch": 2, "lr": 3e-3, "features": [8, 16, 24], "augment": "none",
                "patch": list(SHAPE), "steps_per_epoch": 8, "foreground": 1.0,
            }
        ],
        # All that is found is shown: how well it is found is another test's.
        "evaluate": {
            "primary": "cpm", "bootstrap": 200, "findings": {"rule": "fixed", "value": 0.0},
            "robustness": {"cases": 0}, "explain": {"cases": 0},
        },
        "gate": {"min_patients": 2, "bootstrap": 200},
    }
)  # fmt: skip


def _drawn(folder: Path, patients: int, seed: int) -> Path:
    write_chest_archive(
        folder, patients=patients, seed=seed, shape=SHAPE, spacing=SPACING, difficulty="easy"
    )
    for table in (folder / "truth").glob("annotations*.csv"):
        table.rename(folder / "dicom" / table.name)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_promoted_network_tells_pictures_and_reports_what_it_finds_in_new_volumes(
    tmp_path, monkeypatch
):
    torch.set_num_threads(1)
    for name in ("table", "text", "link"):
        # No server of Prefect runs here.
        monkeypatch.setattr(f"flows.reports.{name}", lambda *_said, **_more: None)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    made = Made(_drawn(tmp_path, 8, 1), SCENARIO)
    try:
        made.preprocess()
        home, ready = made.home, made.ready()
        monkeypatch.setenv("RADLOOP_HOME", str(home.settings.home))
        job = write_job(home, ready)
        place = job.save(home.settings.home / "training" / "nodules")
        records = [fit_fold(place, made.root, "finder", fold) for fold in job.folds]
        outcomes = [sum_up(job, "finder", records, ready.scenario.evaluate)]
        tracker = tracker_for(home, "nodules")
        with recorded(tracker, ready, job) as run_id:
            chosen = choose(outcomes, "cpm")
            result = conclude(
                home, ready, job, place, tracker, run_id, outcomes, chosen, Guarded(), []
            )
        assert result["chosen"] == "finder"
        set_alias(tracker, "nodules", "champion", result["version"])
        later = resolve_source(str(_drawn(tmp_path / "later", 2, 2) / "dicom"), "later")
        put_source(home.vault, later)
        said = _predict_source("nodules", "later", True)
    finally:
        made.close()

    assert (said["cases"], said["failed"]) == (2, 0)
    out = Path(said["folder"])
    with (out / "findings.csv").open(newline="") as stream:
        told = [row for row in csv.DictReader(stream) if row["score"]]
    assert told
    assert {row["class"] for row in told} == {"nodule"}
    with (out / "predictions.csv").open(newline="") as stream:
        cases = {row["case_id"]: row for row in csv.DictReader(stream)}
    for case_id, row in cases.items():
        mine = [one for one in told if one["case_id"] == case_id]
        # Three planes beside each other, each with what was found.
        with Image.open(out / row["overlay"]) as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        assert pixels.shape[1] > 3 * 300
        orange = (pixels == FOUND).all(2)
        assert not mine or all(part.any() for part in np.array_split(orange, 3, axis=1))
        # The report has each finding in space, on the images the box passes through.
        report = srread(out / row["sr"])
        assert errors_of(out / row["sr"]) == []
        groups = report.content.get_volumetric_roi_measurement_groups()
        assert len(groups) == len(mine)
        assert 9000 <= dcmread(out / row["sr"]).SeriesNumber < 10000
        for group, one in zip(groups, mine, strict=True):
            points = np.concatenate(group.roi.graphic_data)
            centre = (points.min(0) + points.max(0)) / 2
            wanted = [float(one[f"centre_{axis}_mm"]) for axis in "xyz"]
            np.testing.assert_allclose(centre, wanted, atol=0.05)
    assert not list(out.rglob("*_seg.dcm"))
