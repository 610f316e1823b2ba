"""A small archive of synthetic limb radiographs as valid DICOM, with labels and broken files.

Same seed, same bytes; patient i is the same whatever the number of patients, so a larger archive
of the same seed is the smaller one with later patients added. Every name and identifier starts
with PHANTOM, so that a search finds each place where one has leaked to.
"""

import csv
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from tasks.phantom.encode import encode_pixels, write_dataset
from tasks.phantom.limb import BITS, Anatomy, Shot, draw_anatomy, draw_shot, render

MARK = "PHANTOM"
"""Start of every synthetic name, patient id and accession number."""

CLASSES = ("fracture", "no_fracture")
"""Values of the column ``target`` in labels.csv."""

SECOND_STUDY = 0.3
"""Share of patients who came twice."""

FIRST_DAY = date(2016, 1, 4)
"""Studies lie within three years from this day."""

_CR = "1.2.840.10008.5.1.4.1.1.1"
_DX = "1.2.840.10008.5.1.4.1.1.1.1"
_SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
    JPEG2000Lossless,
)
FAMILIES = ("Ahlberg", "Brandt", "Costa", "Duarte", "Ekström", "Fabre", "Grau", "Haugen", "Ibarra")
GIVEN = ("Ada", "Bo", "Cleo", "Dag", "Elin", "Finn", "Gro", "Hugo", "Ines", "Jon", "Kaja", "Leo")


@dataclass(frozen=True)
class Vendor:
    """Header values of one make of device."""

    manufacturer: str
    model: str
    modality: str
    kvp: float
    spacing: float
    inverse_share: float


VENDORS = (
    Vendor("FUJI PHOTO FILM Co., ltd.", "5501ES", "CR", 52.0, 1.0, 0.4),
    Vendor("AGFA", "CR85", "CR", 50.0, 1.1, 0.2),
    Vendor("GE Healthcare", "Definium 6000", "DX", 55.0, 0.9, 0.1),
    Vendor("Philips Medical Systems", "DigitalDiagnost", "DX", 56.0, 1.0, 0.1),
    Vendor("SIEMENS", "Fluorospot Compact FD", "DX", 54.0, 0.95, 0.0),
)


@dataclass(frozen=True)
class Study:
    """One examination of one synthetic patient."""

    patient: int
    number: int
    seed: int
    anatomy: Anatomy
    shot: Shot
    vendor: Vendor
    syntax: str
    inverse: bool
    day: date
    female: bool
    name: str

    @property
    def patient_id(self) -> str:
        """Synthetic Patient ID."""
        return f"{MARK}{self.seed % 1000:03d}-{self.patient:05d}"

    @property
    def accession(self) -> str:
        """Synthetic Accession Number, at most 16 characters (SH)."""
        return f"{MARK}{self.seed % 1000:03d}{self.patient:05d}{self.number}"

    @property
    def target(self) -> str:
        """Class of the picture."""
        return CLASSES[0] if self.shot.fracture is not None else CLASSES[1]

    @property
    def folder(self) -> Path:
        """Place in the archive: YYYY/MM/accession."""
        return Path(f"{self.day:%Y}") / f"{self.day:%m}" / self.accession


def write_limb_archive(root: Path, *, patients: int, seed: int, broken: int = 0) -> Path:
    """Write a DICOM tree ``YYYY/MM/accession/IM0000.dcm`` and ``labels.csv``.

    Parameters
    ----------
    root : Path
        Folder to write into; made when absent.
    patients : int
        Synthetic patients, each with one or two studies of one picture.
    seed : int
        Same seed, same bytes.
    broken : int
        Damaged files on top: cut short, no DICOM, without UIDs, a file twice, wrong length, in
        turn. Their accession numbers are labelled too, as in a real archive.

    Returns
    -------
    Path
        The file labels.csv: accession_number, patient_id, target (fracture | no_fracture).
    """
    root = Path(root)
    studies = [study for index in range(patients) for study in draw_studies(seed, index)]
    for study in studies:
        write_dataset(root / study.folder / "IM0000.dcm", limb_dataset(study))
    for index in range(broken):
        # Patients far beyond the whole ones, so that more patients never change the broken files.
        study = draw_studies(seed, _FIRST_BROKEN + index)[0]
        studies += _BREAKS[index % len(_BREAKS)](root, study)
    labels = root / "labels.csv"
    labels.parent.mkdir(parents=True, exist_ok=True)
    with labels.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["accession_number", "patient_id", "target"])
        writer.writerows([s.accession, s.patient_id, s.target] for s in studies)
    return labels


def draw_studies(seed: int, patient: int) -> list[Study]:
    """Draw all studies of one patient; device, syntax and date know nothing of the truth."""
    rng = np.random.default_rng([seed, patient])
    anatomy = draw_anatomy(rng)
    name = f"{MARK}-{rng.choice(FAMILIES)}^{rng.choice(GIVEN)}"
    female = bool(rng.random() < 0.5)
    studies = []
    for number in range(1 + int(rng.random() < SECOND_STUDY)):
        vendor = VENDORS[rng.integers(len(VENDORS))]
        studies.append(
            Study(
                patient=patient,
                number=number,
                seed=seed,
                anatomy=anatomy,
                shot=draw_shot(rng, fractured=bool(rng.random() < 0.5)),
                vendor=vendor,
                syntax=_SYNTAXES[rng.integers(len(_SYNTAXES))],
                inverse=bool(rng.random() < vendor.inverse_share),
                day=FIRST_DAY + timedelta(days=int(rng.integers(3 * 365))),
                female=female,
                name=name,
            )
        )
    return studies


