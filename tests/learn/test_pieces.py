"""Losses, schedules, checkpoints, devices and distances do what their names say."""

import pickletools

import numpy as np
import pytest
import torch
from torch import nn

from tasks.learn.checkpoint import (
    optimizer_tensors,
    read_tensors,
    restore_network,
    restore_optimizer,
    write_tensors,
)
from tasks.learn.device import device_name, mixed_precision, pick_device, repeatable
from tasks.learn.loss import (
    WARM_UP,
    WARM_UP_FROM,
    class_weights,
    learning_rate,
    make_optimizer,
    segmentation_loss,
)
from tasks.learn.networks import build_network
from tasks.learn.ood import RIDGE, fit_ood, from_arrays, ood_threshold
from tests.learn import small_fold


def test_weights_make_every_class_count_the_same():
    targets = [0] * 90 + [1] * 10
    weights = class_weights(targets, 2)
    assert weights[0] * 90 == pytest.approx(weights[1] * 10)
    assert sum(weights[t] for t in targets) / 100 == pytest.approx(1)


def test_a_perfect_segmentation_costs_nothing_and_a_wrong_one_more_than_one():
    truth = torch.zeros(2, 4, 4, dtype=torch.int64)
    truth[:, 1:3, 1:3] = 1
    sure = nn.functional.one_hot(truth, 3).movedim(-1, 1).float() * 40
    assert float(segmentation_loss(sure, truth)) < 1e-3
    assert float(segmentation_loss(-sure, truth)) > 1


def test_one_cycle_rises_then_falls_to_nothing():
    rates = [learning_rate("one_cycle", 1.0, p) for p in np.linspace(0, 0.999, 200)]
    assert rates[0] == pytest.approx(1 / WARM_UP_FROM)
    assert np.argmax(rates) == pytest.approx(WARM_UP * 200, abs=2)
    assert rates[-1] < 1e-3


@pytest.mark.parametrize("schedule", ["cosine", "poly"])
def test_other_schedules_only_fall(schedule):
    rates = [learning_rate(schedule, 0.1, p) for p in np.linspace(0, 0.999, 50)]
    assert rates[0] == pytest.approx(0.1)
    assert all(np.diff(rates) < 0)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_an_optimizer_put_back_takes_the_same_next_step(name, tmp_path):
    def network():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))

    def step(net, optimizer):
        optimizer.zero_grad()
        net(torch.ones(5, 3)).square().sum().backward()
        optimizer.step()

    a = network()
    first = make_optimizer(a, name, 1e-2, 0.1)
    step(a, first)
    write_tensors(tmp_path / "s", {**a.state_dict(), **{
        f"o.{k}": t for k, t in optimizer_tensors(first).items()}}, {"epoch": 1})  # fmt: skip
    tensors, record = read_tensors(tmp_path / "s")
    assert record == {"epoch": 1}
    b = network()
    second = make_optimizer(b, name, 1e-2, 0.1)
    restore_network(b, {k: t for k, t in tensors.items() if not k.startswith("o.")})
    restore_optimizer(second, {k[2:]: t for k, t in tensors.items() if k.startswith("o.")})
    step(a, first)
    step(b, second)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_norms_and_biases_do_not_decay():
    network = build_network(small_fold.classifier_plan())
    decayed, kept = make_optimizer(network, "adamw", 1e-3, 0.1).param_groups
    assert decayed["weight_decay"] == 0.1
    assert kept["weight_decay"] == 0
    assert all(p.ndim == 1 for p in kept["params"])
    given = [p for group in (decayed, kept) for p in group["params"]]
    assert {id(p) for p in given} == {id(p) for p in network.parameters() if p.requires_grad}
    assert len(given) == len(list(network.parameters()))


def test_a_checkpoint_is_no_pickle_and_leaves_nothing_beside_it(tmp_path):
    write_tensors(tmp_path / "a" / "s", {"w": torch.ones(2)})
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["s"]
    with pytest.raises(ValueError, match=r"opcode|STOP|pickle"):
        list(pickletools.genops((tmp_path / "a" / "s").read_bytes()))


