"""A small network of volumes sees how strong an image is, which by itself none shows."""

import numpy as np
import pytest

from tasks.learn.dataset import ArrayCases, TrainingCase
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.networks import build_network
from tasks.learn.plan import NetworkPlan, plan_network
from tasks.learn.train import train_fold

SHAPE = (12, 12, 12)


def planned(network="small_cnn", channels=1, **fields):
    settings = {"features": (8, 16), "batch": 8, "epochs": 6, "lr": 5e-3}
    candidate = NetworkCandidate(name="n", network=network, **settings | fields)
    return plan_network(
        candidate, task="classification", shape=SHAPE, n_classes=2, in_channels=channels
    )


def norms(plan):
    return {type(m).__name__ for m in build_network(plan).modules() if "Norm" in type(m).__name__}


@pytest.mark.parametrize(
    ("plan", "kind"),
    [
        (planned(), "BatchNorm3d"),
        (planned(batch=4), "GroupNorm"),
        (planned("fused_cnn", 2), "GroupNorm"),
        (planned(slices="max"), "BatchNorm2d"),
    ],
    ids=["volumes", "few at a time", "channels may lack", "by slices"],
)
def test_batch_statistics_are_taken_where_there_is_a_batch(plan, kind):
    assert norms(plan) == {kind}


def test_a_plan_of_before_builds_the_network_of_before():
    said = planned().model_dump(mode="json")
    assert said.pop("batch_norm")
    old = NetworkPlan.model_validate(said)
    assert "batch_norm" not in old.model_dump(mode="json")
    assert norms(old) == {"GroupNorm"}


def blobs(n: int):
    """Return noise whose strength alone says what it is: every second image is twice as strong."""
    rng = np.random.default_rng(5)
    images, cases = {}, []
    for i in range(n):
        images[f"c{i}"] = (1 + i % 2) * rng.normal(size=SHAPE).astype(np.float32)
        cases.append(TrainingCase(f"c{i}", f"p{i}", "", target=i % 2))
    return ArrayCases(images), cases


@pytest.mark.usefixtures("one_thread")
def test_strong_is_told_from_weak(tmp_path):
    source, cases = blobs(96)
    ids = [case.case_id for case in cases]
    plan, areas = planned(augment={"flip": ["z", "y", "x"]}), {}
    for name, one in (("now", plan), ("before", plan.model_copy(update={"batch_norm": False}))):
        result = train_fold(one, source, cases, ids[:64], ids[64:], tmp_path / name, 1)
        areas[name] = result.history[-1]["val_auroc"]
    assert areas["now"] > 0.95
    # Each image normalised by itself looks the same however strong it is.
    assert areas["before"] < 0.8
