"""Distances between the surfaces of two masks, in mm, with the area each distance stands for.

A surface element lies between eight voxels (four in a plane) of which some are inside and some are
not. Its area is that of the marching-cubes triangles there, so that a coarse axis or a slanted
surface does not count twice (Nikolov et al. 2021, the definition that BraTS uses too).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

CORNERS = tuple(np.ndindex(2, 2, 2))
"""Corners of a cell, in the order of the bits of its code."""

TOLERANCE_ROUNDING = 1e-5
"""Share by which a distance may pass the tolerance: distances are of single precision."""

PERCENTILE = 0.95
"""Of the surface's area, in HD95."""


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """From each element of one surface to the nearest of the other (mm), and its area (mm^2)."""

    of_truth: np.ndarray
    of_prediction: np.ndarray
    area_truth: np.ndarray
    area_prediction: np.ndarray


def surface_distances(truth, prediction, spacing: Sequence[float]) -> SurfaceDistances:
    """Measure from each surface to the other, exactly.

    Parameters
    ----------
    truth, prediction : bool arrays (z, y, x), neither of them empty
        An axis of one voxel is a plane: its masks are bounded by lines.
    spacing : three floats, mm

    Raises
    ------
    ValueError
        When a mask is empty: no distance answers for it, a policy must.
    """
    import edt

    truth, prediction = np.asarray(truth, bool), np.asarray(prediction, bool)
    if not truth.any() or not prediction.any():
        raise ValueError("an empty mask has no surface; answer by the policy for empty masks")
    box, flat = _box_of(truth, prediction), [size == 1 for size in truth.shape]
    codes_t, codes_p = _codes(truth[box], flat), _codes(prediction[box], flat)
    on_t, on_p = _on_surface(codes_t), _on_surface(codes_p)
    mm = tuple(float(step) for step in spacing)
    to_prediction = edt.edt(~on_p, anisotropy=mm, black_border=False, parallel=1)[on_t]
    to_truth = edt.edt(~on_t, anisotropy=mm, black_border=False, parallel=1)[on_p]
    area = _areas(mm)
    return SurfaceDistances(to_prediction, to_truth, area[codes_t[on_t]], area[codes_p[on_p]])


def hd95(found: SurfaceDistances) -> float:
    """Return the larger of the two distances within which 95 % of a surface's area lies, in mm."""
    return max(
        _within(found.of_truth, found.area_truth),
        _within(found.of_prediction, found.area_prediction),
    )


def nsd(found: SurfaceDistances, tolerance: float) -> float:
    """Return the share of both surfaces that lies within `tolerance` (mm) of the other."""
    reach = tolerance * (1 + TOLERANCE_ROUNDING)
    near = found.area_truth[found.of_truth <= reach].sum()
    near += found.area_prediction[found.of_prediction <= reach].sum()
    return float(near / (found.area_truth.sum() + found.area_prediction.sum()))


def _within(distance: np.ndarray, area: np.ndarray) -> float:
    order = np.argsort(distance, kind="stable")
    share = np.cumsum(area[order]) / area.sum()
    place = np.searchsorted(share, PERCENTILE)
    return float(distance[order][min(place, len(order) - 1)])


def _box_of(*masks: np.ndarray) -> tuple[slice, ...]:
    """Return the box that holds all masks; nothing outside can change a distance."""
    slices = []
    for axis in range(masks[0].ndim):
        others = tuple(a for a in range(masks[0].ndim) if a != axis)
        there = np.flatnonzero(np.any([mask.any(others) for mask in masks], axis=0))
        slices.append(slice(int(there[0]), int(there[-1]) + 1))
    return tuple(slices)


def _codes(mask: np.ndarray, flat: Sequence[bool]) -> np.ndarray:
    """Return which corners of each cell are inside, as bits: uint8, one cell more an axis.

    Along a flat axis the plane is repeated, so that it is bounded by walls and has no lids.
    """
    padded = np.pad(mask, [(0, 0) if plane else (1, 1) for plane in flat])
    padded = np.pad(padded, [(0, 1) if plane else (0, 0) for plane in flat], mode="edge")
    bits, cells = padded.view(np.uint8), [size - 1 for size in padded.shape]
    codes = np.zeros(cells, np.uint8)
    for bit, corner in enumerate(CORNERS):
        at = tuple(slice(c, c + n) for c, n in zip(corner, cells, strict=True))
        codes |= bits[at] << np.uint8(bit)
    return codes


def _on_surface(codes: np.ndarray) -> np.ndarray:
    return (codes != 0) & (codes != 255)


@lru_cache(maxsize=256)
def _areas(spacing: tuple[float, float, float]) -> np.ndarray:
    """Return the area (mm^2) of the surface in a cell, by its code: (256,) float."""
    areas = np.zeros(256)
    for code, triangles in enumerate(_triangles()):
        edges = triangles[:, 1:] - triangles[:, :1]
        areas[code] = np.linalg.norm(np.cross(*(edges * spacing).swapaxes(0, 1)), axis=1).sum() / 2
    return areas


@lru_cache(maxsize=1)
def _triangles() -> tuple[np.ndarray, ...]:
    """Return the marching-cubes triangles (n, 3, 3) of each code on a cell of side 1."""
    from skimage.measure import marching_cubes

    found = [np.zeros((0, 3, 3))]
    for code in range(1, 255):
        # A cell and its negative have one surface: the one of the fewer corners.
        few = code if code.bit_count() <= 4 else 255 - code
        cell = np.array([few >> bit & 1 for bit in range(8)], np.float32).reshape(2, 2, 2)
        places, faces, _, _ = marching_cubes(cell, 0.5, method="lorensen")
        found.append(places[faces].astype(np.float64))
    return (*found, np.zeros((0, 3, 3)))
