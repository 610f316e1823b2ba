"""BUSI: 780 pictures of breast ultrasound with masks (Al-Dhabyani 2020).

Layout: ``{normal,benign,malignant}/benign (1).png`` and beside each picture its masks,
``benign (1)_mask.png`` and ``benign (1)_mask_1.png``, white where the mass is; the folder is the
label.  The set names no patients (there are about 600): each picture counts as one, so that two
pictures of one patient may stand on two sides.
"""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np

from tasks.archive.nifti import write_nifti
from tasks.archive.picture import read_picture
from tasks.archive.sources import MAPPING_NAME
from tasks.labels.config import PUBLIC
from tasks.labels.public import FileLabels, ImageLine, ReadFile, value_labels

JOIN = PUBLIC["busi"]["join"]
FOLDERS = ("normal", "benign", "malignant")
"""The set's three; a scenario is about those that are its classes."""

TARGET = "target"
"""Column of the mapping that holds the folder."""

_MASK = re.compile(r"(.+)_mask(_\d+)?")


def images(_: ReadFile, files: Iterable[str]) -> list[ImageLine]:
    """Return whose each picture is, in the order of their places; masks are no pictures.

    Raises
    ------
    ValueError
        One of the three folders holds no picture.
    """
    found = []
    for file in sorted(files):
        place = PurePosixPath(file)
        if place.parent.name not in FOLDERS or place.suffix.lower() != ".png":
            continue
        if _MASK.fullmatch(place.stem):
            continue
        facts = {"modality": "US", "body_part": "BREAST", "sex": "F", TARGET: place.parent.name}
        found.append(ImageLine(file, place.stem, place.stem, place.stem, facts))
    there = {line.facts[TARGET] for line in found}
    if missing := [name for name in FOLDERS if name not in there]:
        raise ValueError(
            f"the folder {missing[0]} of BUSI holds no PNG; give the folder that holds "
            f"{', '.join(FOLDERS)}"
        )
    return found


def class_labels(read: ReadFile) -> list[FileLabels]:
    """Return the folder of each picture as its label, from the mapping that `images` made."""

    def value(row: dict[str, str]) -> str:
        if TARGET not in row:
            raise ValueError(f"there is no column {TARGET}: write the mapping anew (radloop map)")
        return row[TARGET]

    return [value_labels(MAPPING_NAME, read(MAPPING_NAME), JOIN, "accession", value)]


def write_masks(folder: Path, out: Path) -> int:
    """Write one mask a picture, the union of its files, as a scenario of format masks reads it.

    Parameters
    ----------
    folder : Path
        The set's.
    out : Path
        Gets ``benign (1).nii.gz``: 1 where the mass is, on the picture's grid.

    Returns
    -------
    int
        How many were written.

    Raises
    ------
    ValueError
        The masks of a picture have different sizes.
    """
    parts: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*/*.png")):
        if path.parent.name in FOLDERS and (named := _MASK.fullmatch(path.stem)):
            parts.setdefault(named[1], []).append(path)
    out.mkdir(exist_ok=True)
    for name, paths in parts.items():
        read = [read_picture(path.read_bytes(), None) for path in paths]
        if len({one.array.shape for one in read}) > 1:
            raise ValueError(f"{name}: its {len(read)} masks have different sizes; unpack anew")
        mask = np.any([one.array > one.array.max() / 2 for one in read], axis=0)
        write_nifti(out / f"{name}.nii.gz", mask.astype(np.uint8), read[0].affine)
    return len(parts)
