import numpy as np
import pytest
from scipy import ndimage

from tasks.imaging.filters import box_mean, gaussian_blur, lengths_in_voxels, noise_sigma
from tasks.imaging.step import Image
from tests.imaging.noisy import SIGMA, noisy

FLOAT_NOISE = 3e-4
"""Of intensities of some hundreds; float32 sums differ by this."""


@pytest.mark.parametrize("sigma", [(0, 1.3, 0.7), (1.0, 2.0, 2.0), (3.0, 0.1, 1.0)])
def test_the_gaussian_equals_scipy(sigma):
    array = noisy()
    peer = ndimage.gaussian_filter(array.astype(np.float64), sigma, mode="nearest", truncate=4.0)
    np.testing.assert_allclose(gaussian_blur(array, sigma), peer, rtol=0, atol=FLOAT_NOISE)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_box_mean_equals_scipy(dimensions):
    array = noisy()
    size = (5 if dimensions == 3 else 1, 5, 5)
    peer = ndimage.uniform_filter(array.astype(np.float64), size, mode="nearest")
    np.testing.assert_allclose(box_mean(array, 5, dimensions), peer, rtol=0, atol=1e-9)


def test_an_image_smaller_than_the_filter_is_filtered():
    array = noisy()[:1, :2, :1]
    peer = ndimage.gaussian_filter(array.astype(np.float64), 3.0, mode="nearest")
    np.testing.assert_allclose(gaussian_blur(array, (3, 3, 3)), peer, rtol=0, atol=FLOAT_NOISE)


def test_mm_become_voxels_by_the_spacing_of_each_axis():
    affine = np.diag([4.0, 0.8, 0.5, 1])[[2, 1, 0, 3]]
    image = Image(np.zeros((1, 2, 2)), affine)
    assert lengths_in_voxels(image, 2.0, "mm", 3) == pytest.approx((0.5, 2.5, 4.0))
    assert lengths_in_voxels(image, 2.0, "mm", 2) == pytest.approx((0, 2.5, 4.0))
    assert lengths_in_voxels(image, 2.0, "voxels", 3) == (2.0, 2.0, 2.0)


def test_the_noise_is_estimated_in_spite_of_edges():
    assert noise_sigma(noisy()) == pytest.approx(SIGMA, rel=0.3)
    flat = np.random.default_rng(0).normal(50, 7, (4, 80, 80))
    assert noise_sigma(flat) == pytest.approx(7, rel=0.03)
    assert noise_sigma(np.full((2, 9, 9), 3.0)) == 0
    assert noise_sigma(np.zeros((1, 2, 9))) == 0
