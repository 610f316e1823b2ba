"""Leaning and uneven stacks onto an upright, even grid, when somebody asks for it, and back.

A tilted gantry slides every slice within its own plane; stacked upright as they come, the slices
would show a patient who leans. Slices are shifted back by interpolation within the plane, then, if
their steps are uneven, interpolated between planes. Values are linear between neighbours, labels
are those of the nearest voxel.

All of it hangs on where each slice lies on the upright grid: ``at``, shape (z, 3), the index
(z, y, x) there of the first voxel of each source slice.
"""

from dataclasses import dataclass

import numpy as np

from tasks.archive.geometry import EVEN_TOLERANCE
from tasks.errors import BadCase

SLICE_POSITIONS = "slice_positions"
"""Fact of a stack that leans or is uneven: where the first voxel of each slice lies, LPS mm."""

MAX_GROWTH = 4.0
"""Voxels of the upright grid for each source voxel; more means a stack that hardly overlaps."""

ROUND_OFF = 1e-6
"""Share of a pixel that decimal positions miss whole shifts by; not worth a row of fill."""

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Upright:
    """An upright grid and where the slices of a stack lie on it."""

    at: np.ndarray
    """Index (z, y, x) of the first voxel of each slice, shape (z, 3)."""
    shape: Shape
    step: float
    """From plane to plane, mm."""


def upright_grid(
    positions: np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
    spacing: tuple[float, float],
    shape: Shape,
) -> Upright:
    """Return the upright even grid that holds all of a stack.

    Parameters
    ----------
    positions : array, shape (z, 3)
        Of the slices, in the order of the array, LPS mm.
    row, column : array, shape (3,)
        Unit vectors along x and y of the array.
    spacing : tuple of float
        Between rows and between columns, mm.
    shape : tuple of int
        (z, y, x) of the stack; at least two slices.

    Raises
    ------
    BadCase
        ``too_large`` when the upright grid is more than `MAX_GROWTH` times the source.
    """
    apart = np.asarray(positions, dtype=float) - positions[0]
    heights = apart @ _normal(row, column, apart[-1])
    shifts = np.stack([apart @ column / spacing[0], apart @ row / spacing[1]], axis=1)
    low = np.floor(shifts.min(axis=0) + ROUND_OFF).astype(int)
    high = np.ceil(shifts.max(axis=0) - ROUND_OFF).astype(int)
    levels, count, step = _levels(heights)
    grid = (count, int(shape[1] + high[0] - low[0]), int(shape[2] + high[1] - low[1]))
    growth = np.prod(grid, dtype=float) / np.prod(shape, dtype=float)
    if growth > MAX_GROWTH:
        raise BadCase("too_large", f"upright it is {growth:.1f} times as large, limit {MAX_GROWTH}")
    return Upright(np.column_stack([levels, shifts - low]), grid, step)


def upright_affine(affine: np.ndarray, at: np.ndarray, step: float) -> np.ndarray:
    """Return the affine of the upright grid, whose axes stand at right angles.

    Parameters
    ----------
    affine : array, shape (4, 4)
        Of the stack as it stands: index (z, y, x, 1) to LPS mm; its first column may lean.
    at : array, shape (z, 3)
    step : float
        From plane to plane, mm.
    """
    row, column = (v / np.linalg.norm(v) for v in (affine[:3, 2], affine[:3, 1]))
    out = np.array(affine, dtype=np.float64)
    out[:3, 0] = _normal(row, column, affine[:3, 0]) * step
    out[:3, 3] = affine[:3, 3] - out[:3, :3] @ np.asarray(at[0], dtype=np.float64)
    return out


def to_upright(array: np.ndarray, at: np.ndarray, shape: Shape, fill: float) -> np.ndarray:
    """Put slices on the upright grid, linearly.

    Parameters
    ----------
    array : array, shape (z, y, x)
    at : array, shape (z, 3)
    shape : tuple of int
        Of the upright grid.
    fill : float
        Value where no slice reaches.

    Returns
    -------
    array of float32, `shape`
    """
    planes = np.empty((len(array), *shape[1:]), dtype=np.float32)
    for plane, out, (_, down, right) in zip(array, planes, at, strict=True):
        out[...] = _shifted(_shifted(plane, shape[1], down, fill).T, shape[2], right, fill).T
    levels = at[:, 0]
    if _every_level(levels, shape[0]):
        return planes
    return _between(planes, levels, np.arange(shape[0], dtype=float))


def to_upright_nearest(labels: np.ndarray, at: np.ndarray, shape: Shape) -> np.ndarray:
    """Put labels on the upright grid: those of the nearest voxel, 0 where no slice reaches."""
    out = np.zeros(shape, dtype=labels.dtype)
    levels = at[:, 0]
    middles = (levels[1:] + levels[:-1]) / 2
    for plane, nearest in zip(out, np.searchsorted(middles, np.arange(shape[0])), strict=True):
        down, right = np.floor(at[nearest, 1:] + 0.5).astype(int)
        y, x = labels.shape[1:]
        plane[down : down + y, right : right + x] = labels[nearest]
    return out


