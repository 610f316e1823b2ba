"""Outlines of findings: to the source's own pixels, into files, and held against the truth."""

import csv
from dataclasses import replace

import highdicom
import numpy as np
import pytest
import torch
from highdicom.sr import srread
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian
from scipy import ndimage
from torch import nn

from flows import judging, outlining
from flows.answers import answer_row, segments
from flows.dicom import dicom_desk
from flows.jobs import write_job
from flows.orders import orders_of
from tasks.archive.nifti import read_nifti
from tasks.archive.sources import FileRef
from tasks.evaluate.table import metric_table
from tasks.imaging.recipe import fit
from tasks.learn.detectors import Found
from tasks.learn.judge import judge_files
from tasks.learn.model import Model
from tasks.learn.model_file import ModelSpec
from tasks.phantom.write_breast import write_breast_archive
from tasks.serve.results import ModelFacts, write_predictions
from tests.flows.test_box_labels import WRIST, Made
from tests.learn.drawn_boxes import detector_plan
from tests.serve.dicom_cases import errors_of, segments_named

SHAPE = (120, 160)

SCENARIO = (
    WRIST.replace(
        "format: boxes, file: ../truth/boxes.csv, join: sop, column: label, classes: [fracture],\n"
        "  normals: rest",
        "format: coco, file: ../truth/outlines.json, join: accession, classes: [mass]",
    )
    .replace("{step: pad_square}, ", "")
    .replace("network: retinanet2d", "network: maskrcnn")
)

FACTS = ModelFacts(
    "breaks", "Synthetic breasts", "breaks", "1", "0" * 64, "detection", "2026-11-28",
    threshold=0.5, classes=("mass",),
)  # fmt: skip


class Sees(nn.Module):
    """Outlines what is bright, and with little trust all of the picture: the way around is asked.

    It sees the coarser grid the recipe makes, never the source.
    """

    def forward(self, x):
        found = []
        for image in x[:, 0].numpy():
            # A slope alone, in standard deviations, reaches the square root of 3.
            bright = image > (image.min() + image.max()) / 2
            bright &= image.max() > 1.9
            places = ndimage.find_objects(ndimage.label(bright)[0])
            box = [[s.start for s in one] + [s.stop for s in one] for one in places]
            masks = [bright.astype(np.float32)] * len(box) + [np.ones_like(image)]
            box.append([0, 0, *image.shape])
            found.append(
                Found(
                    torch.tensor(box).float(),
                    torch.tensor([0.9] * (len(box) - 1) + [0.2]),
                    torch.zeros(len(box), dtype=torch.int64),
                    torch.tensor(np.array(masks)),
                )
            )
        return found


@pytest.fixture(scope="module")
def masses(tmp_path_factory):
    """Return a home whose pictures are bright exactly where a mass is, and the model above."""
    folder = tmp_path_factory.mktemp("masses")
    write_breast_archive(
        folder, patients=12, seed=1, shape=SHAPE, spacing=(0.3, 0.24), difficulty="easy"
    )
    for path in (folder / "dicom").rglob("*.dcm"):
        dataset = dcmread(path)
        mask = _mask(folder / "truth" / "masks" / f"{dataset.AccessionNumber}.nii.gz")
        slope = np.linspace(20, 30, SHAPE[1])
        dataset.PixelData = (mask * 200 + slope).astype(np.uint8).tobytes()
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(path)
    made = Made(folder, SCENARIO)
    made.preprocess()
    recipe = fit(made.ready().scenario.recipe, None)
    plan = detector_plan("maskrcnn")
    spec = ModelSpec(
        name="breaks", candidate="finder", task="detection", kind="network", classes=("mass",),
        plan=plan, recipe=recipe.to_dict(), thresholds={"positive": 0.5},
    )  # fmt: skip
    yield made, Model(spec, plan, [Sees()], (), torch.device("cpu"))
    made.close()


def _mask(path):
    return read_nifti(FileRef(str(path), None, "", path.stat().st_size)).array


def _answers(made, model, out):
    """Return of each case its judgement, its row with DICOM, and its true mask (1, y, x)."""
    ready = made.ready()
    chosen = list(ready.cohort.cases)
    desk = dicom_desk(
        made.home, made.home, ready.scenario.outputs, FACTS, model.spec.recipe, chosen
    )
    found = []
    for order, one in judge_files(model, orders_of(made.home, chosen)):
        row = answer_row(model, one, None, (), ready.scenario, out)
        accession = dcmread(order.files[0].path, stop_before_pixels=True).AccessionNumber
        truth = _mask(made.folder / "truth" / "masks" / f"{accession}.nii.gz")
        found.append((one, desk.written(row, segments(row, one), out), truth > 0))
    return found


def _dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def _middle(mask, affine):
    return affine[:3, :3] @ np.argwhere(mask).mean(0) + affine[:3, 3]


