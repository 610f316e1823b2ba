"""An archive of synthetic chest CTs: DICOM of several scanners, and what there is to find."""

from pathlib import Path

import numpy as np

from tasks.phantom.chest import SHAPE, SPACING, Chest, draw_chest
from tasks.phantom.scanner import DOSES, SCANNERS, SYNTAXES, scan
from tasks.phantom.stack import axial_affine, write_stack, write_truth
from tasks.phantom.truth import write_tables
from tasks.phantom.visits import Visit, draw_visit, header

AGREED = 3
"""Readers of four from which on LUNA16 counts a nodule; the others are excluded, not negative."""

_CT = "1.2.840.10008.5.1.4.1.1.2"
_NODULE = ("27925004", "SCT", "Nodule")


def write_chest_archive(
    root: Path,
    *,
    patients: int,
    seed: int,
    difficulty: str = "standard",
    shape: tuple[int, int, int] = SHAPE,
    spacing: tuple[float, float, float] = SPACING,
) -> Path:
    """Write chest CTs with lung nodules.

    Parameters
    ----------
    root : Path
        Gets ``dicom/YYYY/MM/ACCESSION/CTnnnn.dcm`` and, in ``truth/``: ``annotations.csv`` and
        ``annotations_excluded.csv`` in LUNA16's columns (world mm, LPS), ``readers.csv`` with one
        row a mark as in the LIDC table, ``labels.csv``, ``masks/ACCESSION.nii.gz`` (number of the
        nodule) and ``seg/ACCESSION.dcm``.
    patients : int
        One series each; more patients leave the first ones as they are.
    seed : int
        Same seed, same bytes.
    difficulty : str
        ``easy``, ``standard`` or ``hard``.
    shape : tuple of int
        (z, y, x).
    spacing : tuple of float
        (z, y, x) in mm; the scanner varies the last two by some per cent.

    Returns
    -------
    Path
        ``truth/labels.csv``: accession_number, patient_id, target (nodule | no_nodule), nodules.
    """
    root = Path(root)
    tables: dict[str, list[list[object]]] = {name: [row] for name, row in _COLUMNS.items()}
    for patient in range(patients):
        visit = draw_visit("C", seed, patient, (35, 85))
        rng = np.random.default_rng([seed, patient, 1])
        scanner = SCANNERS[rng.integers(len(SCANNERS))]
        syntax = SYNTAXES[rng.integers(len(SYNTAXES))]
        own = (spacing[0], spacing[1] * scanner.spacing, spacing[2] * scanner.spacing)
        drawn = int(rng.integers(2**31))
        chest = draw_chest(drawn, shape=shape, spacing=own, difficulty=difficulty)
        image = scan(chest.body, own, scanner, drawn, DOSES[difficulty])
        affine = axial_affine(shape, own)
        first = header(visit, "CT", _CT, "CHEST", "chest CT")
        first.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        first.Manufacturer, first.ManufacturerModelName = scanner.manufacturer, scanner.model
        first.ConvolutionKernel, first.KVP = scanner.kernel, f"{scanner.tube}"
        first.RescaleIntercept, first.RescaleSlope, first.RescaleType = "-1024", "1", "HU"
        first.WindowCenter, first.WindowWidth = "-600", "1500"
        stored = np.clip(image.astype(np.int32) + 1024, 0, 4095).astype(np.uint16)
        folder = root / "dicom" / visit.folder
        images = write_stack(folder, visit, first, stored, affine, syntax, "CT")
        names = {n: (f"nodule {n}", _NODULE) for n in range(1, len(chest.nodules) + 1)}
        write_truth(root, visit, images, chest.labels, affine, names)
        _rows(tables, visit, chest, rng)
    write_tables(root / "truth", tables)
    return root / "truth" / "labels.csv"


_LUNA = ["seriesuid", "coordX", "coordY", "coordZ", "diameter_mm"]
_COLUMNS: dict[str, list[object]] = {
    "labels": ["accession_number", "patient_id", "target", "nodules"],
    "annotations": list(_LUNA),
    "annotations_excluded": list(_LUNA),
    "readers": [
        "patient_id", "series_uid", "nodule", "reader", "slice_thickness", "pixel_spacing",
        "n_slices", "cx_px", "cy_px", "cz_mm", "max_diam_mm", "subtlety", "malignancy",
        "spiculation", "texture", "place",
    ],
}  # fmt: skip


def _rows(
    tables: dict[str, list[list[object]]],
    visit: Visit,
    chest: Chest,
    rng: np.random.Generator,
) -> None:
    series = visit.uid("chest CT", "series")
    count = len(chest.nodules)
    target = "nodule" if count else "no_nodule"
    tables["labels"].append([visit.accession, visit.patient_id, target, count])
    for number, nodule in enumerate(chest.nodules, start=1):
        z, y, x = nodule.centre
        agreed = len(nodule.reader_diameters) >= AGREED
        place = [f"{v:.3f}" for v in (x, y, z, nodule.diameter)]
        tables["annotations" if agreed else "annotations_excluded"].append([series, *place])
        for reader, diameter in enumerate(nodule.reader_diameters, start=1):
            ratings = [
                int(np.clip(round(rated + rng.normal(0, 0.55)), 1, 5))
                for rated in (
                    nodule.subtlety,
                    nodule.malignancy,
                    nodule.spiculation,
                    nodule.texture,
                )
            ]
            pixel = [
                f"{at / step + (n - 1) / 2:.1f}"
                for at, step, n in zip(
                    (x, y), chest.spacing[:0:-1], chest.body.shape[:0:-1], strict=True
                )
            ]
            tables["readers"].append(
                [
                    visit.patient_id,
                    series,
                    number,
                    reader,
                    f"{chest.spacing[0]:g}",
                    f"{chest.spacing[1]:g}",
                    chest.body.shape[0],
                    *pixel,
                    f"{z:.2f}",
                    f"{diameter:.2f}",
                    *ratings,
                    nodule.place,
                ]
            )
