"""Results as DICOM: a segmentation for masks and a structured report for every answer.

Everything is written under pseudonyms, from stand-ins of the images (`tasks.archive.standin`); the
original identity is put back by `tasks.archive.reidentify` alone.  The UIDs follow from project
key, model and case: the same model asked about the same case gives the same instance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
from highdicom.sr import CodedConcept
from pydicom import Dataset

from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.reidentify import SERIES_FROM
from tasks.archive.standin import METHOD, StandIns, pseudonymous_uid
from tasks.serve.result_files import result_file
from tasks.serve.results import ModelFacts, PredictionRow

MAKER = "radloop"

RESEARCH = "RESEARCH USE ONLY"

SCHEME = "99RADLOOP"
"""Coding scheme of what has no code of its own, such as a scenario's classes (PS3.3 8.2)."""

IMPLEMENTATION_UID = "2.25.314159265358979323846"
"""Implementation Class UID, fixed so that a new pydicom does not change bytes."""

MODELS_NUMBERED = 500
"""Series numbers end below 10000: more digits some viewers do not show."""

LONGEST_TEXT = 64
"""Characters of a long string (LO) and of the meaning of a code."""


@dataclass(frozen=True)
class Maker:
    """Who made a result: project and model."""

    names: Pseudonymiser
    model: ModelFacts
    software: str
    """Version of radloop."""

    @property
    def algorithm(self) -> str:
        """Name of the algorithm."""
        return f"{MAKER} {self.model.name}"[:LONGEST_TEXT]

    def parameters(self) -> dict[str, str]:
        """What is told of the model beside name and version."""
        told = {"digest": self.model.digest, "status": RESEARCH}
        if self.model.threshold is not None:
            told["operating point"] = f"{self.model.threshold:.6g}"
        if self.model.synthetic:
            told["training data"] = "SYNTHETIC"
        return told

    def uid(self, case_id: str, what: str) -> str:
        """Return a UID that follows from project key, model and case."""
        model = f"{self.model.name}|{self.model.version}|{self.model.digest}"
        return pseudonymous_uid(self.names.key("result", f"{model}|{case_id}|{what}"))


@dataclass(frozen=True)
class DicomResult:
    """Files written for one case, and why others were not."""

    seg: Path | None = None
    sr: Path | None = None
    why_no_seg: str = ""


def write_dicom(
    out: Path,
    row: PredictionRow,
    images: StandIns,
    maker: Maker,
    *,
    mask: np.ndarray | None = None,
    seg: bool = True,
    sr: bool = True,
    now: datetime | None = None,
) -> DicomResult:
    """Write what a model says of one case.

    Parameters
    ----------
    out : Path
        Folder; files are called after the case.
    row : PredictionRow
    images : StandIns
        Of the case's images.
    maker : Maker
    mask : array, shape (z, y, x) or (z, y, x, s), optional
        Classes on the grid of the images: number k is class k of the model; 0 is background. Of a
        detection the outlines of findings, see `tasks.serve.dicom_seg.segmentation`.
    seg, sr : bool
        What is wanted.
    now : datetime, optional
        Date and time of the content; by default this moment.

    Returns
    -------
    DicomResult
        Without a segmentation where the mask's slices are not images of their own.
    """
    from tasks.serve.dicom_seg import segmentation, why_not
    from tasks.serve.dicom_sr import report

    # Local: a DICOM time without an offset is read as such.
    now = now or datetime.now()
    made = why = None
    seg = seg and mask is not None
    if seg and not (why := why_not(images, mask)):
        made = segmentation(row, images, maker, mask)
    written = {}
    told = {"seg": made, "sr": report(row, images, maker, made) if sr else None}
    for kind, dataset in told.items():
        if dataset is not None:
            _mark(dataset, maker, now)
            written[kind] = out / Path(result_file(kind, row.case_id)).name
            _save(written[kind], dataset)
    return DicomResult(written.get("seg"), written.get("sr"), why or "")


def coded(meaning: str) -> CodedConcept:
    """Return a code of our own scheme, the same for the same words."""
    value = sha256(meaning.encode()).hexdigest()[:12].upper()
    return CodedConcept(value, SCHEME, meaning[:LONGEST_TEXT])


def series_number(maker: Maker, kind: str) -> int:
    """Return the number of a series of results, beyond those of scanners.

    It follows from the model's name, so that two models' results of one study can be told apart.
    """
    of_model = int(sha256(maker.model.name.encode()).hexdigest(), 16) % MODELS_NUMBERED
    return SERIES_FROM + 2 * of_model + ("seg", "sr").index(kind)


def _mark(dataset: Dataset, maker: Maker, now: datetime) -> None:
    """Say whose the identity is, which model speaks and when the result was made."""
    said = f"{RESEARCH}: {maker.algorithm}, version {maker.model.version}"
    dataset.SeriesDescription = said[:LONGEST_TEXT]
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = METHOD
    dataset.LongitudinalTemporalInformationModified = "MODIFIED"
    day, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    for name in ("Series", "Content", "InstanceCreation"):
        setattr(dataset, f"{name}Date", day)
        setattr(dataset, f"{name}Time", time)
    for equipment in dataset.get("ContributingEquipmentSequence") or ():
        equipment.ContributionDateTime = day + time


def _save(path: Path, dataset: Dataset) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.file_meta.ImplementationClassUID = IMPLEMENTATION_UID
    dataset.file_meta.ImplementationVersionName = MAKER.upper()
    dataset.save_as(path, enforce_file_format=True)


def common_arguments(maker: Maker, case_id: str, kind: str) -> dict:
    """Return what highdicom asks for alike of both kinds."""
    return {
        "series_instance_uid": maker.uid(case_id, f"{kind} series"),
        "series_number": series_number(maker, kind),
        "sop_instance_uid": maker.uid(case_id, kind),
        "instance_number": 1,
        "manufacturer": MAKER,
        "manufacturer_model_name": maker.model.name[:LONGEST_TEXT],
        "software_versions": [maker.software, f"model {maker.model.version}"],
        "device_serial_number": maker.model.digest[:LONGEST_TEXT],
    }


def foreground(classes: Sequence[str]) -> list[tuple[int, str]]:
    """Return (number in the mask, name) of the classes that are not background."""
    return list(enumerate(classes))[1:]
