"""Slice order, spacing and the affine of a stack of images, from positions alone.

InstanceNumber, SliceThickness and the sequence of the files are never asked: only Image Position
(Patient) and Image Orientation (Patient), DICOM PS3.3 C.7.6.2.1.1. World coordinates are LPS
millimetres; voxel indices are (z, y, x).
"""

import numpy as np

from tasks.archive.certificate import EVEN_TOLERANCE, TILT_TOLERANCE_DEG, Certificate, how_to_mend
from tasks.errors import BadCase

UNIT_TOLERANCE = 1e-3
"""Direction cosines may miss length one and right angles by this much: they are decimal strings."""

ORIENTATION_TOLERANCE_DEG = 0.1
"""Slices turned against each other by more than this are not one stack (0.4 mm at 250 mm)."""

SAME_POSITION_MM = 1e-2
"""Slices nearer than this along the normal lie at one position: no scanner makes 10 um slices."""

MULTIPLE_TOLERANCE = 0.1
"""A step within this share of a whole multiple of the usual one is a gap of missing slices."""

FARTHEST_MM = 1e6
"""No scanner is a kilometre long: what is larger is damage, and its squares overflow."""

OBLIQUE_DEG = 10.0
"""A normal farther than this from every body axis is called oblique."""

PLANES = ("sagittal", "coronal", "axial")
"""Name of the plane whose normal runs along the x, y and z axis of the patient."""

UNKNOWN_SLICE_SPACING_MM = 1.0
"""Depth of the voxel of a single slice: one position gives no spacing."""


def certify(
    positions: np.ndarray,
    row_cosine: np.ndarray,
    column_cosine: np.ndarray,
    pixel_spacing: tuple[float, float],
) -> tuple[Certificate, np.ndarray]:
    """Order the slices of a series along their normal and judge whether they form a volume.

    Parameters
    ----------
    positions : array, shape (n, 3)
        Centre of the first voxel of each slice, LPS mm (Image Position (Patient)).
    row_cosine, column_cosine : array, shape (3,) or (n, 3)
        Direction along a row (x index rising) and along a column (y index rising).
    pixel_spacing : tuple of float
        Distance between rows and between columns in mm (Pixel Spacing).

    Returns
    -------
    Certificate
        The judgement; it does not depend on the sequence of the files.
    order : array of int, shape (n,)
        Indices that sort the slices ascending along row x column.

    Raises
    ------
    BadCase
        ``invalid_geometry`` when a value is not finite or the cosines are not two unit vectors at
        a right angle.
    """
    places = np.atleast_2d(np.asarray(positions, dtype=np.float64))
    rows, columns = (_per_slice(c, len(places)) for c in (row_cosine, column_cosine))
    _check(places, rows, columns, pixel_spacing)
    row, column = _typical(rows), _typical(columns)
    normal = np.cross(row, column)
    height = _along(places, normal)
    order = np.lexsort((places[:, 2], places[:, 1], places[:, 0], height))
    sorted_places = places[order]
    step = stack_step(sorted_places, normal)
    steps = np.diff(height[order])
    gaps = _gaps(steps)
    duplicates = int(np.sum(steps < SAME_POSITION_MM))
    tilt = _angle_deg(step, normal) if len(places) > 1 and not duplicates else 0.0
    jitter = _jitter(sorted_places, step) if not gaps and not duplicates else _spread(steps)
    turned = max(_most_turned(rows, row), _most_turned(columns, column))
    depth = float(np.linalg.norm(step))
    verdict, reason = _judge(len(places), turned, steps, gaps, tilt, jitter / max(depth, 1e-9))
    certificate = Certificate(
        n_frames=len(places),
        orientation=plane_of(normal),
        spacing=(depth, float(pixel_spacing[0]), float(pixel_spacing[1])),
        jitter_mm=float(jitter),
        gaps=gaps,
        duplicates=duplicates,
        tilt_deg=float(tilt),
        verdict=verdict,
        reason=reason,
        how=how_to_mend(reason, tilt, depth),
    )
    return certificate, order


def affine_from(
    positions: np.ndarray,
    row_cosine: np.ndarray,
    column_cosine: np.ndarray,
    pixel_spacing: tuple[float, float],
) -> np.ndarray:
    """Return the 4x4 matrix from index (z, y, x, 1) to LPS mm (x, y, z, 1).

    Parameters
    ----------
    positions : array, shape (n, 3)
        Positions in ascending order along row x column (the order `certify` gives), LPS mm.
    row_cosine, column_cosine, pixel_spacing
        As for `certify`; one orientation for all slices is enough.

    Notes
    -----
    DICOM PS3.3 C.7.6.2.1-1 with a third column. The step between slices is the mean step between
    the positions, so a tilted stack keeps its shear and stays right in world space.
    """
    places = np.atleast_2d(np.asarray(positions, dtype=np.float64))
    row, column = (_typical(_per_slice(c, len(places))) for c in (row_cosine, column_cosine))
    affine = np.eye(4)
    affine[:3, 0] = stack_step(places, np.cross(row, column))
    affine[:3, 1] = column * float(pixel_spacing[0])
    affine[:3, 2] = row * float(pixel_spacing[1])
    affine[:3, 3] = places[0]
    return affine