def limb_dataset(study: Study) -> Dataset:
    """Return one radiograph as a DICOM dataset (CR or DX image, PS3.3 A.2 and A.26)."""
    grey = render(study.anatomy, study.shot)
    if study.inverse:
        grey = (1 << BITS) - 1 - grey
    dataset = _header(study)
    dataset.Rows, dataset.Columns = grey.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME1" if study.inverse else "MONOCHROME2"
    dataset.PresentationLUTShape = "INVERSE" if study.inverse else "IDENTITY"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, BITS, BITS - 1
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "US"
    dataset.WindowCenter, dataset.WindowWidth = str(1 << (BITS - 1)), str(1 << BITS)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    encode_pixels(dataset, grey, study.syntax)
    return dataset


def _header(study: Study) -> Dataset:
    vendor, shot, day = study.vendor, study.shot, f"{study.day:%Y%m%d}"
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.SOPClassUID = _CR if vendor.modality == "CR" else _DX
    dataset.SOPInstanceUID = uid(study.seed, study.accession, "instance")
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = day
    dataset.StudyTime = dataset.ContentTime = f"{8 + study.patient % 10:02d}1500"
    dataset.AccessionNumber = study.accession
    dataset.Modality = vendor.modality
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.Manufacturer, dataset.ManufacturerModelName = vendor.manufacturer, vendor.model
    dataset.InstitutionName = f"{MARK} General Hospital"
    dataset.ReferringPhysicianName = f"{MARK}-Referrer^Synthetic"
    dataset.StationName = f"XR{VENDORS.index(vendor)}"
    dataset.StudyDescription = "SYNTHETIC forearm"
    dataset.SeriesDescription = "SYNTHETIC radiograph, not a patient"
    dataset.PatientName, dataset.PatientID = study.name, study.patient_id
    dataset.PatientBirthDate = f"{study.day.year - study.anatomy.age}0101"
    dataset.PatientSex = "F" if study.female else "M"
    dataset.PatientAge = f"{study.anatomy.age:03d}Y"
    dataset.BodyPartExamined = "FOREARM"
    dataset.KVP = f"{vendor.kvp:.1f}"
    # A dose bar the detector shows; it follows the tube, not the truth.
    dataset.Exposure = str(round(shot.exposure / 400))
    dataset.DeviceSerialNumber = f"{MARK}{VENDORS.index(vendor):03d}"
    dataset.ImagerPixelSpacing = [f"{vendor.spacing:g}"] * 2
    dataset.ViewPosition = "LL" if shot.lateral else "AP"
    dataset.StudyInstanceUID = uid(study.seed, study.accession, "study")
    dataset.SeriesInstanceUID = uid(study.seed, study.accession, "series")
    dataset.StudyID, dataset.SeriesNumber, dataset.InstanceNumber = "1", "1", "1"
    dataset.PatientOrientation = ["L", "F"] if shot.left else ["R", "F"]
    dataset.ImageLaterality = "L" if shot.left else "R"
    dataset.BurnedInAnnotation = "NO"
    return dataset


def uid(*facts: object) -> str:
    """Return a UID under 2.25 (PS3.5 B.2) made from facts, the same for the same facts."""
    text = "|".join(str(fact) for fact in facts)
    return "2.25." + str(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))


_FIRST_BROKEN = 90000
"""Number of the first patient with a broken file."""


def _cut_short(root: Path, study: Study) -> list[Study]:
    """Write the first two thirds of a file, as a broken transfer leaves it."""
    path = root / study.folder / "IM0000.dcm"
    write_dataset(path, limb_dataset(study))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    return [study]


def _not_dicom(root: Path, study: Study) -> list[Study]:
    """Write a text with the name of an image."""
    path = root / study.folder / "IM0000.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("This is not a DICOM file.\n" * 40)
    return [study]


def _without_uids(root: Path, study: Study) -> list[Study]:
    """Leave out the UIDs that say which image this is."""
    dataset = limb_dataset(study)
    for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        delattr(dataset, name)
    del dataset.file_meta.MediaStorageSOPInstanceUID
    write_dataset(root / study.folder / "IM0000.dcm", dataset)
    return [study]


def _twice(root: Path, study: Study) -> list[Study]:
    """Write a whole image under two names."""
    dataset = limb_dataset(study)
    write_dataset(root / study.folder / "IM0000.dcm", dataset)
    write_dataset(root / study.folder / "IM0001.dcm", dataset)
    return [study]


def _wrong_length(root: Path, study: Study) -> list[Study]:
    """Promise more rows than Pixel Data holds, in a file that is whole otherwise."""
    dataset = limb_dataset(study)
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        grey = render(study.anatomy, study.shot)
        encode_pixels(dataset, grey, ExplicitVRLittleEndian)
    dataset.Rows = dataset.Rows + 16
    write_dataset(root / study.folder / "IM0000.dcm", dataset)
    return [study]


_BREAKS: tuple[Callable[[Path, Study], list[Study]], ...] = (
    _cut_short,
    _not_dicom,
    _without_uids,
    _twice,
    _wrong_length,
)
