"""GRAZPEDWRI-DX: 20,327 radiographs of children's wrists (Nagy 2022).

Layout: ``dataset.csv`` with a row an image, PNG files in any folders; the boxes, in YOLO's form in
``…/labels/<filestem>.txt``, are not read yet.
"""

from collections.abc import Iterable
from pathlib import PurePosixPath

from tasks.labels.config import PUBLIC
from tasks.labels.public import FileLabels, ImageLine, ReadFile, flag, records, value_labels

CLASSES = PUBLIC["grazpedwri"]["classes"]
JOIN = PUBLIC["grazpedwri"]["join"]
TABLE = "dataset.csv"

PROJECTIONS = {"1": "AP", "2": "LATERAL", "3": "OBLIQUE"}
KEPT = ("cast", "metal", "osteopenia", "initial_exam", "diagnosis_uncertain")
"""Columns of the set that confound a fracture, kept for cohorts and subgroups."""


def images(read: ReadFile, files: Iterable[str]) -> list[ImageLine]:
    """Return whose each image is: ``patient_id`` groups, so that a split is one of patients.

    Raises
    ------
    ValueError
        No image stands where a row names one.
    """
    places = {PurePosixPath(file).stem: file for file in files if file.lower().endswith(".png")}
    found = []
    for line, row in records(read(TABLE), TABLE, ("filestem", "patient_id", "study_number")):
        file = places.get(row["filestem"])
        if file is None:
            raise ValueError(f"{TABLE} line {line}: no PNG of this filestem; unpack all parts.")
        facts = {"modality": "DX", "body_part": "WRIST"}
        named = {
            "view": PROJECTIONS.get(row.get("projection", "").removesuffix(".0"), ""),
            "laterality": row.get("laterality", ""),
            "sex": row.get("gender", ""),
            "spacing": row.get("pixel_spacing", ""),
        }
        facts |= {name: value for name, value in named.items() if value}
        facts |= {name: str(int(flag(row[name], blank=False))) for name in KEPT if name in row}
        patient, stem = row["patient_id"], row["filestem"]
        found.append(ImageLine(file, patient, f"{patient}/{row['study_number']}", stem, facts))
    return found


def class_labels(read: ReadFile) -> list[FileLabels]:
    """Return the label of each image, joined on its filestem as accession; blank says none."""

    def value(row: dict[str, str]) -> str:
        if "fracture_visible" not in row:
            raise ValueError("there is no column fracture_visible")
        return CLASSES[flag(row["fracture_visible"], blank=False)]

    return [value_labels(TABLE, read(TABLE), JOIN, "filestem", value)]
