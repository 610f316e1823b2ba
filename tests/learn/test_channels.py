"""Networks see several channels, lose some while they train, and change none of one series."""

import numpy as np
import pytest
import torch

from tasks.learn.augment import draw_params, parse_augment
from tasks.learn.augment_batch import apply
from tasks.learn.channels import without_missing
from tasks.learn.dataset import ArrayCases
from tasks.learn.infer import classify, features, heatmap, segment
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.networks import build_network
from tasks.learn.plan import plan_network
from tasks.learn.samples import Samples

SHAPE = (1, 16, 16)


def planned(task="classification", network="small_cnn", rate=0.0, droppable=(0, 2), **more):
    candidate = NetworkCandidate(
        name="n", network=network, features=(4, 8), batch=4, modality_dropout=rate, **more
    )
    shape = SHAPE if task == "classification" else (8, 8, 8)
    return plan_network(
        candidate, task=task, shape=shape, n_classes=2, in_channels=3, droppable=droppable
    )


def images(n, shape=SHAPE):
    return np.random.default_rng(n).normal(size=(3, *shape)).astype(np.float32)


def samples_of(rate, missing=(), seed=1):
    held = {"a": images(0), "b": images(1)}
    present = {"a": (True, True, True), "b": tuple(i not in missing for i in range(3))}
    source = ArrayCases(held, channels=present)
    return Samples(planned(rate=rate), source, ["a", "b"], {"a": 0, "b": 1}, seed)


def test_a_batch_holds_every_channel_and_says_which_are_missing():
    batch = samples_of(0.0, missing=(2,)).batch(0, 0, 2)
    assert batch.image.shape == (2, 3, *SHAPE)
    assert sorted(batch.kept.sum(1).tolist()) == [2, 3]


def test_only_channels_that_may_be_missing_are_lost_at_the_rate_that_is_asked_for():
    samples = samples_of(0.3)
    kept = torch.cat([samples.batch(epoch, 0, 4).kept for epoch in range(300)])
    lost = 1 - kept.double().mean(0)
    assert lost[1] == 0
    assert lost[0] == pytest.approx(0.3, abs=0.04)
    assert lost[2] == pytest.approx(0.3, abs=0.04)


def test_the_same_sample_loses_the_same_channels_whenever_it_is_asked_for():
    first, again = (samples_of(0.5).batch(3, 1, 4) for _ in range(2))
    assert torch.equal(first.kept, again.kept)
    assert torch.equal(first.image, again.image)


def test_patches_and_changes_are_those_of_a_training_that_loses_nothing():
    plain, losing = (samples_of(rate).batch(2, 0, 4) for rate in (0.0, 0.9))
    assert plain.params == losing.params
    assert torch.equal(plain.image, losing.image)


def test_a_lost_channel_is_zeros_after_augmentation_and_the_others_are_as_they_were():
    image = torch.ones(1, 3, *SHAPE)
    changed, _ = apply(({"brightness": 0.7},), image)
    out = without_missing(changed, torch.tensor([[True, False, True]]))
    assert not out[:, 1].any()
    assert torch.equal(out[:, [0, 2]], changed[:, [0, 2]])
    assert without_missing(changed, None) is changed


@pytest.mark.parametrize("preset", ["radiograph", "volume"])
def test_each_channel_is_changed_as_it_would_be_alone(preset):
    shape = (6, 12, 12)
    augment = parse_augment(preset)
    rng = np.random.default_rng(0)
    params = tuple(
        {name: value for name, value in draw_params(rng, augment, shape).items()
         if not name.startswith("noise")}
        for _ in range(6)
    )  # fmt: skip
    whole = torch.from_numpy(np.stack([images(n, shape) for n in range(6)]))
    together, _ = apply(params, whole)
    for channel in range(3):
        alone, _ = apply(params, whole[:, channel : channel + 1])
        torch.testing.assert_close(together[:, channel : channel + 1], alone)


def test_classifiers_answer_show_and_are_looked_into_with_channels():
    plan = planned()
    torch.manual_seed(0)
    network = build_network(plan).eval()
    seen = [images(0), images(1)]
    device = torch.device("cpu")
    probability = classify([network], plan, seen, device)
    with torch.inference_mode():
        direct = network(torch.from_numpy(np.stack(seen))[:, :, 0]).softmax(1)
    np.testing.assert_allclose(probability, direct.numpy(), atol=1e-6)
    assert heatmap([network], plan, seen[0], 1, device).shape == SHAPE
    assert features(network, plan, seen, device).shape[0] == 2


@pytest.mark.parametrize(("network", "shape"), [("unet3d", (8, 12, 8)), ("unet2d", (3, 8, 8))])
def test_segmenters_answer_on_the_grid_of_the_image(network, shape):
    plan = planned("segmentation", network)
    torch.manual_seed(0)
    built = build_network(plan).eval()
    maps = segment([built], plan, images(0, shape), torch.device("cpu"))
    assert maps.shape == (2, *shape)
    np.testing.assert_allclose(maps.sum(0), 1, atol=1e-5)
    changed = images(0, shape)
    changed[2] = 0
    assert not np.allclose(maps, segment([built], plan, changed, torch.device("cpu")))


def test_candidates_and_plans_that_know_no_channels_say_what_they_said_before():
    candidate = NetworkCandidate(name="n")
    assert "modality_dropout" not in candidate.model_dump(mode="json")
    plan = plan_network(candidate, task="classification", shape=SHAPE, n_classes=2)
    assert not {"modality_dropout", "droppable"} & plan.model_dump(mode="json").keys()
    assert plan.in_channels == 1
