import numpy as np
import pytest
from skimage.restoration import denoise_tv_chambolle

from tasks.imaging.variation import anisotropic_diffusion, total_variation
from tests.imaging.noisy import noisy, stepped

ITERATE_NOISE = 2e-3
"""Of intensities of some hundreds, after many float32 iterations."""


@pytest.mark.parametrize("iterations", [1, 2, 40])
def test_total_variation_makes_the_iterates_of_skimage(iterations):
    array = noisy()
    found = total_variation(array, 25.0, 0.0, iterations)
    peer = denoise_tv_chambolle(
        array.astype(np.float64), weight=25.0, eps=0.0, max_num_iter=iterations
    )
    np.testing.assert_allclose(found, peer, rtol=0, atol=ITERATE_NOISE)


def test_total_variation_of_slices_is_that_of_each_slice_and_stops_where_skimage_stops():
    array = noisy()
    found = stepped(array, "total_variation", weight=25.0)
    peer = np.stack([denoise_tv_chambolle(p.astype(np.float64), weight=25.0) for p in array])
    np.testing.assert_allclose(found, peer, rtol=0, atol=ITERATE_NOISE)


def written_out(array, kappa, iterations, edge, nearness):
    """Return equations 7 to 10 of Perona and Malik, in float64 and by shifting whole images."""
    out = array.astype(np.float64)
    step = 1 / 6 if nearness[0] else 1 / 4
    for _ in range(iterations):
        change = np.zeros_like(out)
        for axis, near in enumerate(nearness):
            for shift in (1, -1):
                neighbour = np.roll(out, shift, axis)
                border = [slice(None)] * 3
                border[axis] = 0 if shift == 1 else -1
                neighbour[tuple(border)] = out[tuple(border)]
                slope = (neighbour - out) * near
                share = (slope / kappa) ** 2
                conduction = np.exp(-share) if edge == "exponential" else 1 / (1 + share)
                change += conduction * slope * near
        out += step * change
    return out


@pytest.mark.parametrize("edge", ["exponential", "rational"])
@pytest.mark.parametrize("nearness", [(0, 1, 1), (1, 1, 1), (0.25, 1.0, 0.8)])
def test_anisotropic_diffusion_is_its_equations(edge, nearness):
    array = noisy((5, 30, 26))
    found = anisotropic_diffusion(array, 50.0, 6, edge, nearness)
    expected = written_out(array, 50.0, 6, edge, nearness)
    np.testing.assert_allclose(found, expected, rtol=0, atol=ITERATE_NOISE)


def test_diffusion_neither_makes_nor_loses_intensity_and_leaves_its_input_alone():
    array = noisy()
    before = array.copy()
    out = stepped(array, "anisotropic_diffusion", (3.0, 1.0, 1.0), kappa=80, dimensions=3)
    np.testing.assert_array_equal(array, before)
    assert out.mean(dtype=np.float64) == pytest.approx(array.mean(dtype=np.float64), rel=1e-6)
    assert array.min() <= out.min() <= out.max() <= array.max()
