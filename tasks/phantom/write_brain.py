"""An archive of synthetic brain MR: four series a study as DICOM, or the folders of BraTS."""

import csv
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tasks.archive.nifti import write_nifti
from tasks.phantom.brain import (
    ENHANCING,
    NECROSIS,
    OEDEMA,
    SHAPE,
    SPACING,
    Brain,
    draw_brain,
)
from tasks.phantom.head import SEQUENCES
from tasks.phantom.processes import draw_each
from tasks.phantom.scanner import SYNTAXES
from tasks.phantom.stack import axial_affine, write_stack, write_truth
from tasks.phantom.visits import Visit, draw_visit, header

LAYOUTS = ("dicom", "brats2023", "brats2021")
"""DICOM with its truth beside it, or NIfTI in BraTS's folders with its names and label values."""

_MR = "1.2.840.10008.5.1.4.1.1.4"

_SEGMENTS = {
    NECROSIS: ("necrotic core", ("6574001", "SCT", "Necrosis")),
    OEDEMA: ("oedema", ("79654002", "SCT", "Edema")),
    ENHANCING: ("enhancing tumour", ("86049000", "SCT", "Neoplasm, Primary")),
}


@dataclass(frozen=True)
class Magnet:
    """Header values of one synthetic make of MR."""

    manufacturer: str
    model: str
    field: float
    names: tuple[str, str, str, str]


MAGNETS = (
    Magnet("SIEMENS", "Skyra", 3.0, ("t1_tse_tra", "t1_tse_tra_KM", "t2_tse_tra", "t2_tirm_tra")),
    Magnet("SIEMENS", "Avanto", 1.5, ("t1_se_tra", "t1_se_tra_KM", "t2_tse_tra", "t2_flair_tra")),
    Magnet("Philips", "Ingenia", 3.0, ("T1W_SE", "T1W_SE_GD", "T2W_TSE", "FLAIR_longTR")),
    Magnet("GE MEDICAL SYSTEMS", "SIGNA HDxt", 1.5, ("AX T1", "AX T1 POST", "AX T2", "AX FLAIR")),
)

_TIMES = {"t1n": (500, 10, 0), "t1c": (500, 10, 0), "t2w": (4500, 95, 0), "t2f": (9000, 110, 2500)}
"""Repetition, echo and inversion time in ms."""


