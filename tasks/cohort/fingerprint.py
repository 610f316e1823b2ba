"""What the training cases look like: spacing, shape and foreground intensities, one record a case.

The rules are nnU-Net's (Isensee et al. 2021, Nature Methods 18, supplementary note 2): medians of
spacing and shape, and intensities of the foreground pooled with the same weight for every case.
A case gives quantiles instead of a sample of voxels, so that records are small, the merge does not
depend on order, and no voxel leaves the case.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from tasks.hashing import digest_json

QUANTILES = tuple(round(0.005 * k, 3) for k in range(201))
"""Probabilities kept of each case: every half per cent, so 0.5 % and 99.5 % are among them."""

LOW, HIGH = 0.005, 0.995
"""Percentiles that nnU-Net clips CT to."""


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

    def to_dict(self) -> dict:
        """Return a JSON-able copy."""
        return asdict(self)


def case_fingerprint(
    array: np.ndarray, affine: np.ndarray, mask: np.ndarray | None = None, case_id: str = ""
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
    )


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
    shape = np.median(np.array([case.shape for case in ordered]), axis=0)
    return Fingerprint(
        median_spacing=tuple(np.median([case.spacing for case in ordered], axis=0).tolist()),
        median_shape=tuple(round(size) for size in shape.tolist()),
        mean=mean,
        std=float(np.sqrt(max(squares.mean() - mean**2, 0.0))),
        p005=float(low),
        p995=float(high),
        n_cases=len(ordered),
        case_hash=digest_json([case.case_id for case in ordered]),
    )
