"""Rigid and affine registration of one image onto another in world millimetres.

Mattes mutual information (IEEE Trans. Med. Imaging 22, 2003), so the contrasts may differ; from
coarse to fine; of seeded samples on one thread, so the same images give the same bytes.  The
optimiser's word is not taken for it: the result is judged by a figure of its own, and refused when
the images do not explain each other or the motion is not one of a patient between two series.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tasks.errors import BadCase
from tasks.imaging.information import Information, clip_tails, information
from tasks.imaging.pyramid import Kind, search
from tasks.imaging.regrid import resample_onto, to_itk
from tasks.imaging.step import Image

if TYPE_CHECKING:
    from SimpleITK import Image as ItkImage

JUDGED_VOXELS = 1_000_000
"""About as many voxels decide the quality: enough for four digits."""

LEAST_JUDGED = 500
"""With fewer voxels in common nothing can be said, and the quality is 0."""

LEAST_QUALITY = 0.04
"""Normalised mutual information below which images do not explain each other: unrelated noise has
less than 0.01, registered contrasts of one head 0.1 or more."""

LEAST_OVERLAP = 0.5
"""Least share of the smaller image that must lie within the other."""

MOST_SHIFT_MM = 60.0
"""Longest way of the image's centre: between series of one study the patient stays on the table."""

MOST_ROTATION_DEG = 30.0
"""Largest turn: a head coil leaves room for no more."""

MOST_SCALE = 1.25
"""Largest stretch, and its inverse the largest shrinking, of an affine match along any direction:
scanners are calibrated to within a few percent."""

LEAST_SLICES = 5
"""Fewer slices do not show motion through their plane."""

SAME_PLANE_DEG, SAME_PLANE_MM = 0.1, 1.0
"""Single slices may lean by this much (0.4 mm at 250 mm), and lie this far apart: motion through
their plane cannot be seen in them."""


@dataclass(frozen=True)
class Registration:
    """How one image lies on another.

    Parameters
    ----------
    matrix : ndarray (4, 4), float64
        Takes a place in the fixed image (LPS mm) to the place of the same tissue in the moving one:
        the direction in which `resample_onto` asks.  Its inverse brings masks back.
    kind : {"rigid", "affine"}
    metric_before, metric_after : float
        Mutual information in nats, higher is better, where the headers put the images and where
        they were found to lie.
    quality : float
        Normalised mutual information after, 0 (unrelated) to 1 (each grey names the other's).
    overlap : float
        Share of the smaller image that lies within the other, 0 to 1.
    iterations : int
        Steps of the optimiser over all levels.
    shift_mm, rotation_deg : float
        Way of the centre of the fixed image, and the turn about it.
    """

    matrix: np.ndarray
    kind: Kind
    metric_before: float
    metric_after: float
    quality: float
    overlap: float
    iterations: int
    shift_mm: float
    rotation_deg: float


def register(fixed: Image, moving: Image, kind: Kind = "rigid") -> Registration:
    """Find where an image lies on another.

    Both begin where their affines put them, or with their centres of brightness on each other,
    whichever explains more.  Two single slices of one plane are registered within it.

    Parameters
    ----------
    fixed, moving : Image
        Of one patient; any contrasts, grids and orientations.
    kind : {"rigid", "affine"}

    Raises
    ------
    BadCase
        ``registration_failed`` when the images do not explain each other, overlap too little, or
        the motion is larger than a patient's; ``constant_image`` when one shows nothing.
    ValueError
        When the kind is another.
    """
    if kind not in ("rigid", "affine"):
        raise ValueError(f"kind is {kind!r}: it must be 'rigid' or 'affine'")
    for image in (fixed, moving):
        if image.array.min() == image.array.max():
            raise BadCase("constant_image", "all voxels are equal: there is nothing to register")
    frame = _frame(fixed, moving)
    found, steps = search(_in_frame(fixed, frame), _in_frame(moving, frame), kind)
    if found.shape == (3, 3):
        found = _through_plane(found, frame @ moving.affine)
    matrix = np.linalg.inv(frame) @ found @ frame
    before, _ = judge(fixed, moving, np.eye(4))
    after, overlap = judge(fixed, moving, matrix)
    shift, rotation = motion(fixed, matrix)
    result = Registration(
        matrix,
        kind,
        before.mutual,
        after.mutual,
        min(after.normalised, 1.0),
        overlap,
        steps,
        shift,
        rotation,
    )
    _refuse_unless_plausible(result)
    return result


