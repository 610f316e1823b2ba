import numpy as np
import pytest
from scipy.signal import wiener

from tasks.errors import BadCase
from tasks.imaging.speckle import lee
from tests.imaging.noisy import edge_error, noisy, psnr, stepped, truth

LOOKS = 16
"""Speckle of so many looks has a coefficient of variation of 1 / sqrt(16) = 0.25."""


def speckled() -> np.ndarray:
    """Return the phantom under multiplicative gamma noise of mean 1."""
    noise = np.random.default_rng(4).gamma(LOOKS, 1 / LOOKS, truth().shape)
    return (truth() * noise).astype(np.float32)


@pytest.mark.parametrize("size", [3, 7])
def test_lee_of_additive_noise_is_the_local_wiener_filter(size):
    array = noisy()[:1]
    found = lee(array, size, 2, "additive", 20.0)[0]
    peer = wiener(array[0].astype(np.float64), size, noise=400.0)
    inner = slice(size, -size)  # beyond the edge scipy sees zeros
    np.testing.assert_allclose(found[inner, inner], peer[inner, inner], rtol=0, atol=1e-3)


def test_lee_of_speckle_is_its_formula():
    array = speckled()[0].astype(np.float64)
    found = lee(array[None], 5, 2, "multiplicative", 0.25)[0]
    row, column = 30, 17
    window = array[row - 2 : row + 3, column - 2 : column + 3]
    mean, variance, power = window.mean(), window.var(), 0.25**2
    signal = max((variance + mean**2) / (power + 1) - mean**2, 0)
    share = signal / (mean**2 * power + signal)
    expected = mean + share * (array[row, column] - mean)
    assert found[row, column] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("params", [{}, {"noise": 0.25}, {"noise": 0.25, "dimensions": 3}])
def test_lee_takes_speckle_away_and_keeps_edges(params):
    array, clean = speckled(), truth()
    out = stepped(array, "lee", size=5, **params)
    assert psnr(out, clean) > psnr(array, clean) + 2
    mean = stepped(array, "gaussian", sigma=1.4, unit="voxels")
    assert edge_error(out, clean) < 0.9 * edge_error(mean, clean)


def test_lee_of_an_image_without_echo_is_that_image():
    np.testing.assert_array_equal(stepped(np.zeros((1, 9, 9), np.float32), "lee"), 0)


def test_log_compression_shows_decibels_below_the_maximum():
    envelope = np.array([[[1000, 100, 10, 1, 0.1, 0]]], np.float32)
    out = stepped(envelope, "log_compress", dynamic_range_db=60)
    np.testing.assert_allclose(out.ravel(), [1, 2 / 3, 1 / 3, 0, 0, 0], rtol=0, atol=1e-6)


def test_what_is_no_envelope_is_a_bad_case():
    with pytest.raises(BadCase, match="negative_values"):
        stepped(np.array([[[-1, 5]]], np.float32), "log_compress")
    with pytest.raises(BadCase, match="constant_image"):
        stepped(np.zeros((1, 3, 3), np.float32), "log_compress")
