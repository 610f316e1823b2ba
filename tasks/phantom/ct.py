"""A tiny synthetic CT or MR series with a known affine, whole or with the faults archives have."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from tasks.phantom.encode import encode_pixels, write_dataset
from tasks.phantom.write import MARK, uid

_CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}

CT_INTERCEPT = -1024
"""Rescale Intercept of the CT series: stored 0 is air."""

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""Image Orientation (Patient) of a plain axial series."""


@dataclass(frozen=True)
class CtTruth:
    """What was written: the folder, the voxels and their place, for a series without faults."""

    folder: Path
    array: np.ndarray
    affine: np.ndarray


def write_ct_series(
    root: Path,
    *,
    shape: tuple[int, int, int] = (8, 32, 40),
    spacing: tuple[float, float, float] = (2.5, 0.8, 0.7),
    orientation: Sequence[float] = AXIAL,
    seed: int = 0,
    origin: Sequence[float] = (-120.0, -90.0, 40.0),
    modality: str = "CT",
    tilt_deg: float = 0.0,
    missing: Sequence[int] = (),
    duplicates: Sequence[int] = (),
    volumes: int = 1,
    syntax: str = ExplicitVRLittleEndian,
    slopes: Sequence[float] | None = None,
) -> CtTruth:
    """Write one series of single-frame files, named and numbered in a shuffled order.

    Parameters
    ----------
    root : Path
        Folder for the files.
    shape : tuple of int
        (z, y, x); slice k lies k steps along row x column from the origin.
    spacing : tuple of float
        (z, y, x) in mm.
    orientation : sequence of 6 floats
        Image Orientation (Patient): row cosine, then column cosine.
    seed : int
        Voxels, UIDs and the shuffling follow from it.
    origin : sequence of 3 floats
        Centre of voxel (0, 0, 0), LPS mm.
    modality : str
        ``"CT"`` (stored + intercept = HU) or ``"MR"``.
    tilt_deg : float
        Each slice slides along the column direction as under a tilted gantry.
    missing, duplicates : sequence of int
        Slices left out; slices written a second time as instances of their own.
    volumes : int
        How often the whole stack is repeated (a 4-D series).
    syntax : str
        Transfer syntax UID, one of those `encode_pixels` writes.
    slopes : sequence of float, optional
        Rescale Slope of each slice; all 1 when not given.

    Returns
    -------
    CtTruth
        Voxels in real units and the affine, before missing slices and duplicates.
    """
    folder = Path(root)
    slopes = np.ones(shape[0]) if slopes is None else np.asarray(slopes, dtype=float)
    intercept = CT_INTERCEPT if modality == "CT" else 0
    stored = _voxels(shape, seed)
    affine = _affine(orientation, spacing, origin, tilt_deg)
    kept = [k for k in range(shape[0]) if k not in set(missing)]
    planned = [(k, copy) for copy in range(volumes) for k in kept]
    planned += [(k, volumes) for k in duplicates]
    numbers = np.random.default_rng([seed, 1]).permutation(len(planned)) + 1
    for (k, copy), number in zip(planned, numbers, strict=True):
        dataset = _slice(stored[k], affine, k, modality, seed)
        dataset.PixelSpacing = [f"{spacing[1]:.10g}", f"{spacing[2]:.10g}"]
        dataset.ImageOrientationPatient = [f"{v:.12f}"[:16] for v in orientation]
        dataset.InstanceNumber = str(number)
        dataset.RescaleSlope, dataset.RescaleIntercept = f"{slopes[k]:g}", str(intercept)
        dataset.SOPInstanceUID = uid(seed, modality, k, copy, "slice")
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        encode_pixels(dataset, stored[k], syntax)
        write_dataset(folder / f"IM{number:04d}.dcm", dataset)
    return CtTruth(folder, stored * slopes[:, None, None] + intercept, affine)


def _voxels(shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """Return 12-bit values: a ball off the middle with a cube in it, in noise; no symmetry."""
    rng = np.random.default_rng([seed, 0])
    z, y, x = (np.linspace(-1, 1, n).reshape(s) for n, s in zip(shape, _AXES, strict=True))
    ball = (z - 0.1) ** 2 + (y + 0.15) ** 2 + (x - 0.2) ** 2 < 0.5
    cube = (np.abs(z + 0.2) < 0.3) & (np.abs(y - 0.1) < 0.2) & (np.abs(x + 0.1) < 0.25)
    values = 40 + 1030 * ball + 700 * (cube & ball)
    return np.clip(values + rng.normal(0, 12, shape), 0, 4095).astype(np.uint16)


_AXES = ((-1, 1, 1), (1, -1, 1), (1, 1, -1))


def _affine(
    orientation: Sequence[float],
    spacing: tuple[float, float, float],
    origin: Sequence[float],
    tilt_deg: float,
) -> np.ndarray:
    row, column = np.asarray(orientation[:3], float), np.asarray(orientation[3:], float)
    affine = np.eye(4)
    lean = np.tan(np.radians(tilt_deg)) * column
    affine[:3, 0] = spacing[0] * (np.cross(row, column) + lean)
    affine[:3, 1] = spacing[1] * column
    affine[:3, 2] = spacing[2] * row
    affine[:3, 3] = origin
    return affine


def _slice(stored: np.ndarray, affine: np.ndarray, k: int, modality: str, seed: int) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = _CLASSES[modality]
    dataset.Modality = modality
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if modality == "CT" else "M"]
    dataset.StudyDate, dataset.StudyTime = "20170301", "101500"
    dataset.AccessionNumber = f"{MARK}CT{seed % 10**7:07d}"
    dataset.Manufacturer = "SYNTHETIC"
    dataset.SeriesDescription = "SYNTHETIC series, not a patient"
    dataset.PatientName, dataset.PatientID = f"{MARK}^Stack", f"{MARK}-STACK{seed}"
    dataset.StudyInstanceUID = uid(seed, modality, "study")
    dataset.SeriesInstanceUID = uid(seed, modality, "series")
    dataset.FrameOfReferenceUID = uid(seed, modality, "frame")
    dataset.SliceThickness = "9"  # a lie on purpose: spacing comes from positions
    position = (affine @ [k, 0, 0, 1])[:3]
    dataset.ImagePositionPatient = [f"{v:.10g}"[:16] for v in position]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    return dataset
