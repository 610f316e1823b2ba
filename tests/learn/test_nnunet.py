"""nnU-Net's rules give the plans that nnU-Net published, and small ones for little memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.learn.nnunet import (
    MIN_BATCH,
    MIN_BOTTLENECK,
    Topology,
    feature_values,
    plan_shape,
    pooling,
    widths,
)

# Median shape and spacing (z, y, x) after resampling, maps, training cases: Medical Segmentation
# Decathlon, as nnU-Net's fingerprints have them.
BRATS = ((138, 169, 138), (1, 1, 1), 4, 484)
HEART = ((115, 320, 232), (1.37, 1.25, 1.25), 2, 20)
HIPPOCAMPUS = ((36, 50, 35), (1, 1, 1), 3, 260)
PROSTATE = ((20, 320, 319), (3.6, 0.625, 0.625), 3, 32)
SPLEEN = ((187, 512, 512), (1.6, 0.793, 0.793), 2, 41)
LUNG = ((252, 512, 512), (1.24, 0.785, 0.785), 2, 63)


@pytest.mark.parametrize(
    ("images", "dims", "gb", "patch", "batch"),
    [
        (BRATS, 3, 8, (128, 128, 128), 2),
        (HEART, 3, 8, (80, 192, 160), 2),
        (HEART, 2, 8, (1, 320, 256), 40),
        (HIPPOCAMPUS, 3, 8, (40, 56, 40), 9),
        (HIPPOCAMPUS, 2, 8, (1, 56, 40), 366),
        (PROSTATE, 3, 8, (20, 320, 256), 2),
        (PROSTATE, 2, 8, (1, 320, 320), 32),
        (SPLEEN, 3, 8, (64, 192, 160), 2),
        (LUNG, 3, 8, (80, 192, 160), 2),
        (LUNG, 2, 8, (1, 512, 512), 12),
        (BRATS, 3, 2, (80, 96, 80), 2),
        (BRATS, 3, 0.5, (48, 64, 48), 2),
        (LUNG, 3, 2, (48, 112, 112), 2),
        (LUNG, 3, 0.5, (32, 64, 64), 2),
        (SPLEEN, 3, 2, (40, 112, 112), 2),
        (SPLEEN, 3, 0.5, (28, 64, 64), 2),
    ],
)
def test_a_published_plan_is_found_again(images, dims, gb, patch, batch):
    shape, spacing, maps, cases = images
    found = plan_shape(shape, spacing, maps, dims=dims, gb=gb, n_cases=cases)
    assert found.topology.patch == patch
    assert found.batch == batch


@pytest.mark.parametrize(("gb", "stages"), [(8, 6), (2, 5), (0.5, 4)])
def test_less_memory_makes_fewer_stages(gb, stages):
    shape, spacing, maps, cases = BRATS
    found = plan_shape(shape, spacing, maps, dims=3, gb=gb, n_cases=cases)
    assert found.features == (32, 64, 128, 256, 320, 320)[:stages]


def test_the_prostate_is_looked_at_in_its_planes_first():
    found = plan_shape(*PROSTATE[:3], dims=3, gb=8).topology
    flat, all_three = (1, 2, 2), (2, 2, 2)
    assert found.strides == (flat, flat, all_three, all_three, flat, flat)
    assert found.kernels == ((1, 3, 3), (1, 3, 3), *[(3, 3, 3)] * 5)


def test_a_lone_axis_needs_twelve_voxels_to_be_halved():
    assert pooling((4, 4, 11), (1, 1, 1), 3).strides == ()
    assert pooling((4, 4, 12), (1, 1, 1), 3).strides == ((1, 1, 2),)


@given(
    shape=st.tuples(*[st.integers(1, 300)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 8)] * 3),
    dims=st.sampled_from([2, 3]),
)
def test_a_patch_halves_evenly_covers_the_shape_and_keeps_a_bottom(shape, spacing, dims):
    shape = (1, *shape[1:]) if dims == 2 else shape
    found = pooling(shape, spacing, dims)
    assert len(found.kernels) == len(found.strides) + 1
    for size, patch, divisor in zip(shape, found.patch, found.divisor, strict=True):
        assert patch % divisor == 0
        assert size <= patch < size + divisor
        assert divisor == 1 or patch // divisor >= MIN_BOTTLENECK


@given(
    shape=st.tuples(*[st.integers(16, 300)] * 3),
    gb=st.sampled_from([0.25, 0.5, 2.0, 8.0]),
    residual=st.booleans(),
)
def test_less_memory_never_makes_a_larger_patch(shape, gb, residual):
    small, large = (
        plan_shape(shape, (1, 1, 1), 3, dims=3, gb=g, residual=residual) for g in (gb, 2 * gb)
    )
    assert np.prod(small.topology.patch) <= np.prod(large.topology.patch)
    assert small.batch >= MIN_BATCH


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_estimate_counts_what_the_network_s_convolutions_make(dims, residual):
    import torch
    from torch import nn

    from tasks.learn.network_candidate import NetworkCandidate
    from tasks.learn.networks import build_network, to_network
    from tasks.learn.plan import plan_network

    name = f"{'resenc' if residual else 'nnunet'}{dims}d"
    shape, spacing = (1, 48, 32) if dims == 2 else (8, 32, 16), (4.0, 1.0, 1.0)
    candidate = NetworkCandidate(
        name="n", network=name, features=(4, 6, 8), deep_supervision=False, patch=shape
    )
    plan = plan_network(candidate, task="segmentation", shape=shape, spacing=spacing, n_classes=3)
    network, made = build_network(plan).eval(), []
    kinds = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    for module in network.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(lambda _m, _i, out: made.append(out.numel()))
    with torch.inference_mode():
        network(to_network(torch.zeros(1, 1, *plan.patch), dims))
    topology = Topology(plan.patch, plan.strides, plan.kernels)
    assert feature_values(topology, plan.channels, 3, residual=residual) == sum(made)


def test_widths_double_up_to_the_cap():
    assert widths(6, 3) == (32, 64, 128, 256, 320, 320)
    assert widths(6, 2) == (32, 64, 128, 256, 512, 512)
