"""A hospital's DICOM studies with masks beside them: sequences on one grid, masks by accession."""

import argparse
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from pydicom import dcmread

from flows.answers import answer_row
from flows.cohorts import settle
from flows.commands.bring_home import bring_home
from flows.dicom import dicom_desk
from flows.jobs import write_job
from flows.orders import orders_of
from tasks.archive.catalog import quarantine
from tasks.archive.intake import ingest
from tasks.archive.sources import resolve_source
from tasks.archive.vault import put_source
from tasks.labels.attach import attach_labels
from tasks.learn.judge import judge_image
from tasks.learn.model import Model
from tasks.learn.model_file import ModelSpec
from tasks.learn.networks import build_network
from tasks.phantom.write_brain import write_brain_archive
from tasks.scenario.text import parse_scenario
from tasks.serve.overlays import LONG_SIDE
from tasks.serve.results import ModelFacts, write_predictions
from tasks.store.read import open_part
from tests.flows.brats import SCENARIO, preprocessed

PATIENTS = 3
SHAPE, SPACING = (16, 24, 24), (9.6, 8.0, 8.0)

CHANNELS = """\
  kind: dicom
  modality: MR
  channels:
    - {name: t1c, where: {contrast: true}}
    - {name: t1n, where: {contrast: null, ti: null, te: {max: 30}}}
    - {name: t2w, where: {contrast: null, ti: null, te: {min: 60}}}
    - {name: t2f, where: {ti: {min: 1500}}}
"""


def scenario(folder):
    head, _, tail = SCENARIO.partition("  kind: nifti\n")
    tail = tail[tail.index("  required:") :]
    labels = f"labels: {{format: masks, file: {folder}, join: accession, regions: brats2023}}"
    text = head + CHANNELS + tail
    return parse_scenario(text.replace(text[text.index("labels:") :].split("\n")[0], labels))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    root = tmp_path_factory.mktemp("hospital")
    write_brain_archive(
        root, patients=PATIENTS, seed=5, difficulty="easy", shape=SHAPE, spacing=SPACING
    )
    return root


def told(home, root, folder):
    source = resolve_source(str(root / "dicom"), "hospital")
    report = ingest(source, home.catalog, home.vault, home.names)
    assert not report.quarantined
    body = scenario(folder)
    return body, attach_labels(source, body.labels, home.names, home.catalog, home.vault)


@pytest.mark.parametrize("folder", ["../truth/masks", "../truth/seg"], ids=["NIfTI", "DICOM SEG"])
def test_sequences_and_masks_of_a_study_come_onto_one_grid(archive, home, folder):
    body, report = told(home, archive, folder)
    assert (report.rows, report.matched, report.unmatched) == (PATIENTS, PATIENTS, ())
    ready = settle(home, body)
    *_, refused = preprocessed(home, ready)
    assert refused == []
    job = write_job(home, ready)
    assert len(job.cases) == PATIENTS
    for case in job.cases:
        image = open_part(home.settings.store_root, case.part_path).read(case.case_id)
        mask = open_part(home.settings.store_root, case.label_part_path).read(case.case_id)
        assert image.shape == (4, *mask.shape)
        assert set(np.unique(mask)) <= {0, 1, 2, 3}
        assert (mask > 0).sum() > 5
        # Enhancing tumour is bright in T1 with contrast, oedema in FLAIR: masks lie where they say.
        contrast, flair = (image[job_channels(job).index(name)] for name in ("t1c", "t2f"))
        rest = (image[0] != 0) & (mask == 0)
        assert flair[mask > 0].mean() > flair[rest].mean() + 0.5
        if (mask == 3).sum() > 5:
            assert contrast[mask == 3].mean() > contrast[rest].mean() + 0.5


def job_channels(job):
    return job.recipe["channels"]["names"]


def test_both_forms_of_the_truth_are_the_same_masks(archive, home, tmp_path):
    found = {}
    for folder in ("../truth/masks", "../truth/seg"):
        body, _ = told(home, archive, folder)
        ready = settle(home, body)
        preprocessed(home, ready)
        for case in write_job(home, ready).cases:
            part = open_part(home.settings.store_root, case.label_part_path)
            found.setdefault(case.case_id, []).append(part.read(case.case_id))
    assert len(found) == PATIENTS
    for one, other in found.values():
        np.testing.assert_array_equal(one, other)


def test_masks_that_belong_to_nobody_are_listed_and_no_name_is_told(archive, home, tmp_path):
    folder = tmp_path / "masks"
    shutil.copytree(archive / "truth" / "masks", folder)
    (first, *_) = sorted(folder.iterdir())
    shutil.copyfile(first, folder / "0-OTHER.nii.gz")
    (folder / "notes.txt").write_text("not a mask")
    _, report = told(home, archive, folder)
    assert (report.rows, report.matched) == (PATIENTS + 1, PATIENTS)
    assert report.unmatched == ((1, "no case of this source has this accession"),)
    assert not quarantine(home.catalog)


def test_a_folder_without_masks_is_refused_without_its_name(archive, home, tmp_path):
    empty = tmp_path / "doe-jane"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match="folder of masks") as refusal:
        told(home, archive, empty)
    assert "doe" not in str(refusal.value)


