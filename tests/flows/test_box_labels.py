"""From files of boxes to a training job, on drawn images: what is to be found stays where it is."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydicom import dcmread

from flows.cohorts import settle
from flows.forecast import forecast
from flows.home import Home
from flows.jobs import job_cases, write_job
from flows.orders import orders_of
from flows.pending import all_made
from flows.plans import plan_labels
from flows.settings import Settings
from tasks.archive.commits import PartRow, commit_part, put_recipe, want_cases
from tasks.archive.intake import ingest
from tasks.archive.orders import WorkOrder, seal, unseal
from tasks.archive.sources import resolve_source
from tasks.archive.vault import put_source
from tasks.imaging.recipe import fit
from tasks.imaging.steps import asked_for
from tasks.labels.attach import attach_labels
from tasks.learn.boxes import boxes_of_instances, boxes_on, rows_of
from tasks.phantom.write_chest import write_chest_archive
from tasks.phantom.write_wrist import write_wrist_archive
from tasks.store.fill import write_image_part, write_label_part
from tasks.store.read import open_part
from tasks.store.schema import part_id, recipe_id
from tasks.store.write import PartRecord
from tests.labels.test_lung import lidc, nodule, square

KEY = bytes(32)

WRIST = """\
name: breaks
title: Synthetic wrists
task: detection
synthetic: true
intended_use: Tests of radloop. Research use only.
not_for: Anything clinical; no image shows a person.
population: Nobody. Drawn by a program.
cohort: {kind: dicom}
labels: {format: boxes, file: ../truth/boxes.csv, join: sop, column: label, classes: [fracture],
  normals: rest}
