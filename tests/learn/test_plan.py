"""Candidates say what is wrong with them; plans follow the images and the memory."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.plan import LOOKS, NetworkPlan, plan_network
from tasks.learn.topology import MIN_BATCH, feature_values, plan_batch, plan_unet, pooling

NNUNET_FEATURES = (32, 64, 128, 256, 320, 320)


def test_importing_the_config_brings_no_heavy_package():
    code = (
        "import sys, tasks.learn.plan; print(sorted({'torch','monai','scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_bare_classifier_gets_the_defaults_and_the_whole_image():
    plan = plan_network(
        NetworkCandidate(name="small-cnn"), task="classification", shape=(1, 96, 96), n_classes=2
    )
    assert (plan.dims, plan.patch, plan.monitor) == (2, (1, 96, 96), "loss")
    assert plan.augment.flip == ()  # radiographs keep their sides


@pytest.mark.parametrize(
    ("shape", "blocks"), [((1, 96, 96), 4), ((1, 8, 30), 3), ((28, 28, 28), 4), ((5, 64, 64), 2)]
)
def test_a_classifier_has_as_many_blocks_as_its_shortest_axis_can_be_halved(shape, blocks):
    import torch

    from tasks.learn.networks import build_network, to_network

    plan = plan_network(NetworkCandidate(name="c"), task="classification", shape=shape, n_classes=3)
    assert len(plan.channels) == blocks
    network = build_network(plan).eval()
    assert network(to_network(torch.zeros(2, 1, *shape), plan.dims)).shape == (2, 3)


def test_a_plan_survives_json():
    candidate = NetworkCandidate(name="u", network="unet3d", augment=["flip", {"rotate": 5}])
    plan = plan_network(candidate, task="segmentation", shape=(36, 50, 35), n_classes=3)
    assert NetworkPlan.model_validate_json(plan.model_dump_json()) == plan
    assert plan.augment.rotate == 5


def test_a_plan_of_before_is_read_without_its_patience():
    bare = NetworkCandidate(name="c")
    plan = plan_network(bare, task="classification", shape=(1, 8, 8), n_classes=2)
    said = plan.model_dump(mode="json")
    assert "patience" not in said
    assert NetworkPlan.model_validate(said | {"patience": 10}) == plan
    assert NetworkCandidate(name="c", patience=None) == bare


@pytest.mark.parametrize("epochs", [1, 2, 24, 25, 26, 60, 129, 1000])
def test_the_other_side_is_looked_at_evenly_first_and_last(epochs):
    long = NetworkCandidate(name="c", epochs=epochs)
    plan = plan_network(long, task="classification", shape=(1, 8, 8), n_classes=2)
    looked = [epoch for epoch in range(1, epochs + 1) if plan.looks(epoch)]
    assert len(looked) == min(epochs, LOOKS)
    assert (looked[0], looked[-1]) == (1, epochs)
    gaps = set(np.diff(looked).tolist())
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_hippocampus_gets_the_published_patch_and_batch():
    # nnU-Net's plan for MSD Task04: patch 40x56x40, batch 9, three halvings (260 cases).
    patch, strides, channels = plan_unet(None, (36, 50, 35), (1, 1, 1), NNUNET_FEATURES, 3, 8)
    assert patch == (40, 56, 40)
    assert strides == ((2, 2, 2),) * 3
    assert plan_batch(patch, (36, 50, 35), strides, channels, 3, 8, 260) == 9


def test_brats_gets_the_published_patch():
    patch, strides, channels = plan_unet(None, (138, 169, 138), (1, 1, 1), NNUNET_FEATURES, 3, 8)
    assert patch == (128, 128, 128)
    assert plan_batch(patch, (138, 169, 138), strides, channels, 3, 8, 387) == 2


def test_a_coarse_axis_is_halved_later():
    _, strides = pooling((20, 256, 256), (5.0, 1.0, 1.0), 5)
    assert strides[0] == (1, 2, 2)
    assert strides[1] == (1, 2, 2)
    assert strides[2][0] == 2


@given(
    shape=st.tuples(*[st.integers(1, 400)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 8)] * 3),
    levels=st.integers(1, 6),
)
def test_every_patch_halves_evenly_and_covers_the_shape(shape, spacing, levels):
    patch, strides = pooling(shape, spacing, levels)
    for axis in range(3):
        divisor = math.prod(s[axis] for s in strides)
        assert patch[axis] % divisor == 0
        assert shape[axis] <= patch[axis] < shape[axis] + divisor
    assert len(strides) <= levels


@given(shape=st.tuples(*[st.integers(16, 300)] * 3), gb=st.sampled_from([0.5, 2.0, 8.0]))
def test_less_memory_never_means_a_larger_patch(shape, gb):
    features = (16, 32, 64, 128)
    small = plan_unet(None, shape, (1, 1, 1), features, 3, gb)
    large = plan_unet(None, shape, (1, 1, 1), features, 3, 2 * gb)
    assert feature_values(*small) <= feature_values(*large)
    assert plan_batch(small[0], shape, small[1], small[2], 3, gb, 40) >= MIN_BATCH


@pytest.mark.parametrize(
    ("fields", "task", "shape", "words"),
    [
        ({"network": "small_cnn"}, "segmentation", (8, 8, 8), "small_cnn classifies"),
        ({"network": "unet2d"}, "classification", (1, 8, 8), "unet2d segments"),
        ({"network": "unet3d"}, "segmentation", (1, 64, 64), "use unet2d"),
        ({"monitor": "dice"}, "classification", (1, 8, 8), "loss or auroc"),
        ({}, "classification", (8, 8), "not \\(z, y, x\\)"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_remedy(fields, task, shape, words):
    with pytest.raises(ValueError, match=words):
        plan_network(NetworkCandidate(name="a", **fields), task=task, shape=shape, n_classes=2)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"network": "resnet"}, "none of small_cnn"),
        ({"augment": "heavy"}, "no augmentation preset 'heavy'"),
        ({"augment": ["flip", "shear"]}, "no augmentation 'shear'"),
        ({"augment": {"flip": ["w"]}}, "none of z, y, x"),
        ({"epoch": 3}, "Extra inputs"),
        ({"patience": 10}, "a network is its last one; remove patience and set epochs"),
    ],
)
def test_a_wrong_candidate_names_what_is_wrong(fields, words):
    with pytest.raises(ValueError, match=words):
        NetworkCandidate(name="a", **fields)
