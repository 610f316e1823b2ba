"""Corrupted images take the way of every other image: source, recipe, network, calibration."""

import numpy as np
import pytest
import torch

from tasks.archive.nifti import write_nifti
from tasks.archive.orders import OrderCase, OrderSeries
from tasks.archive.sources import FileRef
from tasks.cohort.channels import ChannelSet
from tasks.evaluate.config import MaskConfig
from tasks.evaluate.overlap import dice_per_class
from tasks.evaluate.robustness import CLEAN
from tasks.evaluate.segmentation import mask_figures
from tasks.evaluate.stress import CORRUPTIONS, SEVERITIES, Corruption, corrupt
from tasks.imaging.channels import prepare
from tasks.imaging.recipe import apply, fit
from tasks.imaging.source import read_source
from tasks.imaging.step import Image
from tasks.imaging.steps import parse_steps
from tasks.labels.case_mask import case_mask
from tasks.learn.dataset import spacing_of
from tasks.learn.job import JobCase
from tasks.learn.judge import judge_image, recipe_of
from tasks.learn.model import Model
from tasks.learn.model_file import ModelSpec
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.networks import build_network
from tasks.learn.plan import plan_network
from tasks.learn.stressed import judge_corrupted, sample_cases
from tasks.phantom.ct import write_ct_series
from tests.flows.brats import SEQUENCES, write_patient

SHAPE = (6, 24, 20)
CT = CORRUPTIONS["ct"]


def model_of(task, steps, channels=None):
    """Random weights: that the very same is asked matters here, not what it says."""
    network = "unet3d" if task == "segmentation" else "small_cnn"
    candidate = NetworkCandidate(name="it", network=network, features=(4, 8), flip_tta=())
    classes = ("background", "organ") if task == "segmentation" else ("no", "yes")
    if channels is not None:
        classes = ("background", "necrosis", "oedema", "enhancing")
    plan = plan_network(
        candidate, task=task, shape=SHAPE, n_classes=len(classes),
        in_channels=1 if channels is None else len(channels.names),
    )  # fmt: skip
    said = None if channels is None else channels.to_dict()
    spec = ModelSpec(
        name="it", candidate="it", task=task, kind="network", classes=classes, plan=plan,
        recipe=fit(parse_steps(steps), None, channels=said).to_dict(),
        calibration={"method": "temperature", "temperature": 2.0},
    )  # fmt: skip
    torch.manual_seed(0)
    return Model(spec, plan, [build_network(plan).eval()], (), torch.device("cpu"))


@pytest.fixture
def case(tmp_path):
    write_ct_series(tmp_path, shape=SHAPE)
    files = tuple(FileRef(str(p), None, "", p.stat().st_size) for p in tmp_path.glob("*.dcm"))
    return OrderCase("c" * 32, "dicom", files, None)


def test_a_classifier_is_asked_about_every_severity_through_its_own_recipe(case):
    model = model_of("classification", [{"step": "normalise"}])
    ((name, answers),) = judge_corrupted(model, [case], CT, MaskConfig(), seed=3)
    assert name == case.case_id
    assert len(answers) == 1 + len(CT) * len(SEVERITIES)
    clean = judge_image(model, case).probability
    np.testing.assert_allclose(answers[CLEAN, 0], clean, atol=1e-6)
    assert len({round(float(a[1]), 9) for a in answers.values()}) > len(CT) * len(SEVERITIES) / 2
    recipe = fit(parse_steps([{"step": "normalise"}]), None)
    volume = read_source(recipe, case)
    worse = corrupt(volume.array, CT[0], 5, spacing_of(volume.affine), name, 3)
    prepared, _ = apply(recipe, Image(worse, volume.affine, facts=volume.facts))
    logit = np.log(model.predict(prepared.array)) / 2
    expected = np.exp(logit) / np.exp(logit).sum()
    np.testing.assert_allclose(answers[CT[0].name, 5], expected, atol=1e-6)


def test_a_recipe_that_undoes_a_corruption_leaves_the_answer(case):
    """What is added to every voxel is taken away by the recipe's z-score, as in use."""
    model = model_of("classification", [{"step": "normalise", "method": "zscore"}])
    shift = [one for one in CT if one.family == "hu_offset"]
    ((_, answers),) = judge_corrupted(model, [case], shift, MaskConfig())
    for answer in answers.values():
        np.testing.assert_allclose(answer, answers[CLEAN, 0], atol=1e-4)


