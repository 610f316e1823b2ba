"""MONAI's U-Net ends in plain convolutions, begins by finding little, and lies as it is fastest."""

import pytest
import torch
from torch import nn

from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.networks import RARE, build_network, laid_out
from tasks.learn.plan import NetworkPlan, plan_network

CPU = torch.device("cpu")
REGIONS = ((1, 2, 3), (1, 3), (3,))


def _plan(network="unet3d", regions=(), **fields):
    candidate = NetworkCandidate(name="n", network=network, features=(4, 8, 8), batch=2, **fields)
    shape = (1, 32, 32) if network.endswith("2d") else (16, 16, 16)
    return plan_network(
        candidate, task="segmentation", shape=shape, n_classes=3, regions=regions, in_channels=2
    )


def _built(plan):
    torch.manual_seed(3)
    return build_network(plan).eval()


def _answers(network, plan, stronger=1.0):
    """Return the maps of an image when the last maps but one are made so many times stronger."""
    with torch.no_grad():
        last = network.unet.model[2][0].conv
        last.weight *= stronger
        last.bias *= stronger
        torch.manual_seed(4)
        return network(torch.randn(1, 2, *plan.patch)[:, :, *([0] if plan.dims == 2 else [])])


@pytest.mark.parametrize("network", ["unet2d", "unet3d"])
def test_maps_are_as_strong_as_what_was_seen(network):
    plan = _plan(network)
    assert plan.plain_head
    spread = [_answers(_built(plan), plan, s).std() for s in (1.0, 0.1)]
    assert spread[1] < 0.2 * spread[0]
    # Normalised, as the networks of before have them, they are the same whatever was seen.
    before = plan.model_copy(update={"plain_head": False})
    one, weak = (_answers(_built(before), before, s) for s in (1.0, 0.1))
    torch.testing.assert_close(one, weak, rtol=0.05, atol=0.05)


def test_a_plan_of_before_builds_the_network_of_before():
    said = _plan().model_dump(mode="json")
    assert said.pop("plain_head")
    old = NetworkPlan.model_validate(said)
    assert "plain_head" not in old.model_dump(mode="json")
    lost = build_network(old).state_dict().keys() - build_network(_plan()).state_dict().keys()
    assert lost == {"unet.model.2.0.adn.A.weight"}


def test_of_regions_nothing_is_found_at_first():
    plan = _plan(regions=REGIONS)
    probability = torch.sigmoid(_answers(_built(plan), plan))
    assert float(probability.mean()) < 10 * RARE
    one_of_three = _answers(_built(_plan()), plan).softmax(1).mean()
    assert float(one_of_three) == pytest.approx(1 / 3)


@pytest.mark.parametrize("network", ["unet2d", "unet3d"])
def test_a_network_laid_out_for_the_processor_says_the_same(network):
    plan = _plan(network)
    expected, made = _answers(_built(plan), plan), laid_out(_built(plan), plan, CPU)
    weights = [m.weight for m in made.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    last = torch.channels_last if plan.dims == 2 else torch.channels_last_3d
    assert all(w.is_contiguous(memory_format=last) for w in weights)
    torch.testing.assert_close(_answers(made, plan), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("channels", "last"), [(8, False), (16, True)])
def test_planes_through_a_small_shortcut_stay_as_they_are(channels, last):
    # Channels last, the gradient of the shortcut tears the heap on AVX-512 with fewer than 16.
    shortcut = nn.Conv2d(channels, 24, 1, stride=2)
    network = nn.Sequential(nn.Conv2d(2, channels, 3), nn.ModuleList([shortcut]))
    made = laid_out(network, _plan("unet2d"), CPU)
    assert made[0].weight.is_contiguous(memory_format=torch.channels_last) is last
