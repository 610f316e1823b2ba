"""Maps against what is known of the network: by hand, by sum, and by where the finding is."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tasks.evaluate.saliency import SIMILAR, summary
from tasks.imaging.recipe import fit
from tasks.imaging.steps import parse_steps
from tasks.learn.explain import (
    METHODS,
    STAGES,
    _grad_cam,
    _integrated_gradients,
    _occlusion,
    explain,
    last_maps,
    log_odds,
    ruined,
)
from tasks.learn.looking import look_at
from tasks.learn.model import Model
from tasks.learn.model_file import ModelSpec
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.networks import build_network
from tasks.learn.plan import plan_network
from tests.learn.small_fold import SIZE, bright_square_cases, classifier_plan
from tests.learn.test_numbers import a_plan

CPU = torch.device("cpu")


class Linear(nn.Module):
    """Logits are sums over the image with known weights."""

    def __init__(self, weight):
        super().__init__()
        self.layer = nn.Linear(weight.numel(), 2, bias=False)
        self.layer.weight = nn.Parameter(torch.stack([torch.zeros(weight.numel()),
                                                      weight.flatten()]))  # fmt: skip

    def forward(self, x):
        return self.layer(x.flatten(1))


class OneConvolution(nn.Module):
    """Two maps, their means, and a linear layer: Grad-CAM can be worked out by hand."""

    def __init__(self):
        super().__init__()
        self.maps = nn.Conv2d(1, 2, 3, padding=1)
        self.head = nn.Linear(2, 2)

    def forward(self, x):
        return self.head(self.maps(x).mean((2, 3)))


@pytest.fixture(scope="module")
def trained():
    """A small CNN that finds the bright square, and pictures it has not seen with their masks."""
    source, cases = bright_square_cases(160)
    plan = classifier_plan()
    torch.manual_seed(0)
    network = build_network(plan)
    x = torch.from_numpy(np.stack([source.images[c.case_id] for c in cases]))
    y = torch.tensor([c.target for c in cases])
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for step in range(60):
        chosen = torch.randperm(160, generator=torch.Generator().manual_seed(step))[:40]
        optimiser.zero_grad()
        cross_entropy(network(x[chosen]), y[chosen]).backward()
        optimiser.step()
    rng = np.random.default_rng(9)
    seen = []
    for _ in range(6):
        image, mask = rng.normal(size=(1, SIZE, SIZE)), np.zeros((1, SIZE, SIZE), bool)
        top, left = rng.integers(1, SIZE - 9, 2)
        mask[0, top : top + 8, left : left + 8] = True
        seen.append(((image + 2.5 * mask).astype(np.float32), mask))
    return network.eval(), plan, seen


def model_of(network, plan):
    spec = ModelSpec(
        name="it", candidate="it", task="classification", kind="network", classes=("no", "yes"),
        positive="yes", plan=plan, recipe=fit(parse_steps([{"step": "normalise"}]), None).to_dict(),
    )  # fmt: skip
    return Model(spec, plan, [network], (), CPU)


def test_integrated_gradients_of_a_linear_network_are_weight_times_distance_from_air():
    weight, x = torch.randn(6, 5), torch.randn(1, 1, 6, 5)
    found = _integrated_gradients(Linear(weight), x, 1)
    torch.testing.assert_close(found[0, 0], (weight * (x - x.min()))[0, 0], atol=1e-4, rtol=1e-3)


def test_integrated_gradients_add_up_to_the_difference_in_log_odds(trained):
    network, _, seen = trained
    for image, _ in seen:
        x = torch.from_numpy(image)[None]
        odds = log_odds(network, 1)
        gap = float((odds(x) - odds(torch.full_like(x, float(x.min())))).detach())
        assert float(_integrated_gradients(network, x, 1).sum()) == pytest.approx(
            gap, abs=0.05 * abs(gap) + 0.05
        )


def test_occlusion_shows_the_only_place_that_counts():
    weight = torch.zeros(32, 32)
    weight[8:12, 20:24] = 1
    x = torch.zeros(1, 1, 32, 32)
    x[..., 8:12, 20:24] = 1
    found = _occlusion(Linear(weight), x, 1)[0, 0]
    assert tuple(np.unravel_index(int(found.argmax()), found.shape)) == (8, 20)
    assert float(found[:4].abs().max()) == 0
    # Windows of 4 x 4 two apart: four cover this pixel and hide 16, 8, 8 and 4 pixels that count,
    # which become the mean of the image, 16 / 1024.
    assert float(found.max()) == pytest.approx(9 * (1 - 16 / 1024), rel=1e-4)


def test_grad_cam_is_the_map_of_weights_by_hand():
    torch.manual_seed(3)
    network, x = OneConvolution().eval(), torch.randn(1, 1, 9, 7)
    assert last_maps(network, x) is network.maps
    with torch.no_grad():
        gap = network.head.weight[1] - network.head.weight[0]
        by_hand = torch.einsum("c,cyx->yx", gap, network.maps(x)[0]).relu() / (9 * 7)
    torch.testing.assert_close(_grad_cam(network, x, 1)[0, 0].detach(), by_hand)


def test_the_last_maps_with_places_are_those_before_the_pooling(trained):
    network, _, seen = trained
    assert last_maps(network, torch.from_numpy(seen[0][0])[None]) is network.blocks[-1]
    with pytest.raises(ValueError, match="no maps"):
        last_maps(Linear(torch.ones(4, 4)), torch.ones(1, 1, 4, 4))


def test_the_maps_of_several_networks_are_their_mean(trained):
    network, plan, seen = trained
    image = seen[0][0]
    torch.manual_seed(5)
    other = build_network(plan).eval()
    both, one, two = (
        explain("occlusion", some, plan, image, 1, CPU)
        for some in ([network, other], [network], [other])
    )
    np.testing.assert_allclose(both, (one + two) / 2, atol=1e-6)
    assert both.shape == image.shape


def test_ruining_goes_from_the_output_inwards_and_leaves_the_model_alone(trained):
    network, _, seen = trained
    before = {name: p.clone() for name, p in network.named_parameters()}
    x = torch.from_numpy(seen[0][0])[None]
    changed = []
    for wrong in ruined(network, x, 0):
        parameters = dict(wrong.named_parameters())
        kept = {n for n, p in before.items() if torch.equal(p, parameters[n])}
        changed.append(before.keys() - kept)
    assert len(changed) == STAGES
    assert "head.weight" in changed[0]
    assert not any(name.startswith("blocks.0") for name in changed[0])
    assert all(first <= then for first, then in itertools.pairwise(changed))
    assert any(name.startswith("blocks.0") for name in changed[-1])
    assert all(torch.equal(p, before[name]) for name, p in network.named_parameters())


def test_a_trained_model_looks_at_the_square_and_a_ruined_one_does_not(trained):
    network, plan, seen = trained
    model = model_of(network, plan)
    looked = [
        one
        for number, (image, mask) in enumerate(seen)
        for one in look_at(model, f"c{number}", image, {"outline": mask}).looked
    ]
    rows = {row["method"]: row for row in summary(looked, replicates=200)}
    assert set(rows) == {method.replace("_", " ") for method in METHODS}
    for name in ("grad cam", "occlusion"):
        assert rows[name]["points into outline"].value >= 5 / 6
    for row in rows.values():
        assert row["energy in outline"].value > 2 * row["area of outline"].value
    # Any network's maps are bright where an image is: Grad-CAM of one this small stays like it.
    for name in ("integrated gradients", "occlusion"):
        assert abs(rows[name]["rank correlation with a ruined model"].value) < SIMILAR
        assert "no" not in rows[name]["shows the model"]


def test_a_number_is_explained_by_what_raises_it_and_not_by_its_scale(trained):
    """Of one output the log-odds against nothing would be infinite; the number itself adds up."""
    weight = torch.zeros(6, 8)
    weight[2:4, 5:7], weight[0, 0] = 1.0, -1.0
    network = Linear(weight)
    network.layer.weight = nn.Parameter(weight.flatten()[None])
    image = np.zeros((1, 6, 8), np.float32)
    image[0, 2:4, 5:7], image[0, 0, 0] = 3.0, 2.0
    x = torch.from_numpy(image)[None]
    raw = _integrated_gradients(network, x, 0)
    assert float(raw.sum()) == pytest.approx(4 * 3 - 2, abs=1e-3)
    model = model_of(*trained[:2])
    spec = model.spec.model_copy(
        update={"task": "regression", "classes": ("area",), "positive": None, "unit": "mm2"}
    )
    torch.manual_seed(0)
    plan = a_plan()
    model = Model(spec, plan, [build_network(plan).eval()], (), CPU)
    seen = look_at(model, "c", trained[2][0][0], {})
    assert seen.explained == 0
    assert seen.answer == pytest.approx(model.predict(trained[2][0][0]))
    assert {one.method for one in seen.looked} == set(METHODS)
    assert all(np.isfinite(one).all() and np.abs(one).max() > 0.1 for one in seen.maps.values())


def test_a_volume_is_explained_on_its_own_grid():
    candidate = NetworkCandidate(name="v", network="small_cnn", features=(4, 8))
    plan = plan_network(candidate, task="classification", shape=(12, 16, 20), n_classes=3)
    torch.manual_seed(0)
    network = build_network(plan).eval()
    image = np.random.default_rng(0).normal(size=(12, 16, 20)).astype(np.float32)
    for method in METHODS:
        found = explain(method, [network], plan, image, 2, CPU)
        assert found.shape == image.shape
        assert np.abs(found).max() <= 1 + 1e-6


def test_channels_are_explained_together_on_one_grid():
    """Where alone the second channel speaks, its place is shown; a missing third says nothing."""
    weight = torch.zeros(3, 6, 8)
    weight[1, 2:4, 5:7], weight[2] = 1.0, 1.0
    plan = classifier_plan().model_copy(update={"in_channels": 3})
    image = np.random.default_rng(0).normal(size=(3, 1, 6, 8)).astype(np.float32)
    image[1] = 0
    image[1, 0, 2:4, 5:7] = 3.0
    image[2] = 0  # as a missing sequence is
    network = Linear(weight).eval()
    found = explain("integrated_gradients", [network], plan, image, 1, CPU)
    assert found.shape == (1, 6, 8)
    inside = np.zeros(found.shape, bool)
    inside[0, 2:4, 5:7] = True
    assert found[inside].min() > 0.99
    np.testing.assert_allclose(found[~inside], 0, atol=1e-6)
    hidden = explain("occlusion", [network], plan, image, 1, CPU)
    assert hidden.shape == found.shape
    assert hidden[inside].mean() > 2 * np.abs(hidden[~inside]).mean()
