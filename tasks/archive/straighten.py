"""Leaning and uneven stacks onto an upright, even grid, when somebody asks for it.

A tilted gantry slides every slice within its own plane; stacked upright as they come, the slices
would show a patient who leans. Slices are shifted back by interpolation within the plane, then, if
their steps are uneven, interpolated between planes. Values are linear between neighbours.
"""

import numpy as np

from tasks.archive.geometry import EVEN_TOLERANCE
from tasks.errors import BadCase

MAX_GROWTH = 4.0
"""Voxels of the upright grid for each source voxel; more means a stack that hardly overlaps."""


def straightened(
    array: np.ndarray,
    positions: np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
    spacing: tuple[float, float],
    fill: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Put a stack on the upright even grid that holds all of it.

    Parameters
    ----------
    array : array, shape (z, y, x)
    positions : array, shape (z, 3)
        Of the slices, ascending along row x column, LPS mm.
    row, column : array, shape (3,)
        Unit vectors along x and y of the array.
    spacing : tuple of float
        Between rows and between columns, mm.
    fill : float
        Value where no slice reaches.

    Returns
    -------
    array of float32, shape (z', y', x')
    affine, shape (4, 4)
        Index (z, y, x, 1) to LPS mm; its axes stand at right angles.

    Raises
    ------
    BadCase
        ``too_large`` when the upright grid is more than `MAX_GROWTH` times the source.
    """
    normal = np.cross(row, column)
    apart = np.asarray(positions, dtype=float) - positions[0]
    shifts = np.stack([apart @ column / spacing[0], apart @ row / spacing[1]], axis=1)
    heights = apart @ normal
    low = np.floor(shifts.min(axis=0) + _ROUND_OFF).astype(int)
    high = np.ceil(shifts.max(axis=0) - _ROUND_OFF).astype(int)
    shape = (array.shape[1] + high[0] - low[0], array.shape[2] + high[1] - low[1])
    even = _even_heights(heights)
    growth = len(even) * shape[0] * shape[1] / array.size
    if growth > MAX_GROWTH:
        raise BadCase("too_large", f"upright it is {growth:.1f} times as large, limit {MAX_GROWTH}")
    upright = np.empty((len(array), *shape), dtype=np.float32)
    for plane, out, shift in zip(array, upright, shifts - low, strict=True):
        out[...] = _shifted(_shifted(plane, shape[0], shift[0], fill).T, shape[1], shift[1], fill).T
    step = even[1] - even[0]
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = (
        normal * step, column * spacing[0], row * spacing[1],
    )  # fmt: skip
    affine[:3, 3] = positions[0] + affine[:3, 1] * low[0] + affine[:3, 2] * low[1]
    return _between(upright, heights, even), affine


_ROUND_OFF = 1e-6
"""Share of a pixel that decimal positions miss whole shifts by; not worth a row of fill."""


def _even_heights(heights: np.ndarray) -> np.ndarray:
    """Return the heights as they are when even, else even ones at the usual step."""
    steps = np.diff(heights)
    mean = heights[-1] / len(steps)
    even = np.arange(len(heights)) * mean
    if np.abs(even - heights).max() <= EVEN_TOLERANCE * mean:
        return even
    # The lower median, as in the certificate: no slice is thinned out.
    usual = np.sort(steps)[(len(steps) - 1) // 2]
    return np.arange(int(np.floor(heights[-1] / usual + _ROUND_OFF)) + 1) * usual


def _shifted(plane: np.ndarray, length: int, shift: float, fill: float) -> np.ndarray:
    """Move a plane down its first axis by a number of pixels, into a longer one."""
    whole = int(np.floor(shift + _ROUND_OFF))
    share = max(shift - whole, 0.0)
    at = np.full((length + 1, plane.shape[1]), fill, dtype=np.float32)
    at[whole : whole + len(plane)] = plane
    if share <= _ROUND_OFF:
        return at[:length]
    moved = np.full_like(at, fill)
    moved[whole + 1 : whole + 1 + len(plane)] = plane
    return ((1 - share) * at + share * moved)[:length]


def _between(planes: np.ndarray, heights: np.ndarray, even: np.ndarray) -> np.ndarray:
    """Interpolate planes at given heights to even ones."""
    if len(even) == len(heights) and np.abs(even - heights).max() <= EVEN_TOLERANCE * even[1]:
        return planes
    above = np.clip(np.searchsorted(heights, even), 1, len(heights) - 1)
    share = (even - heights[above - 1]) / (heights[above] - heights[above - 1])
    share = np.clip(share, 0, 1)[:, None, None].astype(np.float32)
    return (1 - share) * planes[above - 1] + share * planes[above]
