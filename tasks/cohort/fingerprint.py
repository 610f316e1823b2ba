"""What the training cases look like: spacing, shape and foreground intensities, one record a case.

The rules are nnU-Net's (Isensee et al. 2021, Nature Methods 18, supplementary note 2): medians of
spacing and shape, and intensities of the foreground pooled with the same weight for every case.
A case gives quantiles instead of a sample of voxels, so that records are small, the merge does not
depend on order, and no voxel leaves the case.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tasks.hashing import digest_json

QUANTILES = tuple(round(0.005 * k, 3) for k in range(201))
"""Probabilities kept of each case: every half per cent, so 0.5 % and 99.5 % are among them."""

LOW, HIGH = 0.005, 0.995
"""Percentiles that nnU-Net clips CT to."""

ANISOTROPY = 3.0
"""A worst spacing over this multiple of the others makes an axis one of thick slices."""

THICK_PERCENTILE = 10
"""Percentile of its spacings that an axis of thick slices is brought to, in place of the median."""


@dataclass(frozen=True)
class CaseFingerprint:
    """Facts of one case; ``spacing`` (mm) and ``shape`` (voxels) are (z, y, x)."""

    spacing: tuple[float, float, float]
    shape: tuple[int, int, int]
    n: int
    """Foreground voxels."""
    mean: float
    std: float
    quantiles: tuple[float, ...]
    """Foreground intensities at `QUANTILES`."""
    case_id: str = ""
    inside: tuple[int, int, int] | None = None
    """Sides (z, y, x) of the box of all voxels that are not 0."""
    modality: str = ""


@dataclass(frozen=True)
class Fingerprint:
    """What training patients have in common; frozen with the hash of the cases it was fitted on."""

    median_spacing: tuple[float, float, float]
    median_shape: tuple[int, int, int]
    mean: float
    std: float
    p005: float
    p995: float
    n_cases: int
    case_hash: str
    target_spacing: tuple[float, float, float] | None = None
    """(z, y, x) in mm to resample to, see :func:`target_spacing`."""
    median_inside: tuple[int, int, int] | None = None
    """Sides (z, y, x) of the box of all voxels that are not 0."""
    inside_share: float = 1.0
    """Median share of an image's voxels that this box holds."""
    modalities: tuple[str, ...] = ()
    """Of the cases; "" stands for those that do not say theirs."""

    def to_dict(self) -> dict:
        """Return a JSON-able copy."""
        return asdict(self)

    @classmethod
    def from_dict(cls, body: Mapping[str, Any]) -> "Fingerprint":
        """Rebuild a fingerprint from `to_dict`, also after JSON made lists of its tuples."""
        return cls(**{n: tuple(v) if isinstance(v, list) else v for n, v in body.items()})


def case_fingerprint(
    array: np.ndarray,
    affine: np.ndarray,
    mask: np.ndarray | None = None,
    case_id: str = "",
    modality: str = "",
) -> CaseFingerprint:
    """Return the facts of one case.

    Parameters
    ----------
    array : ndarray (z, y, x)
        Intensities in real units.
    affine : ndarray (4, 4)
        Maps index (z, y, x, 1) to LPS millimetres.
    mask : ndarray (z, y, x), optional
        Foreground is where it is above 0.  Without a mask, or where it is empty, foreground is
        where the image is not 0, and the whole image when that is nowhere.
    case_id : str
        Goes into the hash of the merged fingerprint.
    modality : str

    Raises
    ------
    ValueError
        When the mask has another shape, or the foreground holds a value that is not finite.
    """
    if mask is not None and mask.shape != array.shape:
        raise ValueError(
            f"mask shape {mask.shape} differs from image shape {array.shape}: resample the mask"
        )
    values = array[mask > 0] if mask is not None else array[array != 0]
    if values.size == 0 and mask is not None:
        values = array[array != 0]
    if values.size == 0:
        values = array.ravel()
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        count = int(values.size - np.isfinite(values).sum())
        raise ValueError(f"{count} foreground voxels are not finite: repair or quarantine the case")
    spacing = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
    return CaseFingerprint(
        spacing=tuple(float(step) for step in spacing),
        shape=tuple(int(size) for size in array.shape),
        n=int(values.size),
        mean=float(values.mean()),
        std=float(values.std()),
        quantiles=tuple(float(value) for value in np.quantile(values, QUANTILES)),
        case_id=case_id,
        inside=_inside(array),
        modality=modality,
    )


def _inside(array: np.ndarray) -> tuple[int, int, int]:
    """Return the sides of the box of all voxels that are not 0; of the image when none is."""
    filled = array != 0
    sides = []
    for axis, size in enumerate(array.shape):
        hit = np.flatnonzero(filled.any(axis=tuple(other for other in range(3) if other != axis)))
        sides.append(int(hit[-1] - hit[0]) + 1 if hit.size else size)
    return tuple(sides)


def target_spacing(spacings: np.ndarray, shapes: np.ndarray) -> tuple[float, float, float]:
    """Return the spacing (z, y, x) in mm to resample a cohort to, by nnU-Net's rule.

    The median, but for an axis of thick slices: that one is brought to the 10th percentile of its
    spacings, though never finer than the next axis.

    Parameters
    ----------
    spacings, shapes : arrays (n, 3)
        Of the training images, mm and voxels.
    """
    spacings = np.asarray(spacings, dtype=float)
    target = np.median(spacings, axis=0)
    size = np.median(np.asarray(shapes, dtype=float), axis=0)
    worst = int(target.argmax())
    others = [axis for axis in range(3) if axis != worst]
    thick = target[worst] > ANISOTROPY * target[others].max()
    if thick and size[worst] * ANISOTROPY < size[others].min():
        finer = np.percentile(spacings[:, worst], THICK_PERCENTILE)
        target[worst] = max(finer, target[others].max())
    return tuple(float(value) for value in target)


def merge(cases: Sequence[CaseFingerprint]) -> Fingerprint:
    """Pool the records of the training cases; the order given does not matter.

    Every case weighs the same, whatever its size, as nnU-Net draws equally many voxels of each.
    Raises ValueError without cases.
    """
    if not cases:
        raise ValueError("a fingerprint needs at least 1 training case and got 0: check the cohort")
    ordered = sorted(cases, key=lambda case: (case.case_id, case.shape, case.quantiles))
    means = np.array([case.mean for case in ordered])
    squares = np.array([case.std**2 for case in ordered]) + means**2
    mean = float(means.mean())
    low, high = np.quantile(np.array([case.quantiles for case in ordered]), (LOW, HIGH))
    spacings = np.array([case.spacing for case in ordered])
    shapes = np.array([case.shape for case in ordered])
    inside = np.array([case.inside or case.shape for case in ordered])
    shape, box = np.median(shapes, axis=0), np.median(inside, axis=0)
    return Fingerprint(
        median_spacing=tuple(np.median(spacings, axis=0).tolist()),
        median_shape=tuple(round(size) for size in shape.tolist()),
        mean=mean,
        std=float(np.sqrt(max(squares.mean() - mean**2, 0.0))),
        p005=float(low),
        p995=float(high),
        n_cases=len(ordered),
        case_hash=digest_json([case.case_id for case in ordered]),
        target_spacing=target_spacing(spacings, inside),
        median_inside=tuple(round(size) for size in box.tolist()),
        inside_share=float(np.median(inside.prod(axis=1) / shapes.prod(axis=1))),
        modalities=tuple(sorted({case.modality for case in ordered})),
    )