def test_outlines_come_back_to_the_pixels_and_into_every_file(masses, tmp_path):
    made, model = masses
    found = _answers(made, model, tmp_path)
    write_predictions(tmp_path, [row for _, row, _ in found], FACTS)
    with (tmp_path / "findings.csv").open(newline="") as stream:
        told = list(csv.DictReader(stream))
    with_mass = [one for one in found if one[2].any()]
    assert with_mass
    assert len(with_mass) < len(found)
    for one, row, truth in with_mass:
        outline = one.findings.mask[0]
        assert outline.shape == truth.shape == (1, *SHAPE)
        assert _dice(outline, truth) > 0.97
        sides = np.linalg.norm(one.affine[:3, :3], axis=0)
        apart = _middle(outline, one.affine) - _middle(truth, one.affine)
        assert np.abs(apart).max() < sides[1:].min() / 2
        # What is not shown is not brought back.
        assert one.findings.mask[-1] is None
        assert np.array_equal(_mask(tmp_path / row.mask), outline)
        # In DICOM the very pixels, and one segment a finding.
        seg = dcmread(tmp_path / row.seg)
        assert errors_of(tmp_path / row.seg) == []
        assert [s.SegmentLabel for s in seg.SegmentSequence] == ["finding 1"]
        kept = highdicom.seg.segread(tmp_path / row.seg).pixel_array.reshape(SHAPE)
        assert np.array_equal(kept > 0, outline[0])
        # The report's group names that segment and has its area.
        assert errors_of(tmp_path / row.sr) == []
        (group,) = srread(tmp_path / row.sr).content.get_volumetric_roi_measurement_groups()
        assert segments_named(dcmread(tmp_path / row.sr)) == [(seg.SOPInstanceUID, 1)]
        (area,) = [m for m in group.get_measurements() if m.name.meaning == "Area"]
        assert area.unit.value == "mm2"
        assert area.value == pytest.approx(outline.sum() * sides[1] * sides[2], rel=1e-4)
        (line,) = [r for r in told if r["case_id"] == row.case_id and r["shown"] == "1"]
        assert float(line["area_mm2"]) == pytest.approx(area.value, rel=1e-4)
        assert row.measures["mass mm2"] == pytest.approx(area.value, rel=1e-4)
        assert (tmp_path / row.overlay).is_file()
    for one, row, _ in (one for one in found if not one[2].any()):
        # Looked at, and nothing is outlined: an empty mask says so, and there is no segment.
        assert one.findings.mask == (None,)
        assert not _mask(tmp_path / row.mask).any()
        assert row.measures["mass mm2"] == 0
        assert row.seg is None
        assert row.sr is not None
        assert row.no_dicom is None


def test_an_image_without_the_size_of_its_pixels_has_no_area(masses, tmp_path):
    made, model = masses
    one = next(one for one, _, truth in _answers(made, model, tmp_path) if truth.any())
    row = answer_row(model, replace(one, sized=False), None, (), made.ready().scenario, tmp_path)
    assert row.findings[0]["segment"] == 1
    assert row.findings[0]["area_mm2"] is None
    assert "mass mm2" not in row.measures


def test_outlines_are_held_against_those_of_the_labels(masses, tmp_path, monkeypatch):
    made, model = masses
    monkeypatch.setattr(judging, "load_model", lambda *_, **__: model)
    ready = made.ready()
    job = write_job(made.home, ready)
    scores, shown = judging.judge_side(made.home, ready, job.on("train"), tmp_path, tmp_path)
    assert shown
    outlines = scores.outlines
    assert outlines.case_ids == scores.case_ids
    true = np.array([bool(case.boxes) for case in job.on("train")])
    # Polygons run around pixels, and the network saw a coarser grid.
    assert (outlines.dice[true] > 0.95).all()
    assert (outlines.dice[~true] == 1).all()
    table = metric_table(scores, 0.5, replicates=200)
    assert table["dice"].value == pytest.approx(outlines.dice.mean())
    assert table["dice"].lo <= table["dice"].value <= table["dice"].hi
    assert {"nsd", "hd95", "ap"} <= set(table)
    assert "volume_error" not in table
    # Chosen cases keep their own outlines, and the table of cases has them.
    part = scores.take(np.flatnonzero(true)[:2])
    np.testing.assert_array_equal(part.outlines.dice, outlines.dice[true][:2])
    assert "dice/mass" in scores.to_table()[0]

    # A model that shows what it hardly trusts pays for it.
    model.spec = model.spec.model_copy(update={"thresholds": {"positive": 0.1}})
    try:
        worse, _ = judging.judge_side(made.home, ready, job.on("train"), tmp_path, tmp_path)
    finally:
        model.spec = model.spec.model_copy(update={"thresholds": {"positive": 0.5}})
    assert (worse.outlines.dice[~true] == 0).all()

    # Boxes alone are no truth of an outline.
    boxes = {name: text.replace('"rings"', '"lines"') for name, text in ready.cohort.boxes.items()}
    bare = replace(ready, cohort=replace(ready.cohort, boxes=boxes))
    said = []
    monkeypatch.setattr(outlining, "say", said.append)
    scores, _ = judging.judge_side(made.home, bare, job.on("train"), tmp_path, tmp_path)
    assert scores.outlines is None
    (line,) = said
    assert "outlines not measured" in line