recipe: [{step: pad_square}, {step: resize, shape: [1, 96, 96]}, {step: normalise, method: zscore}]
split: {source: keyed, test: 0.25, folds: 2, key: public, strata: [target]}
evaluate: {primary: ap}
candidates: [{name: finder, kind: network, network: retinanet2d, epochs: 2, features: [8, 16, 24]}]
"""

CHEST = {
    "name": "nodules",
    "labels": {"format": "luna16", "normals": "rest"},
    # Both ends of the chest are cut off, with what is to be found there.
    "recipe": [{"step": "crop", "shape": [12, 48, 48]}, {"step": "normalise", "method": "zscore"}],
    "candidates": [{"name": "finder", "kind": "network", "network": "retinanet3d"}],
}


class Made:
    """A home in which drawn patients and their boxes went all the way to the store."""

    def __init__(self, folder: Path, scenario: str) -> None:
        self.folder, self.home = folder, Home(Settings(home=folder / "home"))
        self.name = yaml.safe_load(scenario)["name"]
        (folder / "home" / "scenarios").mkdir(parents=True)
        (folder / "home" / "scenarios" / f"{self.name}.yaml").write_text(scenario)
        source = resolve_source(str(folder / "dicom"), "here")
        put_source(self.home.vault, source)
        of_home = (self.home.catalog, self.home.vault)
        ingest(source, *of_home, self.home.names)
        labels = self.home.scenario(self.name).labels
        self.attached = attach_labels(source, labels, self.home.names, *of_home)
        self.root = self.home.settings.store_root

    def ready(self):
        return settle(self.home, self.home.scenario(self.name))

    def preprocess(self) -> list[PartRecord]:
        """Do what the flow of this name does, in one process."""
        home, ready = self.home, self.ready()
        steps = ready.scenario.recipe
        recipe = fit(steps, None)
        key = recipe_id(recipe)
        body = {"asked": asked_for(steps), "recipe": recipe.to_dict()}
        put_recipe(home.catalog, key, self.name, body, "", {})
        ids = tuple(case.case_id for case in ready.cohort.cases)
        want_cases(home.catalog, key, ids)
        files = tuple(orders_of(home, ready.cohort.cases))
        order = WorkOrder(part_id(ids, key, "image"), key, files)
        records = [write_image_part(self.root, order, recipe)]
        self.commit(records[0], key)
        for part in plan_labels(home, ready, key):
            labels, cohort = ready.scenario.labels, ready.cohort
            told = (cohort.masks, labels.numbers, cohort.boxes, labels.classes)
            sent = seal(
                WorkOrder(part.part_id, key, tuple(orders_of(home, cohort.cases, *told))), KEY
            )
            made = (unseal(sent, KEY), recipe, part.image_path, part.label_set_id)
            records.append(write_label_part(self.root, *made))
            self.commit(records[-1], key, part.label_set_id, part.image_part_id)
        return records

    def commit(self, record: PartRecord, key: str, *of_label: str) -> None:
        label_set, image = of_label or (None, None)
        row = PartRow(
            record.part_id, record.kind, key, label_set, image, record.path, record.case_ids,
            record.bytes, record.digest,
        )  # fmt: skip
        commit_part(self.home.catalog, row, record.failures)

    def close(self) -> None:
        self.home.catalog.dispose()
        self.home.vault.dispose()


@pytest.fixture(scope="module")
def wrists(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrists")
    write_wrist_archive(folder, patients=12, seed=1, shape=(64, 48), spacing=2.2, difficulty="easy")
    made = Made(folder, WRIST)
    made.preprocess()
    yield made
    made.close()


def test_the_boxes_of_pictures_reach_the_job_and_the_mask_alike(wrists):
    job = write_job(wrists.home, wrists.ready())
    truth = csv_rows(wrists.folder / "truth" / "boxes.csv")
    assert sum(len(case.boxes) for case in job.cases) == len(truth)
    assert len(job.cases) == 24
    assert any(not case.boxes for case in job.cases)
    assert (job.task, job.classes, job.positive) == ("detection", ("fracture",), None)
    for case in job.cases:
        part = open_part(wrists.root, case.label_part_path, case.label_part_digest)
        numbers, drawn = boxes_of_instances(part.read(case.case_id))
        said = boxes_on(rows_of(case.boxes), part.info(case.case_id).affine)
        assert numbers.tolist() == list(range(1, len(case.boxes) + 1))
        assert (drawn[:, 0] >= said[:, 0] - 1.5).all()
        assert (drawn[:, 1] <= said[:, 1] + 1.5).all()
        if len(said) == 1:
            # Of two that overlap the smaller one lies on top.
            np.testing.assert_allclose(drawn, said, atol=1.5)
    sizes = [float(row["xmax"]) - float(row["xmin"]) for row in truth]
    assert len(job.box_sizes) == sum(len(c.boxes) for c in job.cases if c.side == "train")
    # Squares of 64 become squares of 96.
    assert np.median([size[2] for size in job.box_sizes]) == pytest.approx(
        np.median(sizes) * 1.5, rel=0.2
    )


def test_nothing_is_to_do_again_and_check_counts_findings(wrists):
    assert all_made(wrists.home, wrists.ready()) is not None
    told = forecast(wrists.home, wrists.home.scenario("breaks"))
    assert set(told["balance"]["train"]) == {"with a finding", "without a finding"}
    assert not any("0 training patients" in text for text in told["problems"])
    # Anchors need the sizes of the boxes, which are in the store by now.
    (plan,) = (line for line in told["notes"] if line.startswith("network finder"))
    assert "retinanet2d" in plan
    assert "cannot be planned" not in plan


def test_boxes_in_the_patient_survive_a_crop_and_excluded_ones_count_for_nothing(tmp_path):
    write_chest_archive(tmp_path, patients=4, seed=1, shape=(24, 48, 48), spacing=(6.0, 7.0, 7.0))
    for table in (tmp_path / "truth").glob("annotations*.csv"):
        table.rename(tmp_path / "dicom" / table.name)
    made = Made(tmp_path, yaml.safe_dump(yaml.safe_load(WRIST) | CHEST))
    try:
        records = made.preprocess()
        assert not [failure for record in records for failure in record.failures]
        job = write_job(made.home, made.ready())
        rows = np.concatenate([rows_of(case.boxes) for case in job.cases])
        tables = [
            csv_rows(tmp_path / "dicom" / f"annotations{end}.csv") for end in ("", "_excluded")
        ]
        assert (rows[:, 13] == 0).sum() == len(tables[0]) > 0
        assert (rows[:, 13] == 1).sum() == len(tables[1])
        told = sorted(float(row["coordX"]) for table in tables for row in table)
        np.testing.assert_allclose(sorted(rows[:, 1]), told, atol=1e-3)
        gone = drawn = 0
        for case in job.cases:
            part = open_part(made.root, case.label_part_path, case.label_part_digest)
            mask, info = part.read(case.case_id), part.info(case.case_id)
            for number, box in enumerate(boxes_on(rows_of(case.boxes), info.affine), start=1):
                middle = np.rint(box.mean(0)).astype(int)
                inside = bool(((middle >= 0) & (middle < mask.shape)).all())
                drawn += inside
                gone += not inside
                assert not inside or (mask == number).any()
        assert drawn
        assert gone, "the crop should have cut something off"
    finally:
        made.close()


def csv_rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_outlines_of_lidc_reach_the_job_as_boxes(tmp_path):
    write_chest_archive(
        tmp_path, patients=3, seed=1, shape=(12, 32, 32), spacing=(12.0, 10.0, 10.0)
    )
    uids = {}
    for path in sorted((tmp_path / "dicom").rglob("*.dcm")):
        header = dcmread(path, stop_before_pixels=True)
        uids.setdefault(str(header.SeriesInstanceUID), []).append(header.ImagePositionPatient[2])
    (tmp_path / "xml").mkdir()
    for number, (uid, heights) in enumerate(sorted(uids.items())):
        rois = square(float(sorted(heights)[5]), 10, 14)
        reader = nodule(rois) if number else ""
        data = lidc(reader, reader, reader, series=uid)
        (tmp_path / "xml" / f"{number}.xml").write_bytes(data)
    (tmp_path / "xml" / "radiograph.xml").write_text("<IdriReadMessage/>")
    said = yaml.safe_load(WRIST) | CHEST | {"labels": {"format": "lidc", "file": "../xml"}}
    made = Made(tmp_path, yaml.safe_dump(said))
    try:
        assert (made.attached.rows, made.attached.matched) == (4, 3)
        assert "another kind" in made.attached.unmatched[0][1]
        records = made.preprocess()
        assert not [failure for record in records for failure in record.failures]
        ready = made.ready()
        boxes = [case.boxes for case in job_cases(made.home, ready)]
        assert sorted(map(len, boxes)) == [0, 1, 1]
        (row,) = max(boxes, key=len)
        # Five pixels of 10 mm, as wide as the scanner makes them, on one slice of 12 mm.
        edges = np.sort(np.linalg.norm(np.reshape(row[4:13], (3, 3)), axis=1))
        assert edges[0] == pytest.approx(12)
        assert edges[1:] == pytest.approx([50, 50], rel=0.2)
        assert all_made(made.home, ready) is not None
    finally:
        made.close()


def test_a_box_of_another_image_quarantines_the_label_and_leaves_the_case_out(tmp_path):
    write_wrist_archive(
        tmp_path, patients=4, seed=1, shape=(64, 48), spacing=2.2, difficulty="easy"
    )
    table = tmp_path / "truth" / "boxes.csv"
    head, first, *rest = table.read_text().splitlines()
    wrong = ",".join([*first.split(",")[:-4], "70", "10", "80", "20"])
    table.write_text("\n".join([head, wrong, *rest]) + "\n")
    made = Made(tmp_path, WRIST)
    try:
        images, labels = made.preprocess()
        ((case_id, reason, detail),) = labels.failures
        assert reason == "box_outside"
        # In the middle of the box, and of another image by its column.
        assert "(0.0, 14.5, 74.5) of an image of (1, 64, 48)" in detail
        assert case_id in images.case_ids
        assert case_id not in {case.case_id for case in job_cases(made.home, made.ready())}
    finally:
        made.close()
