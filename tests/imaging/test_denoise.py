"""Median, Gaussian and bilateral: equal to what they say they are, and better than the noise."""

from itertools import product

import numpy as np
import pytest
from scipy import ndimage

from tasks.imaging.denoise import bilateral
from tests.imaging.noisy import SIGMA, edge_error, noisy, psnr, stepped, truth


@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_the_median_equals_scipy(size, dimensions, dtype):
    array = noisy((6, 20, 23)).astype(dtype)
    shape = (size if dimensions == 3 else 1, size, size)
    peer = ndimage.median_filter(array, shape, mode="nearest")
    found = stepped(array, "median", size=size, dimensions=dimensions)
    np.testing.assert_array_equal(found, peer)


@pytest.mark.parametrize("shape", [(1, 5, 7), (2, 1, 1), (3, 3, 600), (4, 90, 500)])
def test_the_median_of_odd_shapes_equals_scipy(shape):
    array = np.random.default_rng(5).integers(-9, 9, shape).astype(np.int16)
    peer = ndimage.median_filter(array, 3, mode="nearest")
    np.testing.assert_array_equal(stepped(array, "median", dimensions=3), peer)


def test_the_gaussian_of_a_slice_does_not_reach_the_next():
    array = np.zeros((3, 9, 9), np.float32)
    array[1] = 100
    apart = stepped(array, "gaussian", sigma=2.0, unit="voxels")
    np.testing.assert_allclose(apart, array, rtol=0, atol=1e-4)
    across = stepped(array, "gaussian", sigma=2.0, unit="voxels", dimensions=3)
    assert across[0].min() > 10


def test_a_sigma_in_mm_blurs_less_where_voxels_are_large():
    array = np.zeros((9, 9, 9), np.float32)
    array[4, 4, 4] = 100
    out = stepped(array, "gaussian", (4.0, 1.0, 1.0), sigma=1.0, dimensions=3)
    peer = ndimage.gaussian_filter(array.astype(float), (0.25, 1, 1), mode="nearest")
    np.testing.assert_allclose(out, peer, rtol=0, atol=1e-5)


def written_out(array, sigma, sigma_value, reach):
    """Return the bilateral filter as Tomasi and Manduchi write it, one offset after another."""
    padded = np.pad(array.astype(np.float64), [(far, far) for far in reach], mode="edge")
    total, weights = np.zeros(array.shape), np.zeros(array.shape)
    for offset in product(*(range(-far, far + 1) for far in reach)):
        if sum((step / far) ** 2 for step, far in zip(offset, reach, strict=True) if far) > 1:
            continue
        at = [slice(f + s, f + s + n) for f, s, n in zip(reach, offset, array.shape, strict=True)]
        other = padded[tuple(at)]
        square = sum((s / one) ** 2 for s, one in zip(offset, sigma, strict=True) if one)
        weight = np.exp(-square / 2 - (other - array) ** 2 / (2 * sigma_value**2))
        total += weight * other
        weights += weight
    return total / weights


@pytest.mark.parametrize(
    ("sigma", "reach"),
    [
        ((0, 1.5, 1.5), (0, 3, 3)),
        ((0, 1.0, 1.6), (0, 2, 3)),
        ((1.0, 1.0, 1.0), (2, 2, 2)),
        ((0.3, 1.0, 1.0), (1, 2, 2)),
    ],
)
def test_the_bilateral_filter_is_its_formula(sigma, reach):
    array = noisy((4, 30, 25))
    found = bilateral(array, sigma, 60.0)
    np.testing.assert_allclose(
        found, written_out(array, sigma, 60.0, reach), rtol=0, atol=1e-3 * 60
    )


def test_a_wide_range_does_not_coarsen_the_bilateral_weights():
    """Metal stretches the range of a CT, and OpenCV's table of weights with it."""
    array = noisy((1, 30, 25))
    array[0, 0, 0] = 1e6
    found = bilateral(array, (0, 1.5, 1.5), 30.0)
    expected = written_out(array, (0, 1.5, 1.5), 30.0, (0, 3, 3))
    np.testing.assert_allclose(found[0, 5:], expected[0, 5:], rtol=0, atol=1e-2)


METHODS = {
    "median": [{}, {"dimensions": 3}],
    "gaussian": [{"sigma": 0.7}, {"sigma": 0.6, "dimensions": 3}],
    "bilateral": [
        {"sigma": 1.5, "sigma_value": 3 * SIGMA},
        {"sigma": 1.2, "sigma_value": 3 * SIGMA, "dimensions": 3},
    ],
    "non_local_means": [{}, {"patch": 3, "reach": 2, "dimensions": 3}],
    "total_variation": [{"weight": SIGMA}, {"weight": 0.7 * SIGMA, "dimensions": 3}],
    "anisotropic_diffusion": [
        {"kappa": 2.5 * SIGMA, "iterations": 8},
        {"kappa": 2.5 * SIGMA, "iterations": 8, "dimensions": 3},
        {"kappa": 1.5 * SIGMA, "iterations": 8, "edge": "rational"},
    ],
    "lee": [{"kind": "additive", "size": 5}],
}

LEAST_GAIN_DB = 1.0
"""What every filter wins on this phantom: a Gaussian little, since it blurs the edges."""


@pytest.mark.parametrize(
    ("step", "params"), [(step, params) for step, many in METHODS.items() for params in many]
)
def test_every_filter_brings_a_noisy_image_nearer_to_the_truth(step, params):
    before = psnr(noisy(), truth())
    assert psnr(stepped(noisy(), step, **params), truth()) > before + LEAST_GAIN_DB


@pytest.mark.parametrize(
    ("step", "params"),
    [(step, METHODS[step][0]) for step in METHODS if step not in ("median", "gaussian", "lee")],
)
def test_edges_are_kept_better_than_by_a_gaussian_that_denoises_flat_regions_as_well(step, params):
    clean, image = truth(), noisy()
    corner = (slice(None), slice(8), slice(8))
    assert (clean[corner] == 100).all()
    kept = stepped(image, step, **params)
    # The first Gaussian that is no noisier where nothing is to be seen, or the widest tried.
    for sigma in np.arange(0.4, 4, 0.1).tolist():
        blurred = stepped(image, "gaussian", sigma=sigma)
        if blurred[corner].std() <= kept[corner].std():
            break
    assert edge_error(kept, clean) < 0.7 * edge_error(blurred, clean)


@pytest.mark.parametrize("step", ["median", "bilateral", "non_local_means", "total_variation"])
def test_the_volume_is_denoised_better_than_its_slices(step):
    apart, together = METHODS[step][:2]
    if step == "non_local_means":
        apart = {**apart, "patch": 3, "reach": 2}
    flat = stepped(noisy(), step, **apart)
    assert psnr(stepped(noisy(), step, **together), truth()) > psnr(flat, truth())


@pytest.mark.parametrize("step", METHODS)
def test_a_constant_image_stays_what_it_is(step):
    flat = np.full((3, 12, 11), 7, np.int16)
    for params in METHODS[step]:
        np.testing.assert_allclose(stepped(flat, step, **params), 7, rtol=1e-5)
