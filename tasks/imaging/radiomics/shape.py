"""Shape of a region (IBSI family HCUG): 23 numbers from its mesh, its voxels and its hull.

IBSI defines shape in space only; a region in one slice is a slab of that slice's thickness.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tasks.imaging.radiomics.intensity import ratio, total
from tasks.imaging.radiomics.region import Region

CODES: Mapping[str, str] = {
    "volume": "RNU0",
    "voxel_volume": "YEKZ",
    "surface_area": "C0JK",
    "surface_to_volume_ratio": "2PR5",
    "compactness_1": "SKGS",
    "compactness_2": "BQWJ",
    "spherical_disproportion": "KRCK",
    "sphericity": "QCFX",
    "asphericity": "25C7",
    "centre_of_mass_shift": "KLMA",
    "maximum_3d_diameter": "L0JK",
    "major_axis_length": "TDIC",
    "minor_axis_length": "P9VJ",
    "least_axis_length": "7J51",
    "elongation": "Q3CK",
    "flatness": "N17B",
    "volume_density_box": "PBX1",
    "area_density_box": "R59B",
    "volume_density_ellipsoid": "6BDE",
    "area_density_ellipsoid": "RDD2",
    "volume_density_hull": "R3ER",
    "area_density_hull": "7T7F",
    "integrated_intensity": "99N0",
}
"""Name of each number and its IBSI code."""

SERIES_TERMS = 20
"""Legendre terms of an ellipsoid's surface: IBSI finds 20 sufficient."""

TRIANGLES_AT_ONCE = 1 << 16
"""Triangles whose area or tetrahedra are computed together: some 10 MB."""

CORNERS_AT_ONCE = 256
"""Corners of the hull compared with all others together: a large region's hull has thousands."""

ISO_LEVEL = 0.5
"""Where the surface stands between a voxel in (1) and a voxel out (0), as IBSI asks."""


@dataclass(frozen=True, eq=False)
class _Surface:
    """A closed mesh around the region: corners (n, 3) in mm, triangles (m, 3) of their numbers."""

    corners: np.ndarray
    triangles: np.ndarray

    @property
    def area(self) -> float:
        """Square millimetres."""
        return self._sum(lambda a, b, c: np.linalg.norm(np.cross(b - a, c - a), axis=1)) / 2

    @property
    def volume(self) -> float:
        """Cubic millimetres: the signed tetrahedra between the triangles and the origin."""
        return abs(self._sum(lambda a, b, c: (a * np.cross(b, c)).sum(axis=1))) / 6

    def _sum(self, of: Callable[..., np.ndarray]) -> float:
        pieces = range(0, len(self.triangles), TRIANGLES_AT_ONCE)
        chosen = (self.triangles[k : k + TRIANGLES_AT_ONCE] for k in pieces)
        return math.fsum(
            float(of(*(self.corners[piece[:, k]] for k in range(3))).sum()) for piece in chosen
        )


def shape(region: Region) -> dict[str, float]:
    """Return the shape of a region, by the names of `CODES`; lengths in mm.

    Notes
    -----
    The box is aligned with the image's own axes.  Centre of mass shift and integrated intensity
    use the intensities that count; a ratio without a denominator is nan (the elongation of one
    voxel).  Moran's I, Geary's C and the two densities of minimal boxes and ellipsoids are left
    out: the first two grow with the square of the voxels, the others have no consensus value.
    """
    surface = _mesh(region)
    volume, area = surface.volume, surface.area
    axes = _axis_lengths(region)
    extent = np.ptp(surface.corners, axis=0)
    found = {
        "volume": volume,
        "voxel_volume": float(region.mask.sum() * region.spacing.prod()),
        "surface_area": area,
        **_roundness(volume, area),
        "centre_of_mass_shift": _centre_shift(region),
        **_hull(surface, volume, area),
        "major_axis_length": axes[0],
        "minor_axis_length": axes[1],
        "least_axis_length": axes[2],
        "elongation": ratio(axes[1], axes[0]),
        "flatness": ratio(axes[2], axes[0]),
        "volume_density_box": volume / float(extent.prod()),
        "area_density_box": area / float(2 * (extent * np.roll(extent, 1)).sum()),
        "volume_density_ellipsoid": ratio(volume, np.pi / 6 * axes[0] * axes[1] * axes[2]),
        "area_density_ellipsoid": ratio(area, _ellipsoid_area(*(length / 2 for length in axes))),
        "integrated_intensity": _mean(region.values) * volume,
    }
    return {name: found[name] for name in CODES}


