"""A fold learns, is the same again, survives a kill, and answers a full device."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tasks.evaluate.metrics import auroc
from tasks.learn import plan as plan_module
from tasks.learn import training as training_module
from tasks.learn.checkpoint import prefixed, read_tensors, without_prefix, write_tensors
from tasks.learn.fold import FOLD_FILE
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.plan import plan_network
from tasks.learn.train import CHECKPOINT, train_fold
from tests.learn import small_fold

CHECKOUT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("one_thread")


def _train(out_dir, plan=None, *, n=40, seed=7, on_epoch=None):
    source, cases = small_fold.bright_square_cases(n)
    ids = [case.case_id for case in cases]
    cut = int(n * 0.7)
    plan = plan or small_fold.classifier_plan()
    return train_fold(
        plan, source, cases, ids[:cut], ids[cut:], out_dir, seed, on_epoch=on_epoch, device="cpu"
    )


def _weights(result):
    return read_tensors(Path(result.weights_path))[0]


def _same_bits(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    result = _train(tmp_path_factory.mktemp("undisturbed"))
    torch.set_num_threads(before)
    return result


def test_a_small_network_learns_to_see_a_bright_square(tmp_path):
    plan = small_fold.classifier_plan(epochs=10, lr=1e-2, features=(8, 16), ema=0.0)
    result = _train(tmp_path, plan, n=100)
    assert result.history[-1]["val_auroc"] > 0.9
    assert result.history[-1]["loss"] < 0.7 * result.history[0]["loss"]
    assert result.val_probability.shape == (30, 2)
    np.testing.assert_allclose(result.val_probability.sum(1), 1, atol=1e-6)


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(undisturbed, tmp_path):
    assert _same_bits(_weights(undisturbed), _weights(_train(tmp_path / "a")))
    assert not _same_bits(_weights(undisturbed), _weights(_train(tmp_path / "b", seed=8)))


def test_training_leaves_the_caller_s_random_state_and_torch_settings(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    _train(tmp_path, small_fold.classifier_plan(epochs=1))
    assert torch.equal(torch.rand(2), expected)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_training_killed_with_sigkill_ends_with_the_bits_of_an_undisturbed_one(
    undisturbed, tmp_path
):
    command = [sys.executable, "-m", "tests.learn.small_fold", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "60"], stdout=subprocess.PIPE, text=True, env=environment, cwd=CHECKOUT
    )
    # The program rests after each record, so it dies with one epoch on disk.
    assert process.stdout.readline().strip() == "1"
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert (tmp_path / CHECKPOINT).exists()
    assert not list(tmp_path.glob("fold*"))

    result = _train(tmp_path)

    assert result.resumed == 1
    assert [r["epoch"] for r in result.history] == [1, 2, 3, 4]
    assert _same_bits(_weights(undisturbed), _weights(result))
    assert not (tmp_path / CHECKPOINT).exists()


def test_a_crash_in_the_middle_of_an_epoch_repeats_that_epoch_exactly(
    undisturbed, tmp_path, monkeypatch
):
    steps = 0
    real = training_module.Training._step

    def breaks(self, batch, *rest):
        nonlocal steps
        steps += 1
        if steps == 8:  # three steps an epoch: the middle of epoch 3
            raise KeyboardInterrupt
        return real(self, batch, *rest)

    monkeypatch.setattr(training_module.Training, "_step", breaks)
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path)
    monkeypatch.undo()
    result = _train(tmp_path)
    assert result.resumed == 2
    assert _same_bits(_weights(undisturbed), _weights(result))


def test_a_finished_fold_is_returned_without_training(undisturbed, monkeypatch):
    def refuse(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(training_module.Training, "__init__", refuse)
    told = []
    again = _train(Path(undisturbed.weights_path).parent, on_epoch=told.append)
    assert told == list(undisturbed.history)
    np.testing.assert_array_equal(again.val_probability, undisturbed.val_probability)


def test_a_checkpoint_of_other_settings_is_not_gone_on_with(tmp_path):
    _train(tmp_path, small_fold.classifier_plan(epochs=2))
    result = _train(tmp_path, small_fold.classifier_plan(epochs=2, lr=1e-3))
    assert result.resumed == 0


def test_every_epoch_is_reported_with_its_times(undisturbed):
    assert len(undisturbed.history) == 4
    for record in undisturbed.history:
        assert 0 <= record["data_wait"] <= 1
        assert record["seconds"] >= record["train_seconds"] > 0
        json.dumps(record, allow_nan=False)
    assert undisturbed.device.startswith("cpu")


@pytest.mark.parametrize(("ema", "kept"), [(0.0, "network"), (0.9, "average")])
def test_the_last_epoch_is_kept_however_the_validation_side_worsens(ema, kept, tmp_path):
    source, cases = small_fold.bright_square_cases(60)
    # The other side is labelled the wrong way round: the more is learnt, the worse it looks.
    cases = [replace(c, target=1 - c.target) if i >= 42 else c for i, c in enumerate(cases)]
    ids, last = [case.case_id for case in cases], {}
    plan = small_fold.classifier_plan(epochs=8, lr=1e-2, features=(8, 16), ema=ema)
    result = train_fold(
        plan, source, cases, ids[:42], ids[42:], tmp_path, 7, device="cpu",
        on_epoch=lambda _: last.update(read_tensors(tmp_path / CHECKPOINT)[0]),
    )  # fmt: skip
    losses = [record["val_loss"] for record in result.history]
    assert len(losses) == 8
    assert losses[-1] > 1.1 * min(losses)
    assert _same_bits(without_prefix("network", _weights(result)), without_prefix(kept, last))
    ill = np.array([case.target for case in cases[42:]]) == 1
    found = auroc(ill, result.val_probability[:, 1])
    assert found == pytest.approx(result.history[-1]["val_auroc"])


def test_an_epoch_that_is_not_looked_at_has_no_figures_and_the_same_weights(
    undisturbed, tmp_path, monkeypatch
):
    monkeypatch.setattr(plan_module, "LOOKS", 2)
    result = _train(tmp_path)
    assert ["val_loss" in record for record in result.history] == [True, False, False, True]
    assert _same_bits(_weights(undisturbed), _weights(result))


def test_what_was_left_with_a_best_epoch_is_left_aside(undisturbed, tmp_path):
    # Folds and checkpoints of before are of plans that had a patience, so of another identity.
    tensors, record = read_tensors(Path(undisturbed.weights_path))
    before = record | {"identity": "of before", "best_epoch": 2}
    write_tensors(tmp_path / FOLD_FILE, tensors, before)
    weights = without_prefix("network", tensors)
    states = {**prefixed("network", weights), **prefixed("best", weights)}
    write_tensors(tmp_path / CHECKPOINT, states, before)
    result = _train(tmp_path)
    assert result.resumed == 0
    assert _same_bits(_weights(undisturbed), _weights(result))


def test_out_of_memory_halves_the_batch_says_so_and_goes_on(tmp_path, monkeypatch):
    real = training_module.Training._step

    def too_large(self, batch, *rest):
        if len(batch.image) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, batch, *rest)

    monkeypatch.setattr(training_module.Training, "_step", too_large)
    told = []
    result = _train(tmp_path, on_epoch=told.append)
    notes = [r["note"] for r in told if "note" in r]
    assert result.batch == 2
    assert notes == [
        "out of memory with a batch of 8: going on with 4",
        "out of memory with a batch of 4: going on with 2",
    ]
    assert [r["epoch"] for r in told if "note" not in r] == [1, 2, 3, 4]


def test_out_of_memory_with_one_sample_ends_with_the_remedy(tmp_path, monkeypatch):
    def never(self, batch, *rest):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(training_module.Training, "_step", never)
    with pytest.raises(torch.OutOfMemoryError, match="lower gpu_memory_gb"):
        _train(tmp_path)


def test_a_patient_on_both_sides_is_refused(tmp_path):
    source, cases = small_fold.bright_square_cases(8)
    ids = [case.case_id for case in cases]
    with pytest.raises(ValueError, match="1 patients stand on both sides"):
        train_fold(small_fold.classifier_plan(), source, cases, ids[:5], ids[4:], tmp_path, 0)


def test_a_class_without_training_cases_is_refused(tmp_path):
    source, cases = small_fold.bright_square_cases(12)
    ids = [case.case_id for case in cases]
    with pytest.raises(ValueError, match="class 1 of 2 has no training case"):
        train_fold(small_fold.classifier_plan(), source, cases, ids[0:8:2], ids[1::2], tmp_path, 0)


def test_a_case_without_a_class_is_refused(tmp_path):
    source, cases = small_fold.bright_square_cases(12)
    ids = [case.case_id for case in cases]
    cases[3] = replace(cases[3], target=None)
    cases[4] = replace(cases[4], target=2)
    with pytest.raises(ValueError, match="2 cases have no class number from 0 to 1"):
        train_fold(small_fold.classifier_plan(), source, cases, ids[:8], ids[8:], tmp_path, 0)


def test_a_file_left_by_a_kill_while_writing_is_cleared_away(tmp_path):
    (tmp_path / f".{CHECKPOINT}.123").write_bytes(b"half")
    _train(tmp_path, small_fold.classifier_plan(epochs=1))
    assert [p.name for p in tmp_path.iterdir()] == ["fold.safetensors"]


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path):
    source, cases = small_fold.bright_square_cases(12)
    ids = [case.case_id for case in cases]
    for case_id in ids[:8]:
        source.images[case_id][:] = np.nan
    with pytest.raises(FloatingPointError, match="lower lr"):
        train_fold(small_fold.classifier_plan(), source, cases, ids[:8], ids[8:], tmp_path, 0)


def test_a_unet_of_volumes_learns_to_find_a_ball(tmp_path):
    source, cases = small_fold.ball_cases(12, (16, 20, 16))
    ids = [case.case_id for case in cases]
    candidate = NetworkCandidate(
        name="u", network="unet3d", epochs=8, features=(8, 16), lr=1e-2, steps_per_epoch=6, batch=2
    )
    plan = plan_network(candidate, task="segmentation", shape=(16, 20, 16), n_classes=2)
    result = train_fold(plan, source, cases, ids[:9], ids[9:], tmp_path, 0, device="cpu")
    assert result.val_dice.shape == (3, 1)
    for values in result.val_others.values():
        assert values.shape == (3, 1)
    assert result.val_others["nsd"].mean() > 0.8
    assert result.val_others["hd95"].mean() < 3
    assert result.val_dice.mean() > 0.8
    assert result.history[-1]["val_dice"] == pytest.approx(result.val_dice.mean())


def test_a_unet_of_images_cuts_patches_and_tiles_the_whole(tmp_path):
    source, cases = small_fold.ball_cases(10, (1, 48, 40))
    ids = [case.case_id for case in cases]
    candidate = NetworkCandidate(
        name="u", network="unet2d", epochs=6, features=(8, 16), lr=1e-2, steps_per_epoch=8,
        patch=(1, 16, 16), batch=6,
    )  # fmt: skip
    plan = plan_network(candidate, task="segmentation", shape=(1, 48, 40), n_classes=2)
    result = train_fold(plan, source, cases, ids[:7], ids[7:], tmp_path, 0, device="cpu")
    assert result.val_dice.mean() > 0.7


def tiny_linear(in_channels, n_classes, dims, shape, width=3):
    voxels = in_channels * int(np.prod(shape))
    return nn.Sequential(nn.Flatten(), nn.Linear(voxels, width), nn.Linear(width, n_classes))


def test_a_network_named_by_module_and_function_is_trained(tmp_path):
    plan = small_fold.classifier_plan(
        network=f"{__name__}:tiny_linear", options={"width": 5}, epochs=1
    )
    result = _train(tmp_path, plan)
    assert _weights(result)["network.1.weight"].shape[0] == 5
    assert result.val_ood is None