def judge(fixed: Image, moving: Image, matrix: np.ndarray) -> tuple[Information, float]:
    """Return the information and the overlap (0 to 1) of two images under a transform.

    Parameters
    ----------
    fixed, moving : Image
    matrix : ndarray (4, 4)
        As in `Registration`.
    """
    # Rows and columns are skipped, slices are not: they are few and thick.
    skip = max(1, int(np.sqrt(fixed.array.size / JUDGED_VOXELS)))
    step = np.diag([1.0, skip, skip, 1.0])
    sparse = Image(fixed.array[:, ::skip, ::skip], fixed.affine @ step)
    inside = np.ones(moving.array.shape, np.uint8)
    asked = Image(moving.array, moving.affine, {"inside": inside})
    moved = resample_onto(asked, matrix, sparse.array.shape, sparse.affine)
    seen = moved.masks["inside"] > 0
    whole = min(_volume(sparse), _volume(moving))
    overlap = min(1.0, np.count_nonzero(seen) * abs(np.linalg.det(sparse.affine)) / whole)
    if np.count_nonzero(seen) < LEAST_JUDGED:
        return Information(0.0, 0.0), overlap
    return information(sparse.array[seen], moved.array[seen]), overlap


def motion(fixed: Image, matrix: np.ndarray) -> tuple[float, float]:
    """Return how far the centre of an image goes (mm) and how far it turns (degrees)."""
    centre = fixed.affine @ [*((np.array(fixed.array.shape) - 1) / 2), 1]
    shift = np.linalg.norm((matrix @ centre - centre)[:3])
    left, _, right = np.linalg.svd(matrix[:3, :3])
    cosine = (np.trace(left @ right) - 1) / 2
    return float(shift), float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def _volume(image: Image) -> float:
    return image.array.size * abs(float(np.linalg.det(image.affine)))


def _refuse_unless_plausible(found: Registration) -> None:
    stretch = np.linalg.svd(found.matrix[:3, :3], compute_uv=False)
    scale = float(max(stretch[0], 1 / stretch[-1]))
    limits = (
        (found.overlap < LEAST_OVERLAP, f"overlap {found.overlap:.2f}, least {LEAST_OVERLAP}"),
        (found.quality < LEAST_QUALITY, f"quality {found.quality:.3f}, least {LEAST_QUALITY}"),
        (found.metric_after < found.metric_before, "it explains less than the headers do"),
        (found.shift_mm > MOST_SHIFT_MM, f"shift {found.shift_mm:.0f} mm, most {MOST_SHIFT_MM:g}"),
        (
            found.rotation_deg > MOST_ROTATION_DEG,
            f"rotation {found.rotation_deg:.0f} degrees, most {MOST_ROTATION_DEG:g}",
        ),
        (scale > MOST_SCALE, f"scale {scale:.2f}, most {MOST_SCALE:g}"),
    )
    broken = [text for is_broken, text in limits if is_broken]
    if broken:
        detail = f"{found.kind} match: {'; '.join(broken)}"
        raise BadCase("registration_failed", detail)


def _frame(fixed: Image, moving: Image) -> np.ndarray:
    """Return the matrix from the world to the axes that are searched: for slices, their plane."""
    slices = fixed.array.shape[0], moving.array.shape[0]
    if min(slices) >= LEAST_SLICES:
        return np.eye(4)
    if slices != (1, 1):
        detail = f"{slices[0]} and {slices[1]} slices: both need {LEAST_SLICES}, or be single ones"
        raise BadCase("registration_failed", detail)
    x, y = (fixed.affine[:3, axis] / np.linalg.norm(fixed.affine[:3, axis]) for axis in (2, 1))
    y = y - x * (x @ y)
    frame = np.eye(4)
    frame[:3, :3] = x, y / np.linalg.norm(y), np.cross(x, y / np.linalg.norm(y))
    frame[:3, 3] = -frame[:3, :3] @ fixed.affine[:3, 3]
    moved = frame @ moving.affine
    leaning = np.degrees(np.arcsin(np.abs(moved[2, 1:3]) / np.linalg.norm(moved[:3, 1:3], axis=0)))
    if leaning.max() > SAME_PLANE_DEG or abs(moved[2, 3]) > SAME_PLANE_MM:
        raise BadCase("registration_failed", "the two single slices do not lie in one plane")
    return frame


def _through_plane(found: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Return a matrix (4, 4) of one (3, 3) in the plane: from slice onto slice across it."""
    matrix = np.eye(4)
    matrix[np.ix_([0, 1, 3], [0, 1, 3])] = found
    matrix[2, 3] = moving[2, 3]
    return matrix


def _in_frame(image: Image, frame: np.ndarray) -> "ItkImage":
    affine, array = frame @ image.affine, clip_tails(image.array)
    if array.shape[0] > 1:
        return to_itk(array, affine)
    return to_itk(array[0], affine[np.ix_([0, 1, 3], [1, 2, 3])])