def test_weights_of_another_network_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        restore_network(nn.Linear(2, 2), {"weight": torch.ones(3, 2)})


def test_the_repeatable_block_leaves_the_settings_as_found():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    with repeatable(torch.device("cpu")):
        assert torch.are_deterministic_algorithms_enabled()
        torch.manual_seed(9)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.rand(1), expected)


def test_the_cpu_computes_in_single_precision():
    device = pick_device("cpu")
    with mixed_precision(device):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    assert device_name(["cpu"]).startswith("cpu")
    assert device_name(["cpu", "cpu"]).startswith("2 x cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there_is_refused():
    assert pick_device().type == "cpu"
    with pytest.raises(ValueError, match="use cpu"):
        pick_device("cuda")


def test_distances_are_one_for_kin_and_large_for_strangers():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(20, 20))
    train = rng.normal(size=(400, 20)) @ mixing
    model = fit_ood(train)
    kin = model.score(rng.normal(size=(400, 20)) @ mixing)
    assert 0.9 < kin.mean() < 1.2
    limit = ood_threshold(kin)
    assert np.mean(kin > limit) == pytest.approx(0.01, abs=0.005)
    # Each feature within its usual range, but not together as they were in training.
    strangers = rng.normal(size=(400, 20)) * train.std(0)
    assert np.mean(model.score(strangers) > limit) > 0.9
    np.testing.assert_array_equal(from_arrays(model.arrays()).score(kin[:, None] * train),
                                  model.score(kin[:, None] * train))  # fmt: skip


def test_the_distance_is_that_to_the_fifth_nearest_training_case():
    rng = np.random.default_rng(1)
    train = rng.normal(size=(60, 3))
    model, asked = fit_ood(train), rng.normal(size=(7, 3))
    _, axes = np.linalg.eigh(np.corrcoef(train.T))
    whitened = [(x - train.mean(0)) / train.std(0) @ axes for x in (train, asked)]
    size = np.sqrt(whitened[0].var(0) + RIDGE)
    apart = np.linalg.norm((whitened[1] / size)[:, None] - (whitened[0] / size)[None], axis=2)
    own = np.linalg.norm((whitened[0] / size)[:, None] - (whitened[0] / size)[None], axis=2)
    expected = np.sort(apart, 1)[:, 4] / np.median(np.sort(own, 1)[:, 5])
    np.testing.assert_allclose(model.score(asked), expected, rtol=1e-6)


def test_a_case_between_two_clouds_is_a_stranger():
    """Their common mean is the likeliest place of all for one covariance."""
    rng = np.random.default_rng(2)
    side = np.repeat([-1.0, 1.0], 100)[:, None] * 6
    train = np.concatenate([side, np.zeros((200, 3))], axis=1) + 0.3 * rng.normal(size=(200, 4))
    between, beside = fit_ood(train).score(np.array([[0.0, 0, 0, 0], [6.0, 0, 0, 0]]))
    assert between > 2 * beside


def test_a_distance_of_format_1_is_still_read():
    arrays = {"mean": np.zeros(2), "spread": np.ones(2), "whiten": np.eye(2)}
    old = from_arrays(arrays)
    np.testing.assert_allclose(old.score(np.array([[3.0, 4.0]])), 5 / np.sqrt(2))
    assert old.arrays().keys() == arrays.keys()


def test_a_silent_feature_does_not_make_every_case_a_stranger():
    rng = np.random.default_rng(0)
    train = rng.normal(size=(100, 5))
    train[:, 4] = 0
    score = fit_ood(train).score(train)
    assert np.isfinite(score).all()
    new = train.copy()
    new[:, 4] = 1e-3
    assert np.abs(fit_ood(train).score(new) - score).max() < 0.2


def test_too_few_cases_have_no_distribution():
    assert fit_ood(np.zeros((3, 4))) is None
    assert fit_ood(None) is None
