"""A detector's levels and anchors follow from the boxes, and can be said instead."""

import math

import numpy as np
import pytest
from pydantic import ValidationError

from tasks.learn.augment import PRESETS
from tasks.learn.detector_plan import fit_anchors
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.plan import NetworkPlan, plan_network
from tasks.learn.planned import plan_in_words, plan_params


def plan(network="retinanet3d", shape=(128, 192, 192), sizes=((5.0, 8.0, 8.0),), **fields):
    return plan_network(
        NetworkCandidate(name="finder", network=network, **fields),
        task="detection", shape=shape, n_classes=1, spacing=(1.25, 0.7, 0.7), n_cases=100,
        box_sizes=sizes,
    )  # fmt: skip


def test_nodules_get_the_step_of_the_luna16_recipe():
    planned = plan()
    finest = planned.detector.levels[0]
    assert [math.prod(s[a] for s in planned.strides[: finest + 1]) for a in range(3)] == [4, 4, 4]
    assert planned.detector.anchors == ((5.0, 8.0, 8.0),)
    assert all(n % d == 0 for n, d in zip(planned.patch, planned.divisor, strict=True))
    assert planned.augment == PRESETS["detection"]
    assert planned.monitor == "ap"


def test_small_boxes_get_a_finer_map_than_large_ones():
    finest = [plan(sizes=[(s, s, s)]).detector.levels[0] for s in (3.2, 6.4, 13.0, 60.0)]
    assert finest == [0, 1, 2, 2]


def test_anchors_stand_for_boxes_of_all_sizes():
    rng = np.random.default_rng(0)
    sizes = 2.0 ** rng.uniform(3, 5, (300, 1)) * np.array([1.0, 1.0, 2.0]) ** rng.uniform(
        0.8, 1.2, (300, 3)
    )
    anchors = fit_anchors(sizes, 3)
    every = np.array([np.array(a) * 2**n for a in anchors for n in range(3)])
    shared = np.minimum(sizes[:, None], every[None]).prod(2)
    best = (shared / (sizes.prod(1)[:, None] + every.prod(1)[None] - shared)).max(1)
    assert len(anchors) == 3
    assert np.median(best) > 0.6
    assert best.min() > 0.35
    assert anchors == fit_anchors(sizes, 3)


def test_a_picture_is_planned_whole_and_its_anchors_are_one_slice_thick():
    planned = plan("maskrcnn", shape=(1, 300, 400), sizes=[(1, 20, 60), (1, 60, 20)])
    assert planned.patch == (1, 320, 416)
    assert {a[0] for a in planned.detector.anchors} == {1.0}
    assert planned.augment == PRESETS["detection2d"]


def test_anchors_may_be_said_and_are_told():
    planned = plan(anchors=((4, 6, 6), (8, 12, 12)), sizes=())
    assert planned.detector.anchors == ((4, 6, 6), (8, 12, 12))
    assert "anchors 4x6x6 8x12x12" in plan_in_words(planned)
    assert plan_params(planned)["plan/anchors"] == "4x6x6 8x12x12"
    assert NetworkPlan.model_validate_json(planned.model_dump_json()) == planned


@pytest.mark.parametrize(
    ("network", "shape", "backbone", "strides"),
    [
        ("retinanet2d", (1, 256, 256), "resnet18", 32),
        ("retinanet3d", (64, 128, 128), "resnet50", 32),
    ],
)
def test_a_resnet_has_its_own_strides(network, shape, backbone, strides):
    planned = plan(network, shape, [(1 if shape[0] == 1 else 4, 8, 8)], backbone=backbone)
    assert planned.divisor[1:] == (strides, strides)
    assert planned.detector.levels[0] == 1
    assert planned.patch[1] % strides == 0


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"sizes": ()}, "no box to be found"),
        ({"network": "retinanet2d"}, "do not fit"),
        ({"network": "unet3d"}, "task detection and unet3d do not fit"),
        ({"monitor": "dice"}, "use loss or ap"),
    ],
)
def test_what_does_not_fit_is_refused(fields, says):
    with pytest.raises(ValueError, match=says):
        plan(**fields)


def test_settings_of_detectors_are_refused_elsewhere():
    with pytest.raises(ValidationError, match="dropout: maskrcnn has none"):
        NetworkCandidate(name="a", network="maskrcnn", dropout=0.2)
    with pytest.raises(ValidationError, match="finds no boxes"):
        NetworkCandidate(name="a", network="unet3d", anchors=((1, 2, 3),))
    with pytest.raises(ValidationError, match="fixed widths"):
        NetworkCandidate(name="a", network="maskrcnn", backbone="resnet18", features=(8,))


def test_other_networks_keep_their_words():
    """Hashes of plans and candidates must not change by what they know nothing of."""
    candidate = NetworkCandidate(name="a")
    assert not {"backbone", "anchors", "max_findings"} & candidate.model_dump().keys()
    planned = plan_network(candidate, task="classification", shape=(1, 28, 28), n_classes=2)
    assert "detector" not in planned.model_dump()
    assert "quarter_turns" not in planned.model_dump()["augment"]
