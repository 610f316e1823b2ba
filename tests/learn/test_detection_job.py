"""A detection is fitted from a job and a store, and its record travels as JSON."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from tasks.learn.boxes import boxes_on, rows_of
from tasks.learn.crossval import fit_fold
from tasks.learn.detector_plan import box_sizes
from tasks.learn.job import JobCase, TrainingJob, load_job
from tests.learn.drawn_boxes import AFFINE, PICTURE, drawn_cases
from tests.learn.small_fold import write_store

CANDIDATE = {
    "name": "tiny", "kind": "network", "network": "retinanet2d", "epochs": 3, "batch": 4,
    "features": [8, 16, 24], "augment": "none", "lr": 3e-3,
}  # fmt: skip


@pytest.fixture
def stored(tmp_path):
    source, cases = drawn_cases(24, PICTURE)
    # The store holds masks of 8 bits.
    masks = {case_id: mask.astype(np.uint8) for case_id, mask in source.labels.items()}
    source = replace(source, labels=masks)
    cases = write_store(tmp_path / "store", source, cases, affine=AFFINE)
    return str(tmp_path / "store"), [
        JobCase(
            case.case_id, case.patient_key, "train", i % 4, part_path=case.part_path,
            label_part_path=case.label_part_path, part_digest=case.part_digest,
            label_part_digest=case.label_part_digest, boxes=case.boxes,
        )
        for i, case in enumerate(cases)
    ]  # fmt: skip


def job_of(root, cases) -> TrainingJob:
    return TrainingJob(
        scenario="drawn", task="detection", classes=("bright",), positive=None, primary="ap",
        candidates=(CANDIDATE,), cases=tuple(cases), shape=PICTURE, spacing=(2.0, 0.7, 0.7),
        box_sizes=box_sizes(root, cases),
    )  # fmt: skip


def test_a_fold_is_fitted_from_the_store_and_finds_boxes_in_the_patient(stored, tmp_path):
    torch.set_num_threads(1)
    root, cases = stored
    job = job_of(root, cases)
    place = job.save(tmp_path / "trainings")
    assert load_job(place) == job
    record = fit_fold(place, root, "tiny", 0)
    assert record.values == ()
    assert record.case_ids == tuple(c.case_id for c in cases if c.fold == 0)
    assert len(record.findings) == len(record.case_ids)
    json.dumps(asdict(record), allow_nan=False)
    by_id = {case.case_id: case.boxes for case in cases}
    hits = 0
    for case_id, findings in zip(record.case_ids, record.findings, strict=True):
        truth = rows_of(by_id[case_id])
        if not len(truth) or not findings:
            continue
        label, score, *place_of = max(findings, key=lambda row: row[1])
        assert label == 0
        assert 0 < score <= 1
        # The best finding lies in a true box, both in mm of the patient.
        gap = np.array(place_of[:3]) - truth[:, 1:4]
        half = np.abs(truth[:, 4:13].reshape(-1, 3, 3)).sum(1) / 2
        hits += bool((np.abs(gap) <= half).all(1).any())
    assert hits >= 3


def test_sizes_of_boxes_are_those_of_the_prepared_grid(stored):
    root, cases = stored
    drawn = np.concatenate([np.diff(boxes_on(rows_of(c.boxes), AFFINE), axis=1) for c in cases])
    np.testing.assert_allclose(box_sizes(root, cases), drawn[:, 0], atol=0.01)
    away = [replace(c, boxes=tuple((*b[:13], 1.0) for b in c.boxes)) for c in cases]
    assert box_sizes(root, away) == ()


def test_boxes_belong_to_the_key_of_a_detection_alone(stored):
    root, cases = stored
    job = job_of(root, cases)
    nearer = replace(cases[0], boxes=((0.0, 1.0, *cases[0].boxes[0][2:]),))
    assert replace(job, cases=(nearer, *cases[1:])).key != job.key
    other = replace(job, task="segmentation")
    assert replace(other, box_sizes=()).key == other.key
