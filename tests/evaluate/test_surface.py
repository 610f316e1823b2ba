import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from monai.metrics.utils import create_table_neighbour_code_to_surface_area
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from tasks.evaluate.surface import hd95, nsd, surface_distances

# MONAI warns of an argument that it passes to itself.
pytestmark = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")

CLOSE = 1e-5
"""Distances and MONAI's table of areas are of single precision."""


def blob(shape, seed, share=0.7):
    """A rough lump with holes: smoothed noise above a quantile."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.2)
    return noise > np.quantile(noise, share)


def by_brute_force(truth, prediction, spacing):
    """Measure between all pairs of cells, with the areas of MONAI's table."""
    table = np.asarray(create_table_neighbour_code_to_surface_area(spacing)[0])
    sides = []
    for mask in (truth, prediction):
        padded = np.pad(mask, 1).astype(int)
        code = sum(
            padded[z : z + padded.shape[0] - 1, y : y + padded.shape[1] - 1,
                   x : x + padded.shape[2] - 1] << (7 - (4 * z + 2 * y + x))
            for z in (0, 1) for y in (0, 1) for x in (0, 1)
        )  # fmt: skip
        on = (code > 0) & (code < 255)
        sides.append((np.argwhere(on) * spacing, table[code[on]]))
    (here, area), (there, other) = sides
    gap = cdist(here, there)
    return gap.min(1), gap.min(0), area, other


def weighted_percentile(distance, area):
    """The least distance within which 95 % of the area lies."""
    return min(d for d in distance if area[distance <= d].sum() >= 0.95 * area.sum() - 1e-9)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.7, 0.7), (0.5, 2.0, 1.1)])
@pytest.mark.parametrize("seed", [0, 1])
def test_distances_and_areas_agree_with_brute_force(spacing, seed):
    truth, prediction = blob((7, 9, 8), seed), blob((7, 9, 8), seed + 50)
    found = surface_distances(truth, prediction, spacing)
    to_prediction, to_truth, area, other = by_brute_force(truth, prediction, spacing)
    np.testing.assert_allclose(found.of_truth, to_prediction, rtol=CLOSE)
    np.testing.assert_allclose(found.of_prediction, to_truth, rtol=CLOSE)
    np.testing.assert_allclose(found.area_truth, area, rtol=CLOSE)
    np.testing.assert_allclose(found.area_prediction, other, rtol=CLOSE)
    expected = max(weighted_percentile(to_prediction, area), weighted_percentile(to_truth, other))
    assert hd95(found) == pytest.approx(expected, rel=CLOSE)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.7, 0.7), (0.5, 2.0, 1.1)])
@pytest.mark.parametrize("tolerance", [0.4, 1.0, 2.1])
def test_the_surface_dice_agrees_with_monai(spacing, tolerance):
    truth, prediction = blob((12, 14, 16), 3), blob((12, 14, 16), 4)
    expected = compute_surface_dice(
        *(_channels(mask) for mask in (prediction, truth)),
        [tolerance], spacing=spacing, use_subvoxels=True,
    )  # fmt: skip
    found = nsd(surface_distances(truth, prediction, spacing), tolerance)
    assert found == pytest.approx(float(expected), abs=CLOSE)


def test_the_surface_dice_of_a_plane_agrees_with_monai():
    truth, prediction = blob((1, 30, 24), 5), blob((1, 30, 24), 6)
    expected = compute_surface_dice(
        *(_channels(mask[0]) for mask in (prediction, truth)),
        [1.0], spacing=(0.5, 0.8), use_subvoxels=True,
    )  # fmt: skip
    found = nsd(surface_distances(truth, prediction, (9.0, 0.5, 0.8)), 1.0)
    assert found == pytest.approx(float(expected), abs=CLOSE)


def test_two_slabs_shifted_by_one_voxel_as_published():
    """The example in the tests of DeepMind's surface-distance: NSD 0.836, HD95 2.0."""
    truth, prediction = np.zeros((2, 100, 100, 100), bool)
    truth[:50], prediction[:51] = True, True
    found = surface_distances(truth, prediction, (2, 1, 1))
    assert nsd(found, 1) == pytest.approx(0.836, abs=5e-4)
    assert hd95(found) == 2.0


def test_two_voxels_two_apart_as_published():
    """The same source's one-voxel masks; at a tolerance of 1 mm half of each surface is near."""
    truth, prediction = np.zeros((2, 20, 20, 20), bool)
    truth[5, 6, 7], prediction[5, 6, 9] = True, True
    found = surface_distances(truth, prediction, (3, 2, 1))
    assert nsd(found, 1) == pytest.approx(0.5)
    assert hd95(found) == 2.0


def test_near_monais_voxel_distance_on_a_smooth_lump():
    """MONAI counts voxels instead of area: no more than a voxel's diagonal apart."""
    grid = np.indices((24, 24, 24))
    truth = ((grid - 11) ** 2).sum(0) <= 64
    prediction = ((grid - 13) ** 2).sum(0) <= 49
    spacing = (1.5, 1.0, 1.0)
    expected = compute_hausdorff_distance(
        _channels(prediction), _channels(truth), percentile=95, spacing=spacing
    )
    found = hd95(surface_distances(truth, prediction, spacing))
    assert found == pytest.approx(float(expected), abs=np.linalg.norm(spacing))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 5), st.integers(0, 5), st.sampled_from([1, 4]))
def test_the_box_around_them_and_their_order_change_nothing(seed, before, after, depth):
    truth, prediction = blob((depth, 6, 7), seed), blob((depth, 6, 7), seed + 1)
    spacing = (2.0, 1.0, 0.6)
    found = surface_distances(truth, prediction, spacing)
    room = [(0, 0) if depth == 1 else (before, after), (after, before), (before, before)]
    again = surface_distances(np.pad(prediction, room), np.pad(truth, room), spacing)
    assert hd95(again) == pytest.approx(hd95(found))
    assert nsd(again, 0.9) == pytest.approx(nsd(found, 0.9))
    assert hd95(surface_distances(truth, truth, spacing)) == 0
    assert nsd(surface_distances(truth, truth, spacing), 1e-9) == 1


def test_a_distance_of_just_the_tolerance_is_within_it():
    truth, prediction = np.zeros((2, 1, 8, 40), bool)
    truth[:, :, :20], prediction[:, :, :23] = True, True
    assert nsd(surface_distances(truth, prediction, (1, 0.7, 0.7)), 3 * 0.7) == 1


def test_an_empty_mask_is_refused():
    with pytest.raises(ValueError, match="policy for empty masks"):
        surface_distances(np.zeros((2, 2, 2)), np.ones((2, 2, 2)), (1, 1, 1))


def _channels(mask):
    """Two channels of a batch of one, as MONAI wants masks."""
    import torch

    return torch.from_numpy(np.stack([~mask, mask])[None].astype(np.float32))