def stack_step(places: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Return the vector (mm) from one slice to the next of sorted positions, shape (n, 3)."""
    step = (places[-1] - places[0]) / max(len(places) - 1, 1)
    flat = np.linalg.norm(step) < SAME_POSITION_MM
    return normal * UNKNOWN_SLICE_SPACING_MM if flat else step


def spacing_of(affine: np.ndarray) -> tuple[float, float, float]:
    """Return the voxel size (z, y, x) in mm of an index affine."""
    z, y, x = np.linalg.norm(np.asarray(affine)[:3, :3], axis=0)
    return float(z), float(y), float(x)


def plane_of(normal: np.ndarray) -> str:
    """Return the name of the plane whose normal is given, e.g. ``"axial"``."""
    size = np.abs(np.asarray(normal, dtype=np.float64))
    axis = int(np.argmax(size))
    angle = np.degrees(np.arccos(np.clip(size[axis] / np.linalg.norm(size), 0, 1)))
    return ("oblique " if angle > OBLIQUE_DEG else "") + PLANES[axis]


def _judge(
    n: int,
    turned_deg: float,
    steps: np.ndarray,
    gaps: tuple[tuple[int, int], ...],
    tilt_deg: float,
    unevenness: float,
) -> tuple[str, str]:
    """Return verdict and reason; the first that applies, gravest first."""
    if n == 1:
        return "accept", "single_slice"
    if turned_deg > ORIENTATION_TOLERANCE_DEG:
        return "quarantine", "mixed_orientation"
    if np.any(steps < SAME_POSITION_MM):
        return "quarantine", _repeated(steps)
    if gaps:
        return "quarantine", "missing_slices"
    if unevenness > EVEN_TOLERANCE:
        return "resample", "uneven_spacing"
    if tilt_deg > TILT_TOLERANCE_DEG:
        return "resample", "gantry_tilt"
    return "accept", ""


def _repeated(steps: np.ndarray) -> str:
    """Tell a repeated acquisition (each position equally often) from stray duplicates."""
    place = np.concatenate([[0], np.cumsum(steps >= SAME_POSITION_MM)])
    counts = np.bincount(place)
    return "needs_4d_grouping" if counts.min() == counts.max() else "duplicate_positions"


def _gaps(steps: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Find steps that are a whole multiple (two or more) of the usual one."""
    apart = np.sort(steps[steps >= SAME_POSITION_MM])
    if not len(apart):
        return ()
    # The lower median: with one slice missing of four, half the steps are the long one.
    usual = apart[(len(apart) - 1) // 2]
    multiple = steps / usual
    whole = np.round(multiple)
    is_gap = (whole >= 2) & (np.abs(multiple - whole) <= MULTIPLE_TOLERANCE * whole)
    return tuple((int(i), int(whole[i]) - 1) for i in np.flatnonzero(is_gap))


def _per_slice(cosine: np.ndarray, n: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(cosine, dtype=np.float64), (n, 3))


def _typical(vectors: np.ndarray) -> np.ndarray:
    """Return the median direction, which does not depend on the order of the slices."""
    middle = np.median(vectors, axis=0)
    length = np.linalg.norm(middle)
    return middle / length if length > UNIT_TOLERANCE else vectors[np.lexsort(vectors.T)[0]]


def _along(places: np.ndarray, direction: np.ndarray) -> np.ndarray:
    # Written out: a matrix product may round differently when the rows stand in another order.
    x, y, z = direction
    return places[:, 0] * x + places[:, 1] * y + places[:, 2] * z


def _jitter(places: np.ndarray, step: np.ndarray) -> float:
    even = places[0] + np.arange(len(places))[:, None] * step
    return float(np.max(np.linalg.norm(places - even, axis=1)))


def _spread(steps: np.ndarray) -> float:
    return float(np.max(np.abs(steps - np.median(steps))))


def _most_turned(vectors: np.ndarray, reference: np.ndarray) -> float:
    return float(_angle_deg(vectors, reference).max())


def _angle_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # atan2 keeps small angles exact where arccos of nearly one would not.
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), a @ b))


def _check(
    places: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    pixel_spacing: tuple[float, float],
) -> None:
    spacing = np.asarray(pixel_spacing, dtype=np.float64)
    if not all(np.all(np.isfinite(v)) for v in (places, rows, columns, spacing)):
        raise BadCase("invalid_geometry", "a position, direction or spacing is not a number")
    if spacing.shape != (2,) or np.any(spacing <= 0):
        raise BadCase("invalid_geometry", f"pixel spacing {spacing.tolist()} must be two sizes > 0")
    if max(np.abs(places).max(), spacing.max()) > FARTHEST_MM:
        raise BadCase("invalid_geometry", f"a position or spacing is over {FARTHEST_MM:.0e} mm")
    lengths = np.concatenate([np.linalg.norm(rows, axis=1), np.linalg.norm(columns, axis=1)])
    skew = np.abs(np.sum(rows * columns, axis=1)).max()
    if np.abs(lengths - 1).max() > UNIT_TOLERANCE or skew > UNIT_TOLERANCE:
        raise BadCase(
            "invalid_geometry",
            f"direction cosines miss unit length or a right angle by more than {UNIT_TOLERANCE}",
        )
