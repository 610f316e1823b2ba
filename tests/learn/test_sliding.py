"""Tiles cover every voxel, agree with MONAI's window, and need no memory for all maps at once."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tasks.learn.sliding import TILES_AT_ONCE, gaussian, positions, slabs

CPU = torch.device("cpu")
CHECKOUT = Path(__file__).resolve().parents[2]


@given(size=st.integers(1, 400), tile=st.integers(1, 160))
def test_tiles_reach_from_end_to_end_and_overlap_by_half(size, tile):
    found = positions(size, tile)
    assert found[0] == 0
    assert found[-1] + tile == max(size, tile)
    assert all(0 < b - a <= (tile + 1) // 2 for a, b in itertools.pairwise(found))


def test_a_weight_is_one_in_the_middle_and_nowhere_nothing():
    weight = gaussian((8, 16, 64))
    assert weight[4, 8, 32] == weight.max() == 1
    assert weight.min() > 0


@pytest.mark.parametrize("shape", [(8, 16, 16), (21, 30, 17), (8, 40, 16)])
def test_what_is_known_voxel_by_voxel_comes_back(shape):
    image = torch.randn(1, *shape)

    def ask(tiles):
        assert len(tiles) <= TILES_AT_ONCE
        return torch.cat([tiles, -tiles], 1)

    found = list(slabs(image, (8, 16, 16), 2, ask, CPU))
    maps = torch.cat([slab.maps for slab in found], 1)
    assert [slab.start for slab in found] == positions(shape[0], 8)
    torch.testing.assert_close(maps, torch.cat([image, -image]), atol=1e-5, rtol=0)


def test_a_voxel_that_tiles_disagree_on_gets_their_weighted_mean():
    image = torch.zeros(1, 4, 8, 12)
    answers = iter([1.0, 2.0, 3.0, 4.0])

    def ask(tiles):
        return torch.cat([torch.full((1, 1, 4, 8, 8), next(answers)) for _ in tiles])

    (slab,) = slabs(image, (4, 8, 8), 1, ask, CPU)
    weight = gaussian((4, 8, 8))[2, 4]
    assert positions(12, 8) == [0, 4]
    expected = np.concatenate(
        [[1.0] * 4, (weight[4:] + 2 * weight[:4]) / (weight[4:] + weight[:4]), [2.0] * 4]
    )
    np.testing.assert_allclose(slab.maps[0, 2, 4], expected, rtol=1e-5)


def test_a_device_that_is_full_gets_one_tile_at_a_time():
    asked = []

    def ask(tiles):
        asked.append(len(tiles))
        if len(tiles) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return tiles

    image = torch.randn(1, 8, 40, 16)
    (slab,) = slabs(image, (8, 16, 16), 1, ask, CPU)
    torch.testing.assert_close(slab.maps, image)
    assert set(asked[1:]) == {1}


def test_no_room_for_one_tile_is_said():
    def ask(tiles):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        list(slabs(torch.zeros(1, 8, 8, 8), (8, 8, 8), 1, ask, CPU))


PEAK = """
import pathlib, re, sys
import numpy as np, torch
from torch import nn
from tasks.learn.infer import outline
from tasks.learn.plan import NetworkCandidate, plan_network

def most():
    # Not ru_maxrss, which begins at the peak of the test run that forked this.
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])

class Thresholds(nn.Module):
    def forward(self, x):
        return torch.cat([x * (k % 3 - 1) for k in range(24)], 1)

candidate = NetworkCandidate(name="u", network="nnunet3d", features=(4, 8), patch=(16, 32, 32))
plan = plan_network(candidate, task="segmentation", shape=(16, 32, 32), n_classes=24)
image = np.random.default_rng(0).normal(size=(int(sys.argv[1]), 128, 128)).astype(np.float32)
outline([Thresholds()], plan, image[:16], torch.device("cpu"))
before = most()
found = outline([Thresholds()], plan, image, torch.device("cpu"))
assert (found[image > 0] == 2).all() and (found[image < 0] == 0).all()
print(most() - before)
"""


def test_memory_does_not_follow_classes_times_image():
    planes = 256
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(planes)],
        capture_output=True, text=True, check=True, cwd=CHECKOUT,
    )  # fmt: skip
    grown = int(done.stdout) * 1024
    all_maps = 24 * planes * 128 * 128 * 4
    # The image once more, its outline and some slabs; all maps would be 400 MB.
    assert grown < 0.25 * all_maps
