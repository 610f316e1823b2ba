import numpy as np
import pytest
from scipy import ndimage
from skimage.exposure import adjust_gamma
from skimage.filters import unsharp_mask

from tasks.errors import BadCase
from tests.imaging.noisy import noisy, stepped


@pytest.mark.parametrize("gamma", [0.4, 1.0, 2.5])
def test_gamma_equals_skimage_on_the_image_s_own_range(gamma):
    array = noisy()
    low, high = float(array.min()), float(array.max())
    peer = adjust_gamma((array.astype(np.float64) - low) / (high - low), gamma)
    out = stepped(array, "gamma", gamma=gamma)
    np.testing.assert_allclose(out, peer * (high - low) + low, rtol=0, atol=1e-3)
    assert (out.min(), out.max()) == pytest.approx((low, high))


def test_gamma_of_an_image_that_shows_nothing_is_a_bad_case():
    with pytest.raises(BadCase, match="constant_image"):
        stepped(np.ones((1, 4, 4)), "gamma", gamma=2)


def test_unsharp_masking_equals_skimage_away_from_the_border():
    array = noisy()[:1]
    peer = unsharp_mask(array[0], radius=1.5, amount=0.8, preserve_range=True)
    out = stepped(array, "unsharp", amount=0.8, sigma=1.5)
    inner = (slice(6, -6), slice(6, -6))
    np.testing.assert_allclose(out[0][inner], peer[inner], rtol=0, atol=1e-2)


def test_unsharp_masking_of_a_volume_adds_its_detail():
    array = noisy().astype(np.float64)
    smooth = ndimage.gaussian_filter(array, 1.0, mode="nearest")
    out = stepped(array, "unsharp", amount=2.0, dimensions=3)
    np.testing.assert_allclose(out, array + 2 * (array - smooth), rtol=0, atol=1e-2)
