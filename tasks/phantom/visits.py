"""Invented patients and what every header of their images says."""

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from pydicom import Dataset, FileMetaDataset

from tasks.phantom.write import FAMILIES, FIRST_DAY, GIVEN, MARK, uid


@dataclass(frozen=True)
class Visit:
    """One examination of one invented patient.

    Attributes
    ----------
    kind : str
        Letter of the archive: C chest, B brain, W wrist, U ultrasound.
    seed, patient : int
    day : date
    age : int
        Years.
    female : bool
    name : str
    """

    kind: str
    seed: int
    patient: int
    day: date
    age: int
    female: bool
    name: str

    @property
    def patient_id(self) -> str:
        """Synthetic Patient ID."""
        return f"{MARK}{self.kind}{self.seed % 1000:03d}-{self.patient:05d}"

    @property
    def accession(self) -> str:
        """Synthetic Accession Number, 16 characters (SH)."""
        return f"{MARK}{self.kind}{self.seed % 1000:03d}{self.patient:05d}"

    @property
    def folder(self) -> Path:
        """Place in the archive: YYYY/MM/accession."""
        return Path(f"{self.day:%Y}") / f"{self.day:%m}" / self.accession

    def uid(self, *facts: object) -> str:
        """Return the same UID for the same facts of this visit."""
        return uid(self.seed, self.accession, *facts)


def draw_visit(kind: str, seed: int, patient: int, ages: tuple[int, int]) -> Visit:
    """Draw a patient; what is drawn knows nothing of the image."""
    rng = np.random.default_rng([seed, patient, ord(kind)])
    return Visit(
        kind=kind,
        seed=seed,
        patient=patient,
        day=FIRST_DAY + timedelta(days=int(rng.integers(3 * 365))),
        age=int(rng.integers(*ages)),
        female=bool(rng.random() < 0.5),
        name=f"{MARK}-{rng.choice(FAMILIES)}^{rng.choice(GIVEN)}",
    )


def header(visit: Visit, modality: str, sop_class: str, part: str, series: str) -> Dataset:
    """Return patient, study and series of a header, the same for all images of the series.

    Parameters
    ----------
    visit : Visit
    modality, sop_class : str
        DICOM's code and SOP Class UID.
    part : str
        Body Part Examined.
    series : str
        Name of the series within the study, as its description says it.
    """
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = sop_class
    dataset.SpecificCharacterSet = "ISO_IR 192"
    day = f"{visit.day:%Y%m%d}"
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = day
    dataset.StudyTime = dataset.ContentTime = f"{8 + visit.patient % 10:02d}1500"
    dataset.AccessionNumber, dataset.Modality = visit.accession, modality
    dataset.InstitutionName = f"{MARK} General Hospital"
    dataset.ReferringPhysicianName = f"{MARK}-Referrer^Synthetic"
    dataset.StudyDescription = f"SYNTHETIC {part.lower()}"
    dataset.SeriesDescription = f"SYNTHETIC {series}, not a patient"
    dataset.PatientName, dataset.PatientID = visit.name, visit.patient_id
    dataset.PatientBirthDate = f"{visit.day.year - visit.age}0101"
    dataset.PatientSex = "F" if visit.female else "M"
    dataset.PatientAge = f"{visit.age:03d}Y"
    dataset.BodyPartExamined = part
    dataset.StudyInstanceUID = visit.uid("study")
    dataset.SeriesInstanceUID = visit.uid(series, "series")
    dataset.StudyID, dataset.InstanceNumber = "1", "1"
    dataset.SeriesNumber = "1"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.PixelRepresentation = 0
    return dataset
