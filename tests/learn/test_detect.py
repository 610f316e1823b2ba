"""Detectors learn drawn boxes, resume exactly, and say where in the patient things are."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from tasks.learn import training as training_module
from tasks.learn.box_figures import average_precision
from tasks.learn.box_targets import Target
from tasks.learn.boxes import boxes_on, rows_of
from tasks.learn.checkpoint import read_tensors
from tasks.learn.detect import detect
from tasks.learn.detectors import Found
from tasks.learn.model import load_model
from tasks.learn.model_file import ModelSpec, save_model
from tasks.learn.networks import build_network
from tasks.learn.train import CHECKPOINT, train_fold
from tests.learn.drawn_boxes import AFFINE, PICTURE, VOLUME, detector_plan, drawn_cases

CHECKOUT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
NAMES = ("bright", "dark")

pytestmark = pytest.mark.usefixtures("one_thread")


def _train(out_dir, plan, *, n=16, shape=PICTURE, classes=1, seed=7):
    source, cases = drawn_cases(n, shape, classes=classes)
    ids = [case.case_id for case in cases]
    cut = n * 3 // 4
    result = train_fold(plan, source, cases, ids[:cut], ids[cut:], out_dir, seed, device="cpu")
    return result, source, {case.case_id: case.boxes for case in cases}


def _same_bits(a, b):
    one, two = (read_tensors(Path(r.weights_path))[0] for r in (a, b))
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


@pytest.mark.parametrize("network", ["retinanet2d", "fasterrcnn", "maskrcnn", "retinanet3d"])
def test_a_detector_learns_and_a_model_of_it_answers_the_same(network, tmp_path):
    # Two colours take the volumes' network longer than a test has.
    shape, names = (VOLUME, NAMES[:1]) if network == "retinanet3d" else (PICTURE, NAMES)
    plan = detector_plan(network, epochs=4, lr=3e-3, n_classes=len(names), batch=2)
    result, source, boxes = _train(tmp_path, plan, n=24, shape=shape, classes=len(names))
    assert result.history[-1]["loss"] < 0.8 * result.history[0]["loss"]
    assert result.history[-1]["val_ap"] > 0.4
    assert [len(rows) <= plan.detector.max_findings for rows in result.val_findings]

    spec = ModelSpec(
        name="drawn", candidate="tiny", task="detection", kind="network",
        classes=names, plan=plan,
    )  # fmt: skip
    save_model(tmp_path / "model", spec, folds=[result.weights_path])
    model = load_model(tmp_path / "model", device="cpu")
    found = [model.detect(source.image(case_id)) for case_id in result.val_ids]
    ap = average_precision(plan, source, result.val_ids, boxes, found)
    assert ap == pytest.approx(result.history[-1]["val_ap"], abs=1e-6)
    for rows, again in zip(result.val_findings, found, strict=True):
        # The record is in the patient, the model answers on the grid: they are one box.
        np.testing.assert_allclose(_boxes_of(rows), again.box, atol=1e-6)
        np.testing.assert_allclose(rows[:, 1], again.score)
        assert (again.mask is not None) == (network == "maskrcnn" and len(again) > 0)
    assert model.ood_score(source.image(result.val_ids[0])) is not None
    with pytest.raises(ValueError, match="use detect"):
        model.predict(source.image(result.val_ids[0]))


def _boxes_of(findings):
    """Return findings (b, 14) of the patient as boxes of the grid."""
    return boxes_on(np.column_stack([findings[:, :1], findings[:, 2:], findings[:, :1]]), AFFINE)


@pytest.mark.slow
def test_a_training_killed_with_sigkill_ends_with_the_bits_of_an_undisturbed_one(tmp_path):
    plan = detector_plan("retinanet2d", augment="detection2d")
    undisturbed, _, _ = _train(tmp_path / "a", plan)
    command = [sys.executable, "-m", "tests.learn.drawn_boxes", str(tmp_path / "b"), "60"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout.readline().strip() == "1"
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert (tmp_path / "b" / CHECKPOINT).exists()
    result, _, _ = _train(tmp_path / "b", plan)
    assert result.resumed == 1
    assert _same_bits(undisturbed, result)


def test_hard_negatives_are_drawn_again_after_a_crash(tmp_path, monkeypatch):
    plan = detector_plan("retinanet3d", augment="detection", batch=2, hard_negatives=True)
    undisturbed, _, _ = _train(tmp_path / "a", plan, n=8, shape=VOLUME)
    real, steps = training_module.Training._step, []

    def breaks(self, batch, *rest):
        steps.append(batch)
        if len(steps) == 5:  # three steps an epoch
            raise KeyboardInterrupt
        return real(self, batch, *rest)

    monkeypatch.setattr(training_module.Training, "_step", breaks)
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path / "b", plan, n=8, shape=VOLUME)
    monkeypatch.undo()
    result, _, _ = _train(tmp_path / "b", plan, n=8, shape=VOLUME)
    assert result.resumed == 1
    assert _same_bits(undisturbed, result)


class Bright(nn.Module):
    """Finds the boxes around what is bright, exactly: what is tested is the way around it."""

    def forward(self, x):
        out = []
        for image in x[:, 0].numpy():
            places = ndimage.find_objects(ndimage.label(image > 0.25)[0])
            box = [[s.start for s in one] + [s.stop for s in one] for one in places]
            score = [float(image[one].max()) for one in places]
            out.append(
                Found(
                    torch.tensor(box).reshape(-1, 2 * image.ndim).float(),
                    torch.tensor(score),
                    torch.zeros(len(box), dtype=torch.int64),
                    torch.tensor(np.array([image > 0.25] * len(box))) if image.ndim == 2 else None,
                )
            )
        return out


@pytest.mark.parametrize("flips", [(), ("y",), ("y", "x")])
def test_a_picture_of_any_size_and_mirrored_gives_the_very_box(flips):
    image = np.zeros((1, 75, 99), np.float32)
    image[0, 60:75, 10:31] = 0.75
    plan = detector_plan("maskrcnn", flip_tta=flips)
    found = detect([Bright()], plan, image, CPU)
    assert found.box.tolist() == [[[-0.5, 59.5, 9.5], [0.5, 74.5, 30.5]]]
    assert found.score.tolist() == [0.75]
    np.testing.assert_array_equal(found.mask[0], image > 0)


@pytest.mark.parametrize("flips", [(), ("z", "y", "x")])
def test_a_volume_in_tiles_gives_the_very_boxes(flips):
    image = np.zeros((60, 90, 75), np.float32)
    image[30:38, 40:50, 50:58] = 0.5
    image[0:5, 84:90, 0:9] = 0.75
    plan = detector_plan("retinanet3d", flip_tta=flips)
    assert image.size > 3 * np.prod(plan.patch)
    found = detect([Bright()], plan, image, CPU)
    np.testing.assert_allclose(found.box[0], [[-0.5, 83.5, -0.5], [4.5, 89.5, 8.5]])
    # A tile that cuts a box in two sees a smaller one: a voxel is what that may cost.
    np.testing.assert_allclose(found.box[1], [[29.5, 39.5, 49.5], [37.5, 49.5, 57.5]], atol=1)
    np.testing.assert_allclose(found.score[:2], [0.75, 0.5], atol=0.02)
    assert (found.score[2:] < 0.2).all()


def test_an_image_without_anything_gives_no_finding():
    plan = detector_plan("retinanet3d")
    assert len(detect([Bright()], plan, np.zeros((20, 30, 40), np.float32), CPU)) == 0


def test_precision_is_held_against_the_labels_own_boxes():
    """A mask may lose an instance under others; the label's box still counts as missed."""
    source, cases = drawn_cases(8, VOLUME, seed=3)
    boxes = {case.case_id: case.boxes for case in cases}
    plan = detector_plan("retinanet3d")
    found = [detect([Bright()], plan, (source.label(c) > 0).astype(np.float32), CPU) for c in boxes]
    assert average_precision(plan, source, list(boxes), boxes, found) == pytest.approx(1)
    first = next(c for c in boxes if boxes[c])
    once_more = np.array(rows_of(boxes[first])[:1])
    once_more[:, 1] += 500
    boxes[first] = (*boxes[first], tuple(once_more[0]))
    lesions = sum(map(len, boxes.values()))
    ap = average_precision(plan, source, list(boxes), boxes, found)
    assert ap == pytest.approx((lesions - 1) / lesions, abs=0.01)


@pytest.mark.parametrize("network", ["retinanet2d", "maskrcnn", "retinanet3d"])
def test_known_backbones_are_built_without_weights_and_learn(network):
    shape = (32, 32, 32) if network == "retinanet3d" else (1, 64, 64)
    plan = detector_plan(
        network, backbone="resnet18", features=None, patch=shape, anchors=((4, 8, 8),)
    )
    detector = build_network(plan)
    box = [4.0, 8, 8, 12, 24, 24] if plan.dims == 3 else [8.0, 8, 24, 24]
    target = Target(
        torch.tensor([box]), torch.tensor([0]), torch.zeros(0, 2 * plan.dims),
        torch.ones(1, *shape[-plan.dims :], dtype=torch.uint8),
    )  # fmt: skip
    x = torch.zeros(1, 1, *shape[-plan.dims :])
    loss = detector.train()(x, [target])
    loss.backward()
    assert torch.isfinite(loss)
    deepest = [p for n, p in detector.named_parameters() if "layer" in n and p.ndim > 1]
    assert all(p.grad is not None for p in deepest)
    assert len(detector.eval()(x)) == 1
