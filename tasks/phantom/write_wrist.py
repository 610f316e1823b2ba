"""An archive of synthetic wrist radiographs as DICOM: two views a study, boxes and tables."""

from pathlib import Path

import numpy as np
from pydicom import Dataset

from tasks.phantom.encode import encode_pixels, write_dataset
from tasks.phantom.radiograph import BITS, SHAPE, SPACING, VIEWS, Film, expose
from tasks.phantom.scanner import SYNTAXES
from tasks.phantom.truth import write_tables
from tasks.phantom.visits import Visit, draw_visit, header
from tasks.phantom.wrist import Wrist, draw_wrist
from tasks.phantom.write import CLASSES, VENDORS, Vendor

_CR = "1.2.840.10008.5.1.4.1.1.1"
_DX = "1.2.840.10008.5.1.4.1.1.1.1"


def write_wrist_archive(
    root: Path,
    *,
    patients: int,
    seed: int,
    difficulty: str = "standard",
    shape: tuple[int, int] = SHAPE,
    spacing: float = SPACING,
) -> Path:
    """Write wrist radiographs, one study of two views a patient.

    Parameters
    ----------
    root : Path
        Gets ``dicom/YYYY/MM/ACCESSION/{PA,LL}0000.dcm`` and in ``truth/``: ``labels.csv``,
        ``boxes.csv`` (a row a fracture and view: pixels from 0, first and last included),
        ``dataset.csv`` in columns of the GRAZPEDWRI-DX table, ``confounders.csv`` (a row a study:
        yes or no of a cast, of metal and of an open growth plate).
    patients : int
        More patients leave the first ones as they are.
    seed : int
        Same seed, same bytes.
    difficulty : str
        ``easy``, ``standard`` or ``hard``.
    shape : tuple of int
        (rows, columns).
    spacing : float
        mm a pixel; devices vary it by some per cent.

    Returns
    -------
    Path
        ``truth/labels.csv``: accession_number, patient_id, target (fracture | no_fracture), ao.
    """
    root = Path(root)
    tables: dict[str, list[list[object]]] = {name: [row] for name, row in _COLUMNS.items()}
    for patient in range(patients):
        rng = np.random.default_rng([seed, patient, 4])
        wrist = draw_wrist(int(rng.integers(2**31)), difficulty=difficulty)
        visit = draw_visit("W", seed, patient, (int(wrist.age), int(wrist.age) + 1))
        vendor = VENDORS[rng.integers(len(VENDORS))]
        syntax = SYNTAXES[rng.integers(len(SYNTAXES))]
        inverse = bool(rng.random() < vendor.inverse_share)
        own = spacing * vendor.spacing
        target = CLASSES[0] if wrist.breaks else CLASSES[1]
        tables["labels"].append([visit.accession, visit.patient_id, target, wrist.code])
        beside = (wrist.cast, wrist.metal, wrist.radius.plate > 0)
        tables["confounders"].append([visit.accession, *("yes" if one else "no" for one in beside)])
        for number, view in enumerate(VIEWS):
            film = expose(wrist, view, shape=shape, spacing=own)
            dataset = _dataset(visit, vendor, wrist, view, number, film, inverse, own)
            grey = (1 << BITS) - 1 - film.image if inverse else film.image
            encode_pixels(dataset, grey, syntax)
            write_dataset(root / "dicom" / visit.folder / f"{view}0000.dcm", dataset)
            _rows(tables, visit, vendor, wrist, view, dataset.SOPInstanceUID, film, own)
    write_tables(root / "truth", tables)
    return root / "truth" / "labels.csv"


_COLUMNS: dict[str, list[object]] = {
    "labels": ["accession_number", "patient_id", "target", "ao"],
    "confounders": ["accession_number", "cast", "metal", "growth_plate"],
    "boxes": [
        "accession_number", "patient_id", "sop_instance_uid", "view", "label",
        "xmin", "ymin", "xmax", "ymax",
    ],
    "dataset": [
        "filestem", "patient_id", "study_number", "gender", "age", "laterality", "projection",
        "initial_exam", "ao_classification", "cast", "fracture_visible", "metal",
        "pixel_spacing", "device_manufacturer",
    ],
}  # fmt: skip


def _rows(
    tables: dict[str, list[list[object]]],
    visit: Visit,
    vendor: Vendor,
    wrist: Wrist,
    view: str,
    instance: str,
    film: Film,
    spacing: float,
) -> None:
    for top, left, bottom, right in film.boxes:
        box = [f"{value:.1f}" for value in (left, top, right, bottom)]
        row = [visit.accession, visit.patient_id, instance, view, CLASSES[0], *box]
        tables["boxes"].append(row)
    side = "L" if wrist.left else "R"
    projection = list(VIEWS).index(view) + 1
    flags = [1 if flag else "" for flag in (wrist.cast, len(film.boxes) > 0, wrist.metal)]
    tables["dataset"].append(
        [
            f"{visit.accession}_{view}",
            visit.patient_id,
            1,
            "F" if wrist.female else "M",
            f"{wrist.age:.1f}",
            side,
            projection,
            1,
            wrist.code,
            *flags,
            f"{spacing:.4g}",
            vendor.manufacturer,
        ]
    )


def _dataset(
    visit: Visit,
    vendor: Vendor,
    wrist: Wrist,
    view: str,
    number: int,
    film: Film,
    inverse: bool,
    spacing: float,
) -> Dataset:
    sop_class = _CR if vendor.modality == "CR" else _DX
    dataset = header(visit, vendor.modality, sop_class, "WRIST", f"wrist {view}")
    dataset.SeriesNumber = str(number + 1)
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.PatientSex = "F" if wrist.female else "M"
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.Manufacturer, dataset.ManufacturerModelName = vendor.manufacturer, vendor.model
    dataset.SOPInstanceUID = visit.uid(view, "instance")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.Rows, dataset.Columns = film.image.shape
    dataset.PhotometricInterpretation = "MONOCHROME1" if inverse else "MONOCHROME2"
    dataset.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, BITS, BITS - 1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = "0", "1", "US"
    dataset.WindowCenter, dataset.WindowWidth = str(1 << (BITS - 1)), str(1 << BITS)
    dataset.KVP = f"{vendor.kvp:.1f}"
    dataset.ImagerPixelSpacing = [f"{spacing:.6g}"] * 2
    dataset.ViewPosition = view
    dataset.ImageLaterality = "L" if wrist.left else "R"
    dataset.PatientOrientation = ["L", "F"] if wrist.left else ["R", "F"]
    dataset.BurnedInAnnotation = "NO"
    if vendor.modality == "DX":
        _add_detector(dataset, inverse)
    return dataset


def _add_detector(dataset: Dataset, inverse: bool) -> None:
    """Add what the DX modules ask for beyond CR's (PS3.3 A.26)."""
    dataset.LossyImageCompression = "00"
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = 1 if inverse else -1
    dataset.DetectorType, dataset.PositionerType = "SCINTILLATOR", "NONE"
    dataset.AcquisitionContextSequence = []
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator = "74670003", "SCT"
    region.CodeMeaning = "Wrist joint"
    dataset.AnatomicRegionSequence = [region]
