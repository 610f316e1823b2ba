"""Measuring on a worker: an order of training cases in, a few numbers a case out."""

import json
from pathlib import Path

import numpy as np

from tasks.archive.orders import OrderCase, WorkOrder
from tasks.archive.sources import FileRef
from tasks.imaging.histogram import LANDMARKS
from tasks.imaging.recipe import fit
from tasks.imaging.steps import StepConfig, parse_steps
from tasks.phantom.ct import write_ct_series
from tasks.store import fill
from tasks.store.fill import measure_order

STEPS = parse_steps([{"step": "clip", "low": 200, "high": 1500}, {"step": "histogram_standard"}])


def case(folder, case_id: str) -> OrderCase:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    refs = tuple(FileRef(str(path), None, "", path.stat().st_size) for path in files)
    return OrderCase(case_id, "dicom", refs, None)


def test_each_case_is_measured_after_the_steps_before_and_bad_ones_are_left_out(tmp_path):
    truths = {
        name: write_ct_series(tmp_path / name, seed=seed, modality="MR")
        for seed, name in enumerate(("first", "second", "cut"))
    }
    for path in (tmp_path / "cut").rglob("*.dcm"):
        path.write_bytes(path.read_bytes()[:400])
    order = WorkOrder("fingerprint", "", tuple(case(tmp_path / name, name) for name in truths))
    before = fit(STEPS[:1], None)
    sent = StepConfig.model_validate(json.loads(json.dumps(STEPS[1].model_dump(mode="json"))))
    found = measure_order(order, before, sent)
    assert [one.case_id for one in found] == ["first", "second"]
    for one in found:
        seen = np.clip(truths[one.case_id].array, 200, 1500)
        expected = np.percentile(seen[seen > seen.mean()], LANDMARKS)
        np.testing.assert_allclose(one.numbers["landmarks"], expected, rtol=1e-5)


def test_what_leaves_a_worker_does_not_grow_with_the_image(tmp_path):
    sizes = []
    for number, shape in enumerate([(4, 16, 16), (8, 64, 64)]):
        write_ct_series(tmp_path / str(number), shape=shape, modality="MR")
        order = WorkOrder("fingerprint", "", (case(tmp_path / str(number), "a"),))
        (one,) = measure_order(order, fit(STEPS[:1], None), STEPS[1])
        sizes.append(sum(len(values) for values in one.numbers.values()))
    assert sizes == [len(LANDMARKS)] * 2


def test_while_a_case_is_made_the_files_of_the_next_are_announced(tmp_path, monkeypatch):
    for seed, name in enumerate(("b", "a", "c")):
        write_ct_series(tmp_path / name, seed=seed)
    told = []
    monkeypatch.setattr(fill, "announce", told.append)
    order = WorkOrder("part", "recipe", tuple(case(tmp_path / name, name) for name in "bac"))
    made = []
    record = fill.write_image_part(
        str(tmp_path / "store"),
        order,
        fit(STEPS[:1], None),
        lambda done: made.append((done.case_id, len(told))),
    )
    # Cases are made in the order of their ids; nothing comes after the last.
    assert made == [("a", 1), ("b", 2), ("c", 2)]
    assert [{Path(ref.path).parent.name for ref in files} for files in told] == [{"b"}, {"c"}]
    assert record.failures == ()
