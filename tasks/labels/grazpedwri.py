"""GRAZPEDWRI-DX: 20,327 radiographs of children's wrists (Nagy 2022).

Layout: ``dataset.csv`` with a row an image, PNG files in any folders; the boxes, in YOLO's form, in
``folder_structure/yolov5/labels/<filestem>.txt`` or ``labels/<filestem>.txt``.
"""

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from tasks.labels.config import PUBLIC
from tasks.labels.public import FileLabels, ImageLine, ReadFile, flag, records, value_labels

Shares = tuple[str, tuple[float, float, float, float, float, float]]
"""Class, lowest and highest corner (z, y, x) in shares of the picture."""

CLASSES = PUBLIC["grazpedwri"]["classes"]
JOIN = PUBLIC["grazpedwri"]["join"]
TABLE = "dataset.csv"

PROJECTIONS = {"1": "AP", "2": "LATERAL", "3": "OBLIQUE"}
BOX_CLASSES = (
    "boneanomaly", "bonelesion", "foreignbody", "fracture", "metal", "periostealreaction",
    "pronatorsign", "softtissue", "text",
)  # fmt: skip
"""Classes of the set's boxes, in the order of their numbers."""

FOLDERS = ("labels", "folder_structure/yolov5/labels")

KEPT = ("cast", "metal", "osteopenia", "initial_exam", "diagnosis_uncertain")
"""Columns of the set that confound a fracture, kept for cohorts and subgroups."""


def images(read: ReadFile, files: Iterable[str]) -> list[ImageLine]:
    """Return whose each image is: ``patient_id`` groups, so that a split is one of patients.

    Raises
    ------
    ValueError
        No image stands where a row names one, or a flag is neither 0 nor 1.
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
        try:
            facts |= {name: str(int(flag(row[name], blank=False))) for name in KEPT if name in row}
        except ValueError as error:
            wrong = f"{TABLE} line {line}: {error} in {', '.join(KEPT)}; correct the row."
            raise ValueError(wrong) from None
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


def boxes_of_files(
    read: ReadFile, classes: Sequence[str]
) -> tuple[bytes, list[tuple[int, str, Shares | None]], tuple[tuple[int, str, tuple[str]], ...]]:
    """Read the file of boxes of each image; an image without the classes has nothing to be found.

    Parameters
    ----------
    read : callable
    classes : sequence of str
        Of `BOX_CLASSES`; boxes of others are left out.

    Returns
    -------
    data : bytes
        All that was read.
    entries : list of (line, filestem, (class, corners (z, y, x) twice in shares) or None)
    problems : tuple of (line, reason, (filestem,))

    Raises
    ------
    ValueError
        A class is none of the set's.
    """
    if unknown := [name for name in classes if name not in BOX_CLASSES]:
        raise ValueError(f"no box is of class {unknown[0]!r}; they are of {', '.join(BOX_CLASSES)}")
    table = read(TABLE)
    texts, entries, problems = [table], [], []
    for line, row in records(table, TABLE, ("filestem",)):
        stem = row["filestem"]
        text = _first(read, stem)
        if text is None:
            problems.append((line, "its file of boxes is not there", (stem,)))
            continue
        texts.append(text)
        entries.append((line, stem, None))
        try:
            shares = [_shares(one) for one in text.decode("ascii").splitlines() if one.strip()]
        except ValueError:
            problems.append((line, "its file of boxes is not of YOLO's form", (stem,)))
            continue
        entries += [(line, stem, one) for one in shares if one[0] in classes]
    return b"".join(texts), entries, tuple(problems)


def _first(read: ReadFile, stem: str) -> bytes | None:
    for folder in FOLDERS:
        try:
            return read(f"{folder}/{stem}.txt")
        except FileNotFoundError:
            continue
    return None


def _shares(line: str) -> Shares:
    """Return class and corners of a line of class, middle and size in shares of the picture."""
    number, *places = line.split()
    x, y, width, height = sides = tuple(map(float, places))
    if not all(0 <= side <= 1 for side in sides) or not (width and height):
        raise ValueError("a side is no share of the picture, or the box has no area")
    top, left, bottom, right = y - height / 2, x - width / 2, y + height / 2, x + width / 2
    if not 0 <= int(number) < len(BOX_CLASSES):
        raise ValueError("no class of this number")
    return BOX_CLASSES[int(number)], (0.0, top, left, 1.0, bottom, right)
