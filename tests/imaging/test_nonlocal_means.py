from itertools import product

import numpy as np
import pytest
from skimage.restoration import denoise_nl_means

from tasks.imaging.nonlocal_means import non_local_means
from tests.imaging.noisy import SIGMA, noisy, psnr, stepped, truth


def written_out(array, sigma, h, patch, reach):
    """Return the means patch by patch, as Buades writes them; reach and patch are (z, y, x)."""
    half = [n // 2 for n in patch]
    width = [(a + b, a + b) for a, b in zip(half, reach, strict=True)]
    padded = np.pad(array.astype(np.float64), width, mode="reflect")
    out = np.zeros(array.shape)

    def around(centre):
        return padded[tuple(slice(c - n, c + n + 1) for c, n in zip(centre, half, strict=True))]

    for index in np.ndindex(*array.shape):
        centre = [i + w[0] for i, w in zip(index, width, strict=True)]
        total = weights = 0.0
        for offset in product(*(range(-far, far + 1) for far in reach)):
            other = [c + o for c, o in zip(centre, offset, strict=True)]
            distance = np.square(around(centre) - around(other)).mean()
            weight = np.exp(-max(distance - 2 * sigma**2, 0) / h**2) if any(offset) else 1.0
            total += weight * padded[tuple(other)]
            weights += weight
        out[index] = total / weights
    return out


@pytest.mark.parametrize(
    ("shape", "patch", "reach", "dimensions"),
    [((2, 12, 14), 3, 3, 2), ((1, 9, 7), 5, 2, 2), ((9, 6, 5), 3, 1, 3), ((3, 5, 5), 3, 2, 3)],
)
def test_it_is_its_formula_patch_by_patch(shape, patch, reach, dimensions):
    array = noisy((10, 64, 60))[: shape[0], 20 : 20 + shape[1], 15 : 15 + shape[2]]
    found = non_local_means(array, SIGMA, 0.8 * SIGMA, patch, reach, dimensions)
    deep = dimensions == 3
    expected = written_out(
        array,
        SIGMA,
        0.8 * SIGMA,
        (patch if deep else 1, patch, patch),
        (reach if deep else 0, reach, reach),
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)


def test_it_denoises_as_well_as_skimage():
    """Skimage sums one row and column less than a patch has, so the two are near, not equal."""
    array = noisy()
    ours = stepped(array, "non_local_means", sigma=SIGMA, patch=3)
    peer = np.stack(
        [
            denoise_nl_means(
                plane, patch_size=3, patch_distance=6, h=SIGMA, sigma=SIGMA, fast_mode=True
            )
            for plane in array
        ]
    )
    assert psnr(ours, truth()) > psnr(peer, truth()) - 0.3


def test_the_noise_is_estimated_unless_said():
    given = stepped(noisy(), "non_local_means", sigma=SIGMA)
    estimated = stepped(noisy(), "non_local_means")
    assert abs(given - estimated).mean() < 0.15 * SIGMA
