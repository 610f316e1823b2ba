import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import zoom
from skimage.transform import resize

from tasks.imaging.spline import resize_cubic

FLOAT32_SUMS = 5e-6
"""Largest difference for values of about 4: some thirty float32 products an axis, three axes."""

sizes = st.tuples(*[st.integers(1, 70)] * 3)


def by_scipy(array, shape):
    return zoom(
        array.astype(np.float64),
        np.divide(shape, array.shape),
        order=3,
        grid_mode=True,
        mode="nearest",
    )


@settings(max_examples=40, deadline=None)
@given(source=sizes, shape=sizes, seed=st.integers(0, 9))
def test_cubic_resizing_equals_scipy_on_the_same_grid(source, shape, seed):
    array = np.random.default_rng(seed).normal(size=source)
    out = resize_cubic(array, shape)
    assert (out.shape, out.dtype) == (shape, np.float32)
    np.testing.assert_allclose(out, by_scipy(array, shape), rtol=0, atol=FLOAT32_SUMS)


@pytest.mark.parametrize("shape", [(40, 90, 130), (9, 200, 33), (30, 64, 400)])
def test_long_axes_are_cut_into_blocks_without_a_seam(shape):
    array = np.random.default_rng(0).normal(size=(30, 64, 150))
    np.testing.assert_allclose(
        resize_cubic(array, shape), by_scipy(array, shape), rtol=0, atol=FLOAT32_SUMS
    )


def test_cubic_resizing_equals_skimage():
    array = np.random.default_rng(1).normal(size=(12, 31, 40))
    peer = resize(array, (20, 17, 61), order=3, mode="edge", anti_aliasing=False, clip=False)
    np.testing.assert_allclose(resize_cubic(array, (20, 17, 61)), peer, rtol=0, atol=FLOAT32_SUMS)


def test_a_cubic_curve_is_met_exactly_away_from_the_edges():
    x = np.arange(60.0)
    curve = (x - 30) ** 3 / 9000 - (x - 20) ** 2 / 300
    out = resize_cubic(curve.reshape(1, 1, -1), (1, 1, 90))[0, 0]
    fine = (np.arange(90) + 0.5) * (60 / 90) - 0.5
    expected = (fine - 30) ** 3 / 9000 - (fine - 20) ** 2 / 300
    np.testing.assert_allclose(out[24:-24], expected[24:-24], rtol=0, atol=1e-5)


def test_the_same_shape_is_returned_untouched():
    array = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(resize_cubic(array, (3, 4, 5)), array)


def test_the_same_bytes_come_out_whatever_the_number_of_threads():
    program = (
        "import hashlib, numpy as np\n"
        "from tasks.imaging.spline import resize_cubic\n"
        "array = np.random.default_rng(0).normal(size=(40, 130, 210))\n"
        "print(hashlib.sha256(resize_cubic(array, (57, 170, 101))).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2", "3")
    }
    assert len(digests) == 1
