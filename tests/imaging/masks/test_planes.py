import numpy as np
import pytest
from scipy import ndimage

from tasks.imaging.masks import planes


def blobs(seed=0, shape=(5, 60, 70)):
    noise = np.random.default_rng(seed).normal(size=shape)
    return (ndimage.gaussian_filter(noise, (0, 2.5, 2.5)) > 0.02).astype(np.uint8)


def each(function, mask):
    return np.stack([function(plane) for plane in mask])


def test_a_disc_counts_millimetres_on_pixels_that_are_not_square():
    kernel = planes.disc(3.0, (1.0, 0.5))
    assert kernel.shape == (7, 13)
    y, x = np.indices(kernel.shape)
    np.testing.assert_array_equal(kernel, (y - 3) ** 2 + ((x - 6) / 2) ** 2 <= 9)
    assert planes.disc(0.4, (1.0, 1.0)).tolist() == [[1]]
    assert planes.disc(2.1, (0.7, 0.7)).shape == (7, 7)


@pytest.mark.parametrize("radius", [1.0, 3.3, 6.0])
def test_morphology_equals_scipy_plane_by_plane(radius):
    mask, kernel = blobs(), planes.disc(radius, (1.0, 0.8))
    eroded = each(lambda p: ndimage.binary_erosion(p, kernel, border_value=1), mask)
    grown = each(lambda p: ndimage.binary_dilation(p, kernel), mask)
    np.testing.assert_array_equal(planes.erode(mask, kernel), eroded)
    np.testing.assert_array_equal(planes.dilate(mask, kernel), grown)
    closed = each(lambda p: ndimage.binary_erosion(p, kernel, border_value=1), grown)
    np.testing.assert_array_equal(planes.close(mask, kernel), closed)
    assert (planes.close(mask, kernel) >= mask).all()


def test_filling_equals_scipy_plane_by_plane():
    mask = blobs(3)
    filled = planes.fill(mask)
    np.testing.assert_array_equal(filled, each(ndimage.binary_fill_holes, mask))
    assert filled.dtype == np.uint8
    assert filled.sum() > mask.sum()


def test_only_small_holes_are_filled_when_asked():
    mask = np.zeros((1, 40, 60), np.uint8)
    mask[0, 5:35, 5:55] = 1
    mask[0, 10:14, 10:15] = 0
    mask[0, 10:30, 25:50] = 0
    out = planes.fill_small(mask, 30.0, (1.0, 1.0))
    assert out[0, 10:14, 10:15].all()
    assert not out[0, 10:30, 25:50].any()
    assert not planes.fill_small(mask, 30.0, (2.0, 1.0))[0, 10:14, 10:15].any()
