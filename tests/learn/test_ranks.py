"""Processes that train a fold together: shares of a batch, one network, errors that end all."""

import os
import signal

import pytest
import torch
from torch import nn

from tasks.learn.checkpoint import read_tensors
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.plan import plan_network
from tasks.learn.ranks import Rank, share_of, train_together
from tasks.learn.samples import Samples
from tasks.learn.train import CHECKPOINT, train_fold
from tests.learn import small_fold

TWO = ("cpu", "cpu")

pytestmark = pytest.mark.usefixtures("one_thread")


def test_shares_of_a_batch_are_that_batch():
    source, cases = small_fold.ball_cases(6, (8, 12, 12))
    ids = [case.case_id for case in cases]
    candidate = NetworkCandidate(name="n", network="unet3d", patch=(8, 8, 8), features=(4, 8))
    plan = plan_network(candidate, task="segmentation", shape=(8, 12, 12), n_classes=2)
    whole = Samples(plan, source, ids, {}, 3).batch(1, 2, 4)
    shares = [Samples(plan, source, ids, {}, 3, rank=Rank(n, 2)).batch(1, 2, 4) for n in range(2)]
    assert [len(share.image) for share in shares] == [2, 2]
    assert torch.equal(torch.stack([s.image for s in shares], 1).flatten(0, 1), whole.image)
    assert torch.equal(torch.stack([s.mask for s in shares], 1).flatten(0, 1), whole.mask)
    assert [p for pair in zip(*(s.params for s in shares), strict=True) for p in pair] == list(
        whole.params
    )


@pytest.mark.parametrize(
    ("batch", "devices", "taken"), [(8, 4, 4), (9, 4, 3), (2, 4, 2), (7, 4, 1)]
)
def test_a_batch_is_shared_out_evenly(batch, devices, taken):
    names = [f"cuda:{n}" for n in range(devices)]
    assert share_of(batch, names) == tuple(names[:taken])


def test_two_processes_take_the_step_of_one():
    told = []
    train_together(one_step, {}, TWO, 4, told.append)
    x, y = drawn()
    network = net()
    nn.functional.mse_loss(network(x), y).backward()
    (record,) = told
    expected = torch.cat([p.grad.flatten() for p in network.parameters()])
    torch.testing.assert_close(torch.tensor(record["gradient"]), expected)
    assert record["shared"] == "told by the first"
    assert record["mean"] == 0.5


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))


def drawn():
    source = torch.Generator().manual_seed(1)
    return torch.randn(4, 3, generator=source), torch.randn(4, 1, generator=source)


def one_step(rank, device, batch, tell):
    called = rank.spread(network := net(), device)
    x, y = (part[rank.number :: rank.of] for part in drawn())
    with rank.apart(called, True):
        nn.functional.mse_loss(called(x), y).backward()  # of this process alone, until the next
    network.zero_grad()
    nn.functional.mse_loss(called(x), y).backward()
    shared = rank.share({"text": "told by the first"} if rank.first else None)["text"]
    gradient = torch.cat([p.grad.flatten() for p in network.parameters()]).tolist()
    mean = float(rank.mean(torch.tensor(float(rank.number))))
    tell({"epoch": 1, "gradient": gradient, "shared": shared, "mean": mean})


def fail(rank, device, batch, tell, *, how):
    if not rank.first:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "memory" and batch > 2:
            raise torch.OutOfMemoryError("no more")
        if how == "loss":
            raise FloatingPointError("the training loss is nan in epoch 1; lower lr 1")
    rank.share({} if rank.first else None)
    rank.mean(torch.zeros(()))
    tell({"epoch": 1, "batch": batch})


@pytest.mark.slow
def test_an_error_of_one_ends_all_of_them_at_once():
    with pytest.raises(FloatingPointError, match="lower lr"):
        train_together(fail, {"how": "loss"}, TWO, 4, lambda _: None)
    with pytest.raises(RuntimeError, match=r"exit code -9.*train again"):
        train_together(fail, {"how": "killed"}, TWO, 4, lambda _: None)


@pytest.mark.slow
def test_out_of_memory_all_start_again_with_half_the_batch():
    told = []
    train_together(fail, {"how": "memory"}, TWO, 8, told.append)
    assert [record["batch"] for record in told] == [4, 2, 2]
    assert "batch of 8: going on with 4" in told[0]["note"]


@pytest.mark.slow
def test_a_fold_of_two_processes_that_was_stopped_ends_with_the_same_bits(tmp_path):
    def stop(record):
        if record["epoch"] == 1:
            raise KeyboardInterrupt

    whole = _train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path / "cut", stop)
    assert (tmp_path / "cut" / CHECKPOINT).exists()
    again = _train(tmp_path / "cut")
    assert again.resumed >= 1
    assert [r["epoch"] for r in again.history] == [1, 2, 3, 4]
    assert again.device.startswith("2 x cpu")
    first, second = (read_tensors(r.weights_path)[0] for r in (whole, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    # Two processes draw what one draws, so they learn what it learns.
    alone = _train(tmp_path / "alone", devices=("cpu",))
    assert abs(alone.history[-1]["val_loss"] - whole.history[-1]["val_loss"]) < 0.1


def _train(out_dir, on_epoch=None, devices=TWO):
    source, cases = small_fold.bright_square_cases(40)
    ids = [case.case_id for case in cases]
    return train_fold(
        small_fold.classifier_plan(), source, cases, ids[:28], ids[28:], out_dir, 7,
        on_epoch=on_epoch, devices=devices,
    )  # fmt: skip
