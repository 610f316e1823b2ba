"""A branch a channel: what is missing has no part, and is learned to be done without."""

import numpy as np
import pytest
import torch

from tasks.evaluate.metrics import auroc
from tasks.learn.dataset import ArrayCases, TrainingCase
from tasks.learn.fold import read_weights
from tasks.learn.infer import classify, heatmap
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.networks import build_network
from tasks.learn.plan import plan_network
from tasks.learn.train import train_fold

SIZE = 16
CLOSE, FALLEN = 0.1, 0.25
"""Of an AUROC: how near it stays with modality dropout, and how far it falls without."""


def plan_of(rate, **more):
    candidate = NetworkCandidate(
        name="n", network="fused_cnn", features=(8, 16), batch=8, epochs=6, lr=1e-2, dropout=0.0,
        augment="none", modality_dropout=rate, **more,
    )  # fmt: skip
    return plan_network(
        candidate, task="classification", shape=(1, SIZE, SIZE), n_classes=2, in_channels=2,
        droppable=(0,),
    )  # fmt: skip


def two_sequences(n, seed=0):
    """Return cases in which both channels show the class, the first one so well that the second
    is not needed."""
    rng = np.random.default_rng(seed)
    images, cases = {}, []
    for i in range(n):
        image = rng.normal(size=(2, 1, SIZE, SIZE)).astype(np.float32)
        image[0] *= 0.2
        if i % 2:
            y, x = rng.integers(1, SIZE - 8, 2)
            image[0, 0, y : y + 7, x : x + 7] += 4.0
            image[1, 0, y : y + 7, x : x + 7] += 0.6
        case_id = f"{seed:016x}{i:016x}"
        images[case_id] = image
        cases.append(TrainingCase(case_id, f"patient{i}", "part", target=i % 2))
    return ArrayCases(images), cases


@pytest.fixture(scope="module")
def areas(tmp_path_factory):
    """AUROC with all channels and without the first, of a training with and one without dropout."""
    source, cases = two_sequences(120)
    ids = [case.case_id for case in cases]
    truth = np.array([case.target for case in cases[80:]])
    whole = [source.image(c) for c in ids[80:]]
    lost = [np.concatenate([np.zeros_like(x[:1]), x[1:]]) for x in whole]
    found = {}
    for rate in (0.0, 0.5):
        plan = plan_of(rate)
        out = tmp_path_factory.mktemp("fold")
        done = train_fold(plan, source, cases, ids[:80], ids[80:], out, 3, device="cpu")
        network = build_network(plan)
        network.load_state_dict(read_weights(done.weights_path)[0])
        ask = [
            classify([network.eval()], plan, seen, torch.device("cpu"))[:, 1]
            for seen in (whole, lost)
        ]
        found[rate] = [float(auroc(truth, said)) for said in ask]
    return found


def test_with_modality_dropout_a_missing_channel_costs_little(areas):
    complete, missing = areas[0.5]
    assert complete > 0.95
    assert missing > complete - CLOSE


def test_without_it_the_same_network_breaks(areas):
    complete, missing = areas[0.0]
    assert complete > 0.95
    assert missing < complete - FALLEN


def test_what_is_missing_has_no_part_in_the_mean():
    plan = plan_of(0.5)
    torch.manual_seed(0)
    network = build_network(plan).eval()
    image = torch.from_numpy(np.stack([two_sequences(1)[0].image(f"{0:032x}")[:, 0]] * 2))
    image[1, 0] = 0
    joined = network.maps(image)[0]
    alone = [branch(image[:, i : i + 1]) for i, branch in enumerate(network.branches)]
    torch.testing.assert_close(joined[0], (alone[0][0] + alone[1][0]) / 2)
    torch.testing.assert_close(joined[1], alone[1][1])
    nothing = torch.zeros(1, 2, SIZE, SIZE)
    assert torch.isfinite(network(nothing)).all()


def test_it_shows_where_it_looks_and_sees_volumes():
    plan = plan_of(0.5)
    image = two_sequences(1)[0].image(f"{0:032x}")
    network = build_network(plan).eval()
    assert heatmap([network], plan, image, 1, torch.device("cpu")).shape == (1, SIZE, SIZE)
    candidate = NetworkCandidate(name="n", network="fused_cnn", features=(8, 16))
    for task, n in (("classification", 3), ("regression", 1)):
        volumes = plan_network(candidate, task=task, shape=(8, 12, 12), n_classes=n, in_channels=4)
        assert build_network(volumes)(torch.randn(2, 4, 8, 12, 12)).shape == (2, n)
        assert volumes.augment != plan.augment


def test_what_it_cannot_be_is_refused():
    candidate = NetworkCandidate(name="n", network="fused_cnn")
    with pytest.raises(ValueError, match="joins channels and the images have 1"):
        plan_network(candidate, task="classification", shape=(1, 16, 16), n_classes=2)
    with pytest.raises(ValueError, match="branch a channel: remove slices"):
        NetworkCandidate(name="n", network="fused_cnn", slices="max")
    narrow = NetworkCandidate(name="n", network="fused_cnn", features=(8,))
    with pytest.raises(ValueError, match="needs one block a branch"):
        plan_network(narrow, task="classification", shape=(1, 16, 16), n_classes=2, in_channels=2)
