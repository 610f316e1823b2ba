"""nnU-Net's networks: shapes, supervision at every size, and what the scenario may set."""

import pytest
import torch
from torch import nn

from tasks.learn.loss import segmentation_loss, supervised_loss
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.networks import build_network, to_network
from tasks.learn.plan import plan_network
from tasks.learn.train import train_fold
from tasks.learn.training import Training
from tasks.learn.zoo import NNUNETS
from tests.learn import small_fold

SHAPE, SPACING = (8, 48, 32), (4.0, 1.0, 1.0)


def _plan(network, **fields):
    settings = {"features": (4, 6, 8, 8), "batch": 2} | fields
    candidate = NetworkCandidate(name="n", network=network, **settings)
    return plan_network(candidate, task="segmentation", shape=SHAPE, spacing=SPACING, n_classes=3)


@pytest.mark.parametrize("network", NNUNETS)
def test_a_network_answers_at_full_size_and_is_supervised_at_smaller_ones(network):
    plan = _plan(network)
    made = build_network(plan)
    x = to_network(torch.zeros(2, 1, *plan.patch), plan.dims)
    sizes = [tuple(one.shape[2:]) for one in made(x)]
    assert sizes[0] == tuple(x.shape[2:])
    # One head a stage up but the lowest.
    assert len(sizes) == len(plan.strides) - 1
    assert sizes[1] == tuple(
        n // s for n, s in zip(sizes[0], plan.strides[0][-plan.dims :], strict=True)
    )
    assert made.eval()(x).shape == (2, 3, *x.shape[2:])
    assert made.pooled_features(x).shape == (2, plan.channels[-1])


def test_without_supervision_there_is_one_answer():
    plan = _plan("nnunet3d", deep_supervision=False)
    made = build_network(plan)
    assert isinstance(made(torch.zeros(2, 1, *plan.patch)), torch.Tensor)


def test_kernels_follow_the_anisotropy():
    kernels = [m.kernel_size for m in build_network(_plan("nnunet3d")).encoder[0].modules()
               if isinstance(m, nn.Conv3d)]  # fmt: skip
    assert kernels == [(1, 3, 3), (1, 3, 3)]


def test_a_residual_block_begins_as_its_side_path():
    network = build_network(_plan("resenc3d")).eval()
    block = network.encoder[1][1]
    x = torch.rand(1, 6, 8, 12, 8)
    torch.testing.assert_close(block(x), nn.functional.leaky_relu(x, 0.01))


def test_the_loss_weighs_each_size_half_as_much_as_the_one_above():
    torch.manual_seed(0)
    truth = torch.randint(0, 3, (2, 8, 8))
    maps = [torch.randn(2, 3, n, n) for n in (8, 4, 2)]
    # Every second voxel, and every fourth: the nearest to the middle of each larger one.
    each = [segmentation_loss(maps[0], truth), segmentation_loss(maps[1], truth[:, 1::2, 1::2]),
            segmentation_loss(maps[2], truth[:, 2::4, 2::4])]  # fmt: skip
    expected = (4 * each[0] + 2 * each[1] + each[2]) / 7
    torch.testing.assert_close(supervised_loss(maps, truth), expected)


def test_batches_summed_up_give_the_gradient_of_one_large_batch(tmp_path):
    source, cases = small_fold.ball_cases(8, (8, 16, 16))
    ids = [case.case_id for case in cases]
    # Without normalisation over the batch, and with the voxels of each weighed alike.
    large, small = (
        _ball_plan(batch=b, accumulate=a, steps_per_epoch=s) for b, a, s in ((4, 1, 1), (2, 2, 2))
    )
    fold = _fold(large, source, ids)
    from tasks.learn.samples import Samples

    whole = Samples(large, source, ids[:4], {}, 0).batch(0, 0, 4)
    parts = [Samples(small, source, ids[:4], {}, 0).batch(0, step, 2) for step in range(2)]
    assert torch.equal(whole.image, torch.cat([part.image for part in parts]))

    def cross_entropy(logits, target, regions):
        assert not regions
        return nn.functional.cross_entropy(logits, target)

    weights = []
    for plan, batches in ((large, [whole]), (small, parts)):
        training = Training(_fold(plan, source, ids), torch.device("cpu"), plan.batch)
        for number, batch in enumerate(batches):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("tasks.learn.training.supervised_loss", cross_entropy)
                training._step(batch, 0.1, (number, len(batches)))
        weights.append(torch.cat([p.detach().flatten() for p in training.network.parameters()]))
    before = Training(fold, torch.device("cpu"), 4).network.parameters()
    torch.testing.assert_close(*weights, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(weights[0], torch.cat([p.detach().flatten() for p in before]))


def _ball_plan(network="nnunet3d", **fields):
    settings = {
        "features": (4, 8), "deep_supervision": False, "augment": "none", "foreground": 0.0,
        "optimizer": "sgd", "lr": 0.1, "patch": (8, 16, 16),
    } | fields  # fmt: skip
    candidate = NetworkCandidate(name="n", network=network, **settings)
    return plan_network(candidate, task="segmentation", shape=(8, 16, 16), n_classes=2)


def _fold(plan, source, ids):
    from tasks.learn.fold import Fold

    return Fold(plan, source, {}, tuple(ids[:4]), tuple(ids[4:]), 0)


@pytest.mark.parametrize("network", ["nnunet3d", "resenc2d"])
def test_a_network_learns_to_outline_a_ball(network, tmp_path):
    torch.set_num_threads(1)
    source, cases = small_fold.ball_cases(12, (8, 20, 16))
    ids = [case.case_id for case in cases]
    candidate = NetworkCandidate(
        name="n", network=network, features=(6, 12, 12), batch=4, epochs=5, steps_per_epoch=6,
        optimizer="adamw", schedule="one_cycle", lr=1e-2, augment={"flip": ["x"]},
    )  # fmt: skip
    plan = plan_network(candidate, task="segmentation", shape=(8, 20, 16), n_classes=2, n_cases=9)
    result = train_fold(plan, source, cases, ids[:9], ids[9:], tmp_path, 0, device="cpu")
    assert result.val_dice.mean() > 0.8


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ("sgd", "poly", 1e-2, 3e-5, 250, 100, True)),
        (
            {"optimizer": "adamw", "schedule": "cosine", "lr": 1e-3, "weight_decay": 0.0,
             "steps_per_epoch": 5, "epochs": 7},
            ("adamw", "cosine", 1e-3, 0.0, 5, 7, True),
        ),
    ],
)  # fmt: skip
def test_nnunet_s_settings_are_taken_unless_the_scenario_has_others(fields, expected):
    plan = _plan("nnunet3d", **fields)
    found = (plan.optimizer, plan.schedule, plan.lr, plan.weight_decay, plan.steps_per_epoch,
             plan.epochs, plan.augment.nnunet)  # fmt: skip
    assert found == expected


def test_other_networks_keep_their_settings():
    plan = plan_network(
        NetworkCandidate(name="u", network="unet3d"), task="segmentation", shape=SHAPE, n_classes=2
    )
    assert (plan.optimizer, plan.schedule, plan.weight_decay) == ("adamw", "one_cycle", 0.01)
    assert plan.steps_per_epoch is None