def test_a_segmenter_is_measured_on_the_sources_own_grid(case, tmp_path):
    model = model_of("segmentation", [{"step": "normalise"}])
    judged = judge_image(model, case)
    truth = np.zeros(judged.image.shape, np.uint8)
    truth[2:4, 5:15, 5:15] = 1
    path = tmp_path / "mask.nii.gz"
    write_nifti(path, truth, judged.affine)
    masked = OrderCase(
        case.case_id, "dicom", case.files, FileRef(str(path), None, "", path.stat().st_size)
    )
    ((_, answers),) = judge_corrupted(model, [masked], CT[:1], MaskConfig())
    expected = mask_figures(truth, judged.mask, spacing_of(judged.affine), 1, MaskConfig())
    assert answers[CLEAN, 0].dice == pytest.approx(expected.dice)
    assert answers[CLEAN, 0].others["hd95"] == pytest.approx(expected.others["hd95"])


def test_every_series_of_a_case_is_corrupted_by_itself(tmp_path):
    """Noise of one series is not that of another, and a missing one stays missing."""
    name = write_patient(tmp_path, 1, ("t2w",))
    files = {n: tmp_path / name / f"{name}-{n}.nii.gz" for n in SEQUENCES if n != "t2w"}
    refs = {n: FileRef(str(p), None, "", p.stat().st_size) for n, p in files.items()}
    mask = tmp_path / name / f"{name}-seg.nii.gz"
    order = OrderCase(
        "c" * 32, "nifti", (refs["t1c"],), FileRef(str(mask), None, "", mask.stat().st_size),
        series=tuple(OrderSeries(n, (refs[n],)) for n in ("t1c", "t1n", "t2f")),
    )  # fmt: skip
    channels = ChannelSet(SEQUENCES, ("t1c", "t2f"), "t1c")
    model = model_of("segmentation", [{"step": "normalise"}], channels)
    (rician,) = [one for one in CORRUPTIONS["mr"] if one.name == "rician"]
    asked, said = model.predict, []

    def watched(image):
        said.append(image)
        return asked(image)

    model.predict = watched
    ((_, answers),) = judge_corrupted(model, [order], [rician], MaskConfig(), seed=3)
    assert len(answers) == len(said) == 1 + len(SEVERITIES)
    clean, worst = said[0], said[-1]
    ready = prepare(recipe_of(model.spec), order)
    np.testing.assert_array_equal(clean, ready.image.array)
    assert not worst[SEQUENCES.index("t2w")].any()
    noise = {n: (worst - clean)[SEQUENCES.index(n)].ravel() for n in ("t1c", "t1n", "t2f")}
    assert min(np.abs(one).mean() for one in noise.values()) > 0.01
    assert abs(np.corrcoef(noise["t1c"], noise["t1n"])[0, 1]) < 0.5
    truth = case_mask(order, ready.volume)
    expected = dice_per_class(truth, judge_image(model, order).mask, 3)[0]
    np.testing.assert_allclose(answers[CLEAN, 0].dice, expected)


def test_what_cannot_be_read_is_left_out_and_what_the_recipe_refuses_is_none(case, tmp_path):
    model = model_of("classification", [{"step": "normalise"}])
    path = tmp_path / "broken.dcm"
    path.write_bytes(b"no image at all")
    gone = OrderCase("d" * 32, "dicom", (FileRef(str(path), None, "", 15),), None)
    dead = Corruption("dead", "dead", "share", (0.5,) * 4 + (0,), lambda image, by, *_: image * by)
    found = dict(judge_corrupted(model, [gone, case], [dead], MaskConfig()))
    assert list(found) == [case.case_id]
    answers = found[case.case_id]
    assert answers["dead", 5] is None
    assert all(answers["dead", severity] is not None for severity in SEVERITIES[:4])


def test_the_sample_is_one_case_a_patient_and_as_many_of_each_class():
    cases = [
        JobCase(f"{n:032x}", f"patient{n // 2}", "test", None, target=int(n // 2 % 5 == 0))
        for n in range(100)
    ]
    sample = sample_cases(cases, 16)
    assert len({case.patient_key for case in sample}) == len(sample) == 16
    assert [case.target for case in sample].count(1) == 8
    assert sample == sample_cases(cases[::-1], 16)
    assert len(sample_cases(cases, 1000)) == 50
