"""One small series, judged: what the tests of results in DICOM share."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from flows.home import Home
from flows.orders import orders_of
from flows.settings import Settings
from tasks.archive.catalog import Case, cases
from tasks.archive.intake import ingest
from tasks.archive.sources import FileRef, resolve_source
from tasks.archive.standin import StandIns, stand_ins
from tasks.phantom.ct import CtTruth, write_ct_series
from tasks.serve.dicom_out import Maker
from tasks.serve.results import ModelFacts, PredictionRow

SHAPE = (5, 12, 14)
NAME, PATIENT, ACCESSION = "Zqvogel^Jürgen", "ZQ-4711", "ZQACC0815"

COSINE = np.sqrt(0.5)

ORIENTATIONS = {
    "axial": (1, 0, 0, 0, 1, 0),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "coronal": (1, 0, 0, 0, 0, -1),
    "oblique": (COSINE, COSINE, 0, -0.5, 0.5, -COSINE),
    "tilted": (1, 0, 0, 0, 1, 0),
}

SEGMENTATION = ModelFacts(
    "small-ct", "Parts of a ball", "small-ct", "3", "ab" * 32, "segmentation", "2026-11-01",
    classes=("background", "ball", "cube"),
)  # fmt: skip

CLASSIFICATION = ModelFacts(
    "small-ct", "Whether a ball is ill", "small-ct", "4", "cd" * 32, "classification",
    "2026-11-01", threshold=0.22, positive="ill", classes=("well", "ill"),
)  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """A series of the archive and what a model said of it."""

    home: Home
    truth: CtTruth
    case: Case
    files: tuple[FileRef, ...]
    images: StandIns
    mask: np.ndarray

    def maker(self, model: ModelFacts = SEGMENTATION) -> Maker:
        """Who says it."""
        return Maker(self.home.names, model, "radloop 0.0")

    def volumes(self) -> PredictionRow:
        """Volumes of both classes."""
        voxel = abs(np.linalg.det(self.truth.affine[:3, :3])) / 1000
        told = {
            "ball ml": (self.mask == 1).sum() * voxel,
            "cube ml": (self.mask == 2).sum() * voxel,
        }
        return PredictionRow(self.case.case_id, measures={n: float(v) for n, v in told.items()})

    def answer(self) -> PredictionRow:
        """A class, doubtful."""
        return PredictionRow(
            self.case.case_id,
            label="ill",
            score=0.3,
            probabilities={"well": 0.7, "ill": 0.3},
            flags=("unlike_training",),
        )


def judged(folder: Path, plane: str = "axial", seed: int = 0) -> Judged:
    """Write a series with a patient, take it in and mark two structures in it."""
    truth = write_ct_series(
        folder / "archive",
        shape=SHAPE,
        orientation=ORIENTATIONS[plane],
        tilt_deg=12 if plane == "tilted" else 0,
        seed=seed,
    )
    for path in truth.folder.iterdir():
        dataset = dcmread(path)
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.PatientName, dataset.PatientID = NAME, f"{PATIENT}-{seed}"
        dataset.PatientBirthDate, dataset.PatientSex = "19470213", "F"
        dataset.AccessionNumber = f"{ACCESSION}{seed}"
        dataset.StudyID = "1"
        dataset.save_as(path)
    home = Home(Settings(home=folder / "home"))
    ingest(resolve_source(str(truth.folder), "scans"), home.catalog, home.vault, home.names)
    (case,) = cases(home.catalog, kind="dicom")
    (order,) = orders_of(home, [case])
    mask = (truth.array > 0).astype(np.uint8)
    mask[truth.array > 300] = 2
    mask[-1] = 0
    assert set(np.unique(mask)) == {0, 1, 2}
    images = stand_ins(case, order.files, home.names)
    return Judged(home, truth, case, order.files, images, mask)


def errors_of(path: Path) -> list[str]:
    """Return what dciodvfy calls an error in a file."""
    if not shutil.which("dciodvfy"):
        pytest.skip("no dciodvfy, results are not checked by it: `make servers` brings it")
    done = subprocess.run(
        ["dciodvfy", str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    lines = done.stderr.splitlines()
    # It names the object it found; without that it has checked nothing.
    assert {"Segmentation", "ComprehensiveSR", "Comprehensive3DSR"} & set(lines), done.stderr
    return [line for line in lines if line.startswith("Error")]


def segments_named(dataset: Dataset) -> list[tuple[str, int]]:
    """Return the segments a report names, as bare pydicom reads them: instance and number."""
    found = []
    for item in dataset.get("ContentSequence", ()):
        for one in item.get("ReferencedSOPSequence", ()):
            if "ReferencedSegmentNumber" in one:
                found.append((one.ReferencedSOPInstanceUID, one.ReferencedSegmentNumber))
        found += segments_named(item)
    return found