def test_a_mask_that_changes_is_a_new_label_set(archive, home, tmp_path):
    folder = tmp_path / "masks"
    shutil.copytree(archive / "truth" / "masks", folder)
    _, first = told(home, archive, folder)
    _, again = told(home, archive, folder)
    assert again.label_set_id == first.label_set_id
    one, other, *_ = sorted(folder.iterdir())
    shutil.copyfile(other, one)
    _, changed = told(home, archive, folder)
    assert changed.label_set_id != first.label_set_id


def test_a_study_gets_its_regions_in_ml_three_planes_and_dicom_on_its_reference(
    archive, home, tmp_path
):
    """The way of `radloop predict`, with a network that has learned nothing yet."""
    body, _ = told(home, archive, "../truth/masks")
    source = resolve_source(str(archive / "dicom"), "hospital")
    ready = settle(home, body)
    _, recipe, _ = preprocessed(home, ready)
    job = write_job(home, ready)
    plan = job.plan(job.candidate("unet"))
    spec = ModelSpec(
        name="tumour", candidate="unet", task="segmentation", kind="network", plan=plan,
        classes=("background", *job.classes), regions=job.regions, recipe=recipe.to_dict(),
    )  # fmt: skip
    torch.manual_seed(0)
    model = Model(spec, plan, [build_network(plan).eval()], [], torch.device("cpu"))
    case = ready.cohort.cases[0]
    (order,) = orders_of(home, [case])
    one = judge_image(model, order)
    facts = ModelFacts(
        "tumour", "t", "tumour", "1", "ab" * 32, "segmentation", "2026", classes=spec.classes
    )
    desk = dicom_desk(home, home, body.outputs, facts, spec.recipe, [case])
    row = desk.written(answer_row(model, one, None, (), body, tmp_path), one.mask, tmp_path)
    voxel = np.prod(SPACING) / 1000
    assert list(row.measures)[:3] == ["WT ml", "TC ml", "ET ml"]
    for name, values in job.regions:
        assert row.measures[f"{name} ml"] == pytest.approx(np.isin(one.mask, values).sum() * voxel)
    assert row.no_dicom is None
    seg, sr = (dcmread(tmp_path / path) for path in (row.seg, row.sr))
    # The report names every image of all four sequences, not of the reference alone.
    (study,) = sr.CurrentRequestedProcedureEvidenceSequence
    assert len(study.ReferencedSeriesSequence) == 4 + 1
    named = sum(len(one.ReferencedSOPSequence) for one in study.ReferencedSeriesSequence)
    assert named == len(order.all_files) + 1
    _home_again(home, source, row, facts, order, tmp_path)
    contrast = {str(dcmread(ref.path).SOPInstanceUID) for ref in order.files}
    assert not contrast & {str(item) for item in _instances(seg)}  # pseudonymous
    assert len(contrast) == len(_instances(seg)) == SHAPE[0]
    told_of = {code for code in _meanings(sr) if code in ("WT", "TC", "ET")}
    assert told_of == {"WT", "TC", "ET"}
    with Image.open(tmp_path / row.overlay) as picture:
        assert picture.width == 3 * LONG_SIDE


def _home_again(home, source, row, facts, order, folder):
    """The way home of a case of several series: by the series its id is made of."""
    put_source(home.vault, source)
    write_predictions(folder, [row], facts)
    asked = {"to": "dicom", "results": folder, "source": source.alias, "verbose": True}
    asked["home"] = home.settings.home
    assert bring_home(argparse.Namespace(**asked, out=folder.parent / f"{folder.name}-own")) == 0
    originals = {str(dcmread(ref.path).SOPInstanceUID) for ref in order.all_files}
    patient = dcmread(order.files[0].path).PatientID
    found = [dcmread(path) for path in (folder.parent / f"{folder.name}-own").iterdir()]
    assert {dataset.Modality for dataset in found} == {"SEG", "SR"}
    for dataset in found:
        assert dataset.PatientID == patient
        if dataset.Modality == "SR":
            (study,) = dataset.CurrentRequestedProcedureEvidenceSequence
            series = study.ReferencedSeriesSequence
            named = {
                one.ReferencedSOPInstanceUID for s in series for one in s.ReferencedSOPSequence
            }
            assert originals < named
    # Of other series the id is another, so a table that names them leads nowhere.
    path = folder / "predictions.json"
    swapped = json.loads(path.read_text())
    (told,) = swapped["predictions"]
    told["series"] = [[name, case_id] for (name, _), (_, case_id) in
                      zip(told["series"], told["series"][::-1], strict=True)]  # fmt: skip
    path.write_text(json.dumps(swapped))
    assert bring_home(argparse.Namespace(**asked, out=folder.parent / f"{folder.name}-no")) == 1
    assert not list((folder.parent / f"{folder.name}-no").iterdir())


def _instances(seg):
    (series,) = seg.ReferencedSeriesSequence
    return [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence]


def _meanings(item):
    for element in item:
        if element.keyword == "CodeMeaning":
            yield element.value
        if element.VR == "SQ":
            for below in element.value:
                yield from _meanings(below)
