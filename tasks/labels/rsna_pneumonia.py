"""RSNA pneumonia detection challenge 2018: DICOM radiographs, boxes of lung opacities.

Layout: ``stage_2_train_labels.csv`` with columns patientId, x, y, width, height, Target, a row a
box; images without an opacity have one row without a box. ``patientId`` is the Patient ID of the
DICOM files, so their images need no mapping.
"""

from tasks.labels.config import PUBLIC
from tasks.labels.public import FileLabels, ReadFile, flag, records, value_labels
from tasks.labels.shapes import PixelBox, checked_box

CLASSES = PUBLIC["rsna_pneumonia"]["classes"]
"""``no_opacity`` is not healthy: a third of those images show something else."""

JOIN = PUBLIC["rsna_pneumonia"]["join"]
TABLE = "stage_2_train_labels.csv"


def class_labels(read: ReadFile) -> list[FileLabels]:
    """Return the label of each row, joined on the patient."""
    return [
        value_labels(
            TABLE, read(TABLE), JOIN, "patientId", lambda row: CLASSES[flag(row.get("Target", ""))]
        )
    ]


def boxes(data: bytes) -> list[PixelBox]:
    """Return the boxes of the table, in pixels of the images as published.

    Raises
    ------
    ValueError
        A column or a number of a box is missing; names file and line.
    """
    columns = ("patientId", "x", "y", "width", "height", "Target")
    found = []
    for line, row in records(data, TABLE, columns):
        try:
            if flag(row["Target"]):
                sides = [row[name] for name in columns[1:5]]
                found.append(checked_box(line, row["patientId"], "opacity", *sides))
        except ValueError as error:
            raise ValueError(f"{TABLE} line {line}: {error}; correct the row.") from None
    return found
