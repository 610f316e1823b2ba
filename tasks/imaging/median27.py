"""The median of 3 x 3 x 3 voxels by minima and maxima of whole planes.

Sorting along z, then y, then x leaves a cube of 27 values that rises along each axis.  Its value
at (i, j, k) is at least (i+1)(j+1)(k+1) of the 27 and at most (3-i)(3-j)(3-k), so that only 19 can
be the 14th.  Their median is found by forgetful selection (Knuth, The Art of Computer Programming
3, 5.3.3): of n/2 + 2 values neither the smallest nor the largest can be it; both go, one comes.
Sorted triples are shared by neighbouring voxels, and numpy compares many voxels an instruction.
"""

from itertools import product

import numpy as np

STRIP_VOXELS = 1 << 15
"""Voxels worked on at once: the 19 values of each then stay in the processor's cache."""

MIDDLE = 14
"""Rank of the median among 27."""

_CANDIDATES = tuple(
    (i, j, k)
    for i, j, k in product(range(3), repeat=3)
    if (i + 1) * (j + 1) * (k + 1) <= MIDDLE and (3 - i) * (3 - j) * (3 - k) <= MIDDLE
)


def median_of_27(array: np.ndarray) -> np.ndarray:
    """Return each voxel's median over 3 x 3 x 3, edges repeated; equal to scipy's.

    Parameters
    ----------
    array : ndarray (z, y, x)
        Integers are compared as they are, which is faster.

    Returns
    -------
    ndarray (z, y, x), float32
    """
    depth, rows, columns = array.shape
    out = np.empty(array.shape, np.float32)
    height = max(1, STRIP_VOXELS // (columns + 2))
    for z in range(depth):
        planes = [array[min(max(z + step, 0), depth - 1)] for step in (-1, 0, 1)]
        for top in range(0, rows, height):
            bottom = min(top + height, rows)
            out[z, top:bottom] = _strip(planes, top, bottom)
    return out


def _strip(planes: list[np.ndarray], top: int, bottom: int) -> np.ndarray:
    """Return the medians of some rows, given the planes below, at and above them."""
    rows = np.clip(np.arange(top - 1, bottom + 1), 0, planes[0].shape[0] - 1)
    padded = [np.pad(plane[rows], ((0, 0), (1, 1)), mode="edge") for plane in planes]
    along_z = _sorted(*padded)
    along_y = [_sorted(part[:-2], part[1:-1], part[2:]) for part in along_z]
    cube = [
        [_sorted(part[:, :-2], part[:, 1:-1], part[:, 2:]) for part in parts] for parts in along_y
    ]
    return _median_of([cube[i][j][k] for i, j, k in _CANDIDATES])


def _sorted(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the smallest, middle and largest of three arrays, voxel by voxel."""
    low, high = np.minimum(a, b), np.maximum(a, b)
    rest = np.minimum(high, c)
    np.maximum(high, c, out=high)
    middle = np.maximum(low, rest)
    np.minimum(low, rest, out=low)
    return low, middle, high


def _median_of(values: list[np.ndarray]) -> np.ndarray:
    """Return the median of an odd number of arrays, which are overwritten."""
    first = len(values) // 2 + 2
    held, coming = values[:first], values[first:]
    spare = np.empty_like(values[0])
    while len(held) > 1:
        spare = _move_ends_out(held, spare)
        held = held[1:-1]
        if coming:
            held.append(coming.pop())
    return held[0]


def _move_ends_out(held: list[np.ndarray], spare: np.ndarray) -> np.ndarray:
    """Bring the smallest value to the front and the largest to the end."""
    last = len(held) - 1
    pairs = [(at, last - at) for at in range(len(held) // 2)]
    pairs += [(0, at) for at in range(1, (len(held) + 1) // 2)]
    pairs += [(at, last) for at in range(len(held) // 2, last)]
    for low, high in pairs:
        np.minimum(held[low], held[high], out=spare)
        np.maximum(held[low], held[high], out=held[high])
        held[low], spare = spare, held[low]
    return spare
