"""What a detector found in scans and the lesions there are: the input of detection figures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.evaluate.predictions import check_keys, frozen_array

UNKNOWN_DIAMETER = 10.0
"""mm that stand for a diameter below 0, which LUNA16 writes where none was measured.

Its reader draws as much; it is not imported here, since it loads what reads DICOM."""


@dataclass(frozen=True, eq=False)
class Detections:
    """Findings and lesions of one class, in any number of scans, also scans without either.

    Parameters
    ----------
    scan_ids, patient_keys : sequences of str, length n
        Opaque ids, each once, and the scans' patients: the unit of every interval.
    finding_scan : array (c,) of int
        Number of each finding's scan.
    finding_box : array (c, 2, d) of float
        Lowest and highest corner, in mm; both alike for a mere point.
    probability : array (c,) of float
    lesion_scan : array (l,) of int
    lesion_box : array (l, 2, d) of float
    irrelevant : array (l,) of bool, optional
        Findings on these are neither right nor wrong, and missing them costs nothing.
    """

    scan_ids: tuple[str, ...]
    patient_keys: tuple[str, ...]
    finding_scan: np.ndarray
    finding_box: np.ndarray
    probability: np.ndarray
    lesion_scan: np.ndarray
    lesion_box: np.ndarray
    irrelevant: np.ndarray | None = None

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "scan_ids", tuple(self.scan_ids))
        set_field(self, "patient_keys", tuple(self.patient_keys))
        for name in ("finding_box", "probability", "lesion_box"):
            set_field(self, name, frozen_array(getattr(self, name), np.float64, name))
        for name in ("finding_scan", "lesion_scan"):
            set_field(self, name, frozen_array(getattr(self, name), np.int64, name))
        none = np.zeros(len(self.lesion_scan), bool)
        irrelevant = none if self.irrelevant is None else np.array(self.irrelevant, bool)
        irrelevant.setflags(write=False)
        set_field(self, "irrelevant", irrelevant)
        check_keys(self.scan_ids, self.patient_keys)
        _check_boxes("finding", self.finding_scan, self.finding_box, len(self))
        _check_boxes("lesion", self.lesion_scan, self.lesion_box, len(self))
        if self.probability.shape != self.finding_scan.shape:
            raise ValueError(
                f"{len(self.finding_scan)} findings but probabilities of shape "
                f"{self.probability.shape}; give one each"
            )
        if not np.isfinite(self.probability).all():
            raise ValueError("a finding's probability is not a finite number")
        if irrelevant.shape != self.lesion_scan.shape:
            raise ValueError(
                f"{len(self.lesion_scan)} lesions but `irrelevant` has shape {irrelevant.shape}"
            )

    def __len__(self) -> int:
        return len(self.scan_ids)

    @property
    def n_patients(self) -> int:
        """Number of different patients."""
        return len(set(self.patient_keys))

    @property
    def extended(self) -> bool:
        """Whether findings are boxes; points overlap nothing."""
        return bool((self.finding_box[:, 1] > self.finding_box[:, 0]).all())

    @property
    def lesions(self) -> np.ndarray:
        """Number of lesions to be found in each scan, array (n,)."""
        return np.bincount(self.lesion_scan[~self.irrelevant], minlength=len(self))


def of_points(
    scan_ids: Sequence[str],
    patient_keys: Sequence[str],
    finding_scan,
    finding_centre,
    probability,
    lesion_scan,
    lesion_centre,
    diameter,
    irrelevant=None,
) -> Detections:
    """Make detections of centres (mm) and lesions of a diameter (mm), as LUNA16's tables have them.

    Parameters
    ----------
    finding_centre, lesion_centre : arrays (c, d) and (l, d)
    diameter : array (l,)
        Below 0: not measured, `UNKNOWN_DIAMETER` stands for it.
    """
    found = np.asarray(finding_centre, float)
    middle = np.asarray(lesion_centre, float)
    across = np.asarray(diameter, float)
    half = np.where(across < 0, UNKNOWN_DIAMETER, across)[:, None] / 2
    return Detections(
        tuple(scan_ids),
        tuple(patient_keys),
        finding_scan,
        np.stack([found, found], axis=1),
        probability,
        lesion_scan,
        np.stack([middle - half, middle + half], axis=1),
        irrelevant,
    )


def _check_boxes(what: str, scan: np.ndarray, box: np.ndarray, n: int) -> None:
    if box.ndim != 3 or box.shape[:2] != (len(scan), 2):
        raise ValueError(f"{len(scan)} {what}s need boxes of shape ({len(scan)}, 2, d), "
                         f"not {box.shape}")  # fmt: skip
    if len(scan) and not (scan.min() >= 0 and scan.max() < n):
        raise ValueError(f"a {what} names a scan outside 0..{n - 1}")
    if not np.isfinite(box).all() or (box[:, 1] < box[:, 0]).any():
        raise ValueError(f"a {what}'s box is not finite, or ends before it begins")