def from_upright(array: np.ndarray, at: np.ndarray, shape: Shape, *, linear: bool) -> np.ndarray:
    """Bring values from the upright grid back to the slices as they stand.

    Parameters
    ----------
    array : array
        On the upright grid.
    at : array, shape (z, 3)
    shape : tuple of int
        (z, y, x) of the stack.
    linear : bool
        Linear in float32, else the nearest value in its own type.
    """
    out = np.empty(shape, dtype=np.float32 if linear else array.dtype)
    top = len(array) - 1
    for plane, (level, down, right) in zip(out, at, strict=True):
        # Even steps may end up to one step below the last slice: its nearest plane stands for it.
        height = min(max(level, 0.0), float(top))
        if not linear:
            y, x = int(np.floor(down + 0.5)), int(np.floor(right + 0.5))
            plane[...] = array[round(height), y : y + shape[1], x : x + shape[2]]
            continue
        below = min(int(height), top)
        share = np.float32(height - below)
        seen = array[below].astype(np.float32)
        if share > 0:
            seen = (1 - share) * seen + share * array[below + 1].astype(np.float32)
        plane[...] = _window(_window(seen, down, shape[1]).T, right, shape[2]).T
    return out


def straightened(
    array: np.ndarray,
    positions: np.ndarray,
    affine: np.ndarray,
    fill: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Put a stack on the upright even grid that holds all of it.

    Parameters
    ----------
    array : array, shape (z, y, x)
    positions : array, shape (z, 3)
        Of the slices, in the order of the array, LPS mm.
    affine : array, shape (4, 4)
        Of the stack as it stands.
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
        As `upright_grid`.
    """
    grid = grid_of(array.shape, positions, affine)
    return to_upright(array, grid.at, grid.shape, fill), upright_affine(affine, grid.at, grid.step)


def grid_of(shape: Shape, positions: np.ndarray, affine: np.ndarray) -> Upright:
    """Return the `upright_grid` of a stack by its affine."""
    height, width = np.linalg.norm(affine[:3, 1]), np.linalg.norm(affine[:3, 2])
    row, column = affine[:3, 2] / width, affine[:3, 1] / height
    return upright_grid(positions, row, column, (float(height), float(width)), shape)


def _normal(row: np.ndarray, column: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Return the unit normal on the side to which slices follow each other."""
    normal = np.cross(row, column)
    return normal if normal @ along >= 0 else -normal


def _levels(heights: np.ndarray) -> tuple[np.ndarray, int, float]:
    """Return the plane each slice lies at, how many planes there are, and their step in mm."""
    steps = np.diff(heights)
    mean = float(heights[-1] / len(steps))
    whole = np.arange(len(heights), dtype=float)
    if np.abs(whole * mean - heights).max() <= EVEN_TOLERANCE * mean:
        return whole, len(heights), mean
    # The lower median, as in the certificate: no slice is thinned out.
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    return heights / usual, int(np.floor(heights[-1] / usual + ROUND_OFF)) + 1, usual


def _every_level(levels: np.ndarray, count: int) -> bool:
    return len(levels) == count and np.array_equal(levels, np.arange(count))


def _shifted(plane: np.ndarray, length: int, shift: float, fill: float) -> np.ndarray:
    """Move a plane down its first axis by a number of pixels, into a longer one."""
    whole = int(np.floor(shift + ROUND_OFF))
    share = max(shift - whole, 0.0)
    at = np.full((length + 1, plane.shape[1]), fill, dtype=np.float32)
    at[whole : whole + len(plane)] = plane
    if share <= ROUND_OFF:
        return at[:length]
    moved = np.full_like(at, fill)
    moved[whole + 1 : whole + 1 + len(plane)] = plane
    return ((1 - share) * at + share * moved)[:length]


def _window(plane: np.ndarray, shift: float, length: int) -> np.ndarray:
    """Take rows from a plane beginning at a number of pixels; the inverse of `_shifted`."""
    whole = int(np.floor(shift + ROUND_OFF))
    share = np.float32(max(shift - whole, 0.0))
    rows = plane[whole : whole + length]
    if share <= ROUND_OFF:
        return rows
    return (1 - share) * rows + share * plane[whole + 1 : whole + 1 + length]


def _between(planes: np.ndarray, heights: np.ndarray, even: np.ndarray) -> np.ndarray:
    """Interpolate planes at given heights to even ones."""
    above = np.clip(np.searchsorted(heights, even), 1, len(heights) - 1)
    share = (even - heights[above - 1]) / (heights[above] - heights[above - 1])
    share = np.clip(share, 0, 1)[:, None, None].astype(np.float32)
    return (1 - share) * planes[above - 1] + share * planes[above]