def _mean(values: np.ndarray) -> float:
    return total(values, np.asarray) / values.size


def _mesh(region: Region) -> _Surface:
    from skimage.measure import marching_cubes

    solid = np.pad(region.mask, 1).astype(np.float32)
    corners, triangles, _, _ = marching_cubes(solid, ISO_LEVEL)
    return _Surface(corners.astype(np.float64) * region.spacing, triangles)


def _roundness(volume: float, area: float) -> dict[str, float]:
    same_ball = (36 * np.pi * volume**2) ** (1 / 3)
    return {
        "surface_to_volume_ratio": area / volume,
        "compactness_1": float(volume / (np.sqrt(np.pi) * area**1.5)),
        "compactness_2": float(36 * np.pi * volume**2 / area**3),
        "spherical_disproportion": area / same_ball,
        "sphericity": same_ball / area,
        "asphericity": float((area**3 / (36 * np.pi * volume**2)) ** (1 / 3) - 1),
    }


def _centre_shift(region: Region) -> float:
    """Return the distance of the centre of mass from the middle of the voxels, in mm."""
    weight = np.where(region.counted, region.array, 0)
    total = weight.sum(dtype=np.float64)
    if total == 0:
        return float("nan")
    shift = []
    for axis, spacing in enumerate(region.spacing):
        others = tuple(other for other in range(3) if other != axis)
        place = np.arange(region.array.shape[axis])
        middle = (place * region.mask.sum(axis=others)).sum() / region.mask.sum()
        mass = (place * weight.sum(axis=others, dtype=np.float64)).sum() / total
        shift.append((middle - mass) * spacing)
    return float(np.linalg.norm(shift))


def _axis_lengths(region: Region) -> tuple[float, float, float]:
    """Return four standard deviations along the principal axes, longest first, in mm.

    The covariance is the sample's (divided by n - 1): only so the consensus values are met.  Sums
    of whole numbers, a slice at a time: exact, and without a list of all voxels.
    """
    count, first = 0, np.zeros(3, dtype=np.int64)
    second = np.zeros((3, 3), dtype=np.int64)
    for z, plane in enumerate(region.mask):
        y, x = np.nonzero(plane)
        points = np.stack([np.full(len(y), z), y, x])
        count += len(y)
        first += points.sum(axis=1)
        second += points @ points.T
    mean = first / count
    scatter = (second - np.outer(first, mean)) / max(1, count - 1)
    covariance = scatter * np.outer(region.spacing, region.spacing)
    spread = np.clip(np.linalg.eigvalsh(covariance)[::-1], 0, None)
    # A slab has no spread across it; what is left there is rounding.
    spread[spread < spread[0] * np.finfo(np.float64).eps * count] = 0
    return tuple((4 * np.sqrt(spread)).tolist())


def _hull(surface: _Surface, volume: float, area: float) -> dict[str, float]:
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import cdist

    hull = ConvexHull(surface.corners)
    ends = surface.corners[hull.vertices]
    pieces = (ends[k : k + CORNERS_AT_ONCE] for k in range(0, len(ends), CORNERS_AT_ONCE))
    diameter = max(float(cdist(piece, ends).max()) for piece in pieces)
    return {
        "maximum_3d_diameter": diameter,
        "volume_density_hull": volume / float(hull.volume),
        "area_density_hull": area / float(hull.area),
    }


def _ellipsoid_area(a: float, b: float, c: float) -> float:
    """Return the surface of an ellipsoid with half axes a >= b >= c by IBSI's series.

    With s = alpha beta and u = (alpha^2 + beta^2) / 2 the terms s^n P_n(u / s) follow from the
    recurrence of Legendre's polynomials without a division, so that a ball is no special case.
    """
    if a == 0:
        return 0.0
    alpha, beta = 1 - (b / a) ** 2, 1 - (c / a) ** 2
    u, squared = (alpha + beta) / 2, alpha * beta
    before, now = 1.0, u
    total = before + now / (1 - 4)
    for n in range(1, SERIES_TERMS):
        before, now = now, ((2 * n + 1) * u * now - n * squared * before) / (n + 1)
        total += now / (1 - 4 * (n + 1) ** 2)
    return 4 * np.pi * a * b * total
