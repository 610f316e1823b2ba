"""FracAtlas: 4,083 radiographs, fractured or not, with boxes (Abedeen 2023).

Layout: ``dataset.csv`` with a row an image, ``images/{Fractured,Non_fractured}/*.jpg``; boxes and
outlines stand in ``Annotations/COCO JSON/COCO_fracture_masks.json``. The set names no patients:
each image counts as one, so that two images of one patient may stand on two sides.
"""

from collections.abc import Iterable
from pathlib import PurePosixPath

from tasks.labels.config import PUBLIC
from tasks.labels.public import FileLabels, ImageLine, ReadFile, flag, records, value_labels

CLASSES = PUBLIC["fracatlas"]["classes"]
JOIN = PUBLIC["fracatlas"]["join"]
TABLE = "dataset.csv"

PARTS = ("hand", "leg", "hip", "shoulder")
FOLDERS = {"Fractured": "1", "Non_fractured": "0"}
VIEWS = {"frontal": "AP", "lateral": "LATERAL", "oblique": "OBLIQUE"}


def images(read: ReadFile, files: Iterable[str]) -> list[ImageLine]:
    """Return whose each image is; files that no row names are left out.

    Raises
    ------
    ValueError
        No image stands where a row names one, or it stands in the other class's folder.
    """
    places = {PurePosixPath(file).name: file for file in files if file.startswith("images/")}
    found = []
    for line, row in records(read(TABLE), TABLE, ("image_id", "fractured", *PARTS)):
        file = places.get(row["image_id"])
        if file is None:
            raise ValueError(f"{TABLE} line {line}: its image is not below images/; unpack it.")
        folder = FOLDERS.get(PurePosixPath(file).parent.name, row["fractured"][:1])
        if folder != row["fractured"][:1]:
            raise ValueError(
                f"{TABLE} line {line}: its value of fractured contradicts the folder its image is "
                "in; correct the row or move the image."
            )
        facts = {"modality": "DX"}
        facts |= _only({part: part.upper() for part in PARTS}, row, "body_part")
        facts |= _only(VIEWS, row, "view")
        facts |= {name: row[name] for name in ("hardware", "multiscan") if row.get(name)}
        key = row["image_id"]
        found.append(ImageLine(file, key, key, key, facts))
    return found


def class_labels(read: ReadFile) -> list[FileLabels]:
    """Return the label of each image, joined on its name as accession."""
    return [
        value_labels(
            TABLE,
            read(TABLE),
            JOIN,
            "image_id",
            lambda row: CLASSES[flag(row.get("fractured", ""))],
        )
    ]


def _only(words: dict[str, str], row: dict[str, str], fact: str) -> dict[str, str]:
    """Return the fact when exactly one of its columns is set; several are no one view."""
    said = [word for column, word in words.items() if row.get(column) in ("1", "1.0")]
    return {fact: said[0]} if len(said) == 1 else {}
