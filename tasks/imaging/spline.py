"""Cubic B-spline interpolation as products with short matrices.

Interpolating along one axis is linear in the values, so it is a matrix; only the taps within
`REACH` voxels of a new centre matter, so the matrix is a band. The band is cut into blocks of rows
and each block is one BLAS product: the result of `scipy.ndimage` at a small share of its time.
"""

from functools import lru_cache

import numpy as np
from threadpoolctl import ThreadpoolController

from tasks.imaging.step import Shape

REACH = 14
"""Voxels on either side of a new centre that have a say: the weights of a cubic B-spline fall by
0.27 a voxel and are below 1e-8 there, less than float32 can tell."""

BLOCK = 32
"""Rows of the matrix in one product: large enough for BLAS, small enough to leave the zeros out."""

EDGE = 12
"""Copies of the first and last voxel put outside before the spline is solved, as scipy does for
mode ``nearest``; a few more or less would not be seen."""


def resize_cubic(array: np.ndarray, shape: Shape) -> np.ndarray:
    """Resize by cubic B-splines between voxel centres, edges repeated.

    Equal to ``scipy.ndimage.zoom(order=3, mode="nearest", grid_mode=True)`` and to
    ``skimage.transform.resize(order=3, mode="edge", clip=False)`` without smoothing, within
    float32. It interpolates, so values may overshoot those of the source at sharp edges.

    Parameters
    ----------
    array : ndarray (z, y, x)
    shape : tuple of int
        (z, y, x) wanted.

    Returns
    -------
    ndarray of float32, ``shape``

    References
    ----------
    Unser, Aldroubi, Eden. B-spline signal processing. IEEE Trans. Signal Process. 41, 1993.
    """
    array = np.ascontiguousarray(array, dtype=np.float32)
    # Products that are cut among threads are rounded otherwise on some processors.
    with _pools().limit(limits=1, user_api="blas"):
        # Axes that shrink most come first: the others then have less to do.
        for axis in sorted(range(3), key=lambda axis: shape[axis] / array.shape[axis]):
            if array.shape[axis] != shape[axis]:
                array = _along(array, axis, shape[axis])
    return array


@lru_cache(maxsize=1)
def _pools() -> ThreadpoolController:
    """Return the pools of the libraries that are loaded; looking for them takes a millisecond."""
    return ThreadpoolController()


def _along(array: np.ndarray, axis: int, new: int) -> np.ndarray:
    """Resize one axis; ``array`` is float32 and contiguous."""
    old = array.shape[axis]
    out = np.empty((*array.shape[:axis], new, *array.shape[axis + 1 :]), np.float32)
    if axis == 2:
        source, target = array.reshape(-1, old), out.reshape(-1, new)
        for rows, taps, weights in _band(old, new):
            np.matmul(source[:, taps], weights.T, out=target[:, rows])
        return out
    # A slice of rows of a (lines, length) plane: one plane for z, one a slice for y.
    planes = (1, old, -1) if axis == 0 else array.shape
    source, target = array.reshape(planes), out.reshape((planes[0], new, -1))
    for rows, taps, weights in _band(old, new):
        np.matmul(weights, source[:, taps], out=target[:, rows])
    return out


@lru_cache(maxsize=64)
def _band(old: int, new: int) -> tuple[tuple[slice, slice, np.ndarray], ...]:
    """Return blocks (new voxels, old voxels, float32 weights) of the matrix from old to new."""
    weights = _matrix(old, new)
    centres = _centres(old, new)
    blocks = []
    for start in range(0, new, BLOCK):
        stop = min(start + BLOCK, new)
        low = max(int(np.floor(centres[start])) - REACH, 0)
        high = min(int(np.ceil(centres[stop - 1])) + REACH + 1, old)
        block = weights[start:stop, low:high].astype(np.float32)
        blocks.append((slice(start, stop), slice(low, high), np.ascontiguousarray(block)))
    return tuple(blocks)


def _centres(old: int, new: int) -> np.ndarray:
    """Return where the centres of the new voxels lie among the old, in voxels."""
    return (np.arange(new) + 0.5) * (old / new) - 0.5


def _matrix(old: int, new: int) -> np.ndarray:
    """Return the whole matrix (new, old) in float64: spline coefficients, then four pieces."""
    from scipy.ndimage import spline_filter1d

    padded = np.pad(np.eye(old), ((EDGE, EDGE), (0, 0)), mode="edge")
    coefficients = spline_filter1d(padded, order=3, axis=0, mode="mirror")
    centres = _centres(old, new)
    first = np.floor(centres).astype(int)
    t = (centres - first)[:, None]
    pieces = (
        (1 - t) ** 3 / 6,
        2 / 3 - t**2 + t**3 / 2,
        2 / 3 - (1 - t) ** 2 + (1 - t) ** 3 / 2,
        t**3 / 6,
    )
    return sum(
        piece * coefficients[first + EDGE - 1 + offset] for offset, piece in enumerate(pieces)
    )
