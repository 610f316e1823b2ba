"""What a detector of volumes learns its classes from: all anchors, or the hardest alone."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tasks.learn.box_targets import Target
from tasks.learn.detectors_3d import SAMPLER
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.networks import build_network
from tasks.learn.plan import NetworkPlan
from tasks.learn.planned import plan_in_words, plan_params
from tests.learn.drawn_boxes import VOLUME, detector_plan

pytestmark = pytest.mark.usefixtures("one_thread")

BOX = [8.0, 10.0, 10.0, 17.0, 19.0, 19.0]
AWAY = [8.0, 20.0, 20.0, 17.0, 29.0, 29.0]


def _target(box=(), ignored=()):
    boxes, away = (torch.tensor(b, dtype=torch.float32).reshape(-1, 6) for b in (box, ignored))
    seen = torch.zeros((len(boxes), *VOLUME), dtype=torch.uint8)
    return Target(boxes, torch.zeros(len(boxes), dtype=torch.int64), away, seen)


def _network(**fields):
    torch.manual_seed(0)
    return build_network(detector_plan("retinanet3d", **fields)).train()


def _learnt_from(network, *targets):
    """Return the loss of classes and how strongly each anchor (n, a) of its patch moves it."""
    maps = []
    hook = network.detector.network.classification_head.register_forward_hook(
        lambda _head, _x, out: maps.extend(out)
    )
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(len(targets), 1, *VOLUME))).float()
    loss = network.losses(x, targets)["classification"]
    hook.remove()
    moves = torch.autograd.grad(loss, maps, allow_unused=True, materialize_grads=True)
    return float(loss.detach()), torch.cat([one.flatten(1) for one in moves], 1)


def test_every_anchor_is_learnt_from_but_those_on_what_counts_for_nothing():
    network = _network()
    _, moves = _learnt_from(network, _target(BOX))
    assert (moves != 0).all()
    assert 0 < (moves < 0).sum() < 20, "the right ones rise, all others fall"
    _, moves = _learnt_from(network, _target(BOX, AWAY))
    assert 0 < (moves == 0).sum() < 0.2 * moves.numel()


def test_hard_negatives_alone_are_learnt_from_where_it_is_said():
    _, moves = _learnt_from(_network(hard_negatives=True), _target(BOX))
    assert 0 < (moves != 0).sum() <= SAMPLER["batch_size_per_image"]


def test_training_begins_with_the_findings_not_with_the_background():
    network = _network()
    with_one, moves = _learnt_from(network, _target(BOX))
    without, _ = _learnt_from(network, _target())
    # Each right anchor begins at 1 %: .25 x .99^2 x ln 100.
    assert with_one == pytest.approx(1.13, abs=0.15)
    assert without < 0.1
    assert -moves[moves < 0].sum() > 5 * moves[moves > 0].sum()


def test_a_patch_without_a_finding_is_weighed_as_its_batch_is():
    network = _network()
    alone, _ = _learnt_from(network, _target(BOX))
    both, moves = _learnt_from(network, _target(BOX), _target())
    assert both == pytest.approx(alone, rel=0.1)
    assert (moves[1] > 0).all()
    assert moves[1].mean() == pytest.approx(float(moves[0][moves[0] > 0].mean()), rel=0.5)


def test_a_plan_of_before_learns_as_it_did_and_answers_the_same():
    new = detector_plan("retinanet3d")
    assert new.model_dump(mode="json")["detector"]["hard_negatives"] is False
    body = new.model_dump(mode="json")
    del body["detector"]["hard_negatives"]
    old = NetworkPlan.model_validate(body)
    assert old.model_dump(mode="json") == body, "its hash must not change"
    first, second = (build_network(plan).eval() for plan in (old, new))
    assert first.detector.fg_bg_sampler is not None
    assert second.detector.fg_bg_sampler is None
    second.load_state_dict(first.state_dict())
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 1, *VOLUME))).float()
    for network in (first, second):
        network.detector.box_selector.score_thresh = 0.0
    (a,), (b,) = first(x), second(x)
    assert len(a.score) > 10
    assert torch.equal(a.box, b.box)
    assert torch.equal(a.score, b.score)


def test_what_is_learnt_from_is_told_and_only_volumes_may_choose():
    assert "focal loss" in plan_in_words(detector_plan("retinanet3d"))
    hard = detector_plan("retinanet3d", hard_negatives=True)
    assert plan_params(hard)["plan/loss"] == "hard negatives"
    assert "hard_negatives" not in hard.model_dump()["detector"]
    assert "plan/loss" not in plan_params(detector_plan("maskrcnn"))
    assert "hard_negatives" not in detector_plan("retinanet2d").model_dump()["detector"]
    with pytest.raises(ValidationError, match="hard_negatives: maskrcnn has none"):
        NetworkCandidate(name="a", network="maskrcnn", hard_negatives=True)