def write_brain_archive(
    root: Path,
    *,
    patients: int,
    seed: int,
    difficulty: str = "standard",
    layout: str = "dicom",
    only: Collection[str] | None = None,
    shape: tuple[int, int, int] = SHAPE,
    spacing: tuple[float, float, float] = SPACING,
    processes: int = 1,
) -> Path:
    """Write brain studies with a glioma.

    Parameters
    ----------
    root : Path
        ``dicom``: ``dicom/YYYY/MM/ACCESSION/SEQUENCEnnnn.dcm`` and, in ``truth/``, ``labels.csv``,
        ``masks/ACCESSION.nii.gz``, ``seg/ACCESSION.dcm``. ``brats2023``:
        ``BraTS-GLI-nnnnn-000/BraTS-GLI-nnnnn-000-{t1n,t1c,t2w,t2f,seg}.nii.gz``. ``brats2021``:
        ``BraTS2021_nnnnn/BraTS2021_nnnnn_{t1,t1ce,t2,flair,seg}.nii.gz``, where enhancing tumour is
        4; both with ``SYNTHETIC.txt``, and stripped of the skull as BraTS is.
    patients : int
    seed : int
        Same seed, same bytes.
    difficulty : str
        ``easy``, ``standard`` or ``hard``.
    layout : str
        One of :data:`LAYOUTS`.
    only : collection of str, optional
        Accession numbers of those that are written; all of them by default.
    shape : tuple of int
        (z, y, x).
    spacing : tuple of float
        (z, y, x) in mm.
    processes : int
        That draw at a time; the bytes are the same.

    Returns
    -------
    Path
        A table with the volumes of whole tumour, core and enhancing tumour in mL.

    Raises
    ------
    ValueError
        For an unknown layout or difficulty.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout is {', '.join(LAYOUTS)}, not {layout!r}")
    root = Path(root)
    draw = partial(_write_patient, root, seed, difficulty, layout, only, shape, spacing)
    rows = [row for row in draw_each(draw, patients, processes) if row is not None]
    folder = root / "truth" if layout == "dicom" else root
    folder.mkdir(parents=True, exist_ok=True)
    if layout != "dicom":
        (folder / "SYNTHETIC.txt").write_text("Drawn by radloop, no patient's images.\n")
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["accession_number", "patient_id", "wt_ml", "tc_ml", "et_ml"])
        writer.writerows(rows)
    return folder / "labels.csv"


def _write_patient(
    root: Path,
    seed: int,
    difficulty: str,
    layout: str,
    only: Collection[str] | None,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    patient: int,
) -> list[str] | None:
    """Write one patient's study and return the row of the table, None where it is not wanted."""
    visit = draw_visit("B", seed, patient, (20, 85))
    if only is not None and visit.accession not in only:
        return None
    rng = np.random.default_rng([seed, patient, 2])
    magnet = MAGNETS[rng.integers(len(MAGNETS))]
    syntax = SYNTAXES[rng.integers(len(SYNTAXES))]
    drawn = int(rng.integers(2**31))
    brain = draw_brain(drawn, shape=shape, spacing=spacing, difficulty=difficulty)
    affine = axial_affine(shape, spacing)
    if layout == "dicom":
        _write_study(root, visit, magnet, syntax, brain, affine)
    else:
        _write_brats(root, patient, layout == "brats2021", brain, affine)
    voxel = float(np.prod(spacing)) / 1000
    parts = (
        brain.labels > 0,
        np.isin(brain.labels, (NECROSIS, ENHANCING)),
        brain.labels == ENHANCING,
    )
    volumes = [f"{part.sum() * voxel:.2f}" for part in parts]
    return [visit.accession, visit.patient_id, *volumes]


def _write_study(
    root: Path, visit: Visit, magnet: Magnet, syntax: str, brain: Brain, affine: np.ndarray
) -> None:
    folder = root / "dicom" / visit.folder
    written = {}
    for number, sequence in enumerate(SEQUENCES):
        repetition, echo, inversion = _TIMES[sequence]
        first = header(visit, "MR", _MR, "BRAIN", magnet.names[number])
        first.SeriesNumber = str(number + 1)
        first.ImageType = ["ORIGINAL", "PRIMARY", "M"]
        first.Manufacturer, first.ManufacturerModelName = magnet.manufacturer, magnet.model
        first.MagneticFieldStrength = f"{magnet.field}"
        first.ProtocolName = magnet.names[number]
        first.ScanningSequence = "IR" if inversion else "SE"
        first.SequenceVariant, first.ScanOptions, first.MRAcquisitionType = "NONE", "", "2D"
        first.RepetitionTime, first.EchoTime = str(repetition), str(echo)
        first.EchoTrainLength = "1"
        if inversion:
            first.InversionTime = str(inversion)
        if sequence == "t1c":
            first.ContrastBolusAgent = "SYNTHETIC"
        name = sequence.upper()
        stored = brain.images[number]
        written[sequence] = write_stack(folder, visit, first, stored, affine, syntax, name)
    write_truth(root, visit, written["t1c"], brain.labels, affine, _SEGMENTS)


_OLD_NAMES = {"t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair"}


def _write_brats(root: Path, patient: int, old: bool, brain: Brain, affine: np.ndarray) -> None:
    case = f"BraTS2021_{patient:05d}" if old else f"BraTS-GLI-{patient:05d}-000"
    folder = root / case
    folder.mkdir(parents=True, exist_ok=True)
    labels = brain.labels.copy()
    if old:
        labels[labels == ENHANCING] = 4
    files = {}
    for name, image in zip(SEQUENCES, brain.images, strict=True):
        files[_OLD_NAMES[name] if old else name] = np.where(brain.brain, image, 0).astype(np.int16)
    for name, array in {**files, "seg": labels}.items():
        write_nifti(folder / f"{case}{'_' if old else '-'}{name}.nii.gz", array, affine)
