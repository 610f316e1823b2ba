"""An archive of synthetic breast ultrasound as DICOM, with classes, descriptors and masks."""

import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from tasks.archive.nifti import write_nifti
from tasks.phantom.breast import SHAPE, SPACING, draw_breast
from tasks.phantom.encode import encode_pixels, write_dataset
from tasks.phantom.visits import Visit, draw_visit, header

_US = "1.2.840.10008.5.1.4.1.1.6.1"
_SYNTAXES = (ExplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless)
_WORDS = ("margin", "echo", "posterior", "upright", "halo", "calcified")


@dataclass(frozen=True)
class Transducer:
    """Header values of one synthetic make of ultrasound, and its spacing over the asked one."""

    manufacturer: str
    model: str
    spacing: float


TRANSDUCERS = (
    Transducer("GE Healthcare", "LOGIQ E9", 1.0),
    Transducer("SIEMENS", "ACUSON S2000", 0.92),
    Transducer("Philips Medical Systems", "EPIQ 7G", 1.08),
    Transducer("SuperSonic Imagine SA", "Aixplorer", 0.97),
)


def write_breast_archive(
    root: Path,
    *,
    patients: int,
    seed: int,
    difficulty: str = "standard",
    shape: tuple[int, int] = SHAPE,
    spacing: tuple[float, float] = SPACING,
) -> Path:
    """Write breast ultrasound pictures, one a patient.

    Parameters
    ----------
    root : Path
        Gets ``dicom/YYYY/MM/ACCESSION/US0000.dcm``, and in ``truth/`` ``labels.csv``,
        ``masks/ACCESSION.nii.gz`` (1 is mass; normal pictures have an empty one) and
        ``outlines.json``, COCO's polygons around the same masks.
    patients : int
        More patients leave the first ones as they are.
    seed : int
        Same seed, same bytes.
    difficulty : str
        ``easy``, ``standard`` or ``hard``.
    shape : tuple of int
        (rows, columns).
    spacing : tuple of float
        (row, column) in mm; the make of the device varies it by some per cent.

    Returns
    -------
    Path
        ``truth/labels.csv``: accession_number, patient_id, target (normal | benign | malignant),
        diameter_mm and the words of BI-RADS, empty for a normal picture.
    """
    root = Path(root)
    masks = root / "truth" / "masks"
    masks.mkdir(parents=True, exist_ok=True)
    labels = root / "truth" / "labels.csv"
    outlines = {"images": [], "categories": [{"id": 1, "name": "mass"}], "annotations": []}
    with labels.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["accession_number", "patient_id", "target", "diameter_mm", *_WORDS])
        for patient in range(patients):
            visit = draw_visit("U", seed, patient, (22, 85))
            rng = np.random.default_rng([seed, patient, 3])
            device = TRANSDUCERS[rng.integers(len(TRANSDUCERS))]
            syntax = _SYNTAXES[rng.integers(len(_SYNTAXES))]
            own = (spacing[0] * device.spacing, spacing[1] * device.spacing)
            drawn = draw_breast(
                int(rng.integers(2**31)), shape=shape, spacing=own, difficulty=difficulty
            )
            dataset = _dataset(visit, device, drawn.image, own)
            encode_pixels(dataset, drawn.image, syntax)
            write_dataset(root / "dicom" / visit.folder / "US0000.dcm", dataset)
            affine = np.zeros((4, 4))
            affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 1, own[0], own[1], 1
            mask = drawn.mask[None].astype(np.uint8)
            write_nifti(masks / f"{visit.accession}.nii.gz", mask, affine)
            _outline(outlines, visit.accession, drawn.mask)
            words: list[object] = [""] * (1 + len(_WORDS))
            if drawn.mass is not None:
                told = asdict(drawn.mass)
                words = [f"{2 * drawn.mass.radius:.1f}", *(told[word] for word in _WORDS)]
            writer.writerow([visit.accession, visit.patient_id, drawn.target, *words])
    text = json.dumps(outlines, separators=(",", ":"))
    (root / "truth" / "outlines.json").write_text(text + "\n", encoding="utf-8")
    return labels


def _outline(coco: dict[str, list], accession: str, mask: np.ndarray) -> None:
    """List a picture, and the polygon around its mass: pixel i reaches from i to i + 1."""
    from skimage.measure import find_contours

    number = len(coco["images"]) + 1
    rows, columns = mask.shape
    image = {"id": number, "file_name": f"{accession}.dcm", "height": rows, "width": columns}
    coco["images"].append(image)
    if not mask.any():
        return
    rings = [ring - 0.5 for ring in find_contours(np.pad(mask.astype(float), 1), 0.5)]
    there = np.argwhere(mask)
    (top, left), (bottom, right) = there.min(0).tolist(), (there.max(0) + 1).tolist()
    coco["annotations"].append(
        {
            "id": len(coco["annotations"]) + 1,
            "image_id": number,
            "category_id": 1,
            "iscrowd": 0,
            "area": int(mask.sum()),
            "bbox": [left, top, right - left, bottom - top],
            "segmentation": [ring[:-1, ::-1].ravel().tolist() for ring in rings],
        }
    )


def _dataset(
    visit: Visit, device: Transducer, image: np.ndarray, spacing: tuple[float, float]
) -> Dataset:
    dataset = header(visit, "US", _US, "BREAST", "breast ultrasound")
    dataset.PatientSex = "F"
    dataset.Laterality, dataset.PatientOrientation = "LR"[visit.patient % 2], ""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "BREAST"]
    dataset.Manufacturer, dataset.ManufacturerModelName = device.manufacturer, device.model
    dataset.SOPInstanceUID = visit.uid("US", "instance")
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.Rows, dataset.Columns = image.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelSpacing = [f"{spacing[0]:g}", f"{spacing[1]:g}"]
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    region = Dataset()
    # PS3.3 C.8.5.5: tissue in 2-D, units of cm, the whole picture.
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
    region.RegionLocationMaxX1 = image.shape[1] - 1
    region.RegionLocationMaxY1 = image.shape[0] - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX, region.PhysicalDeltaY = spacing[1] / 10, spacing[0] / 10
    dataset.SequenceOfUltrasoundRegions = [region]
    return dataset
