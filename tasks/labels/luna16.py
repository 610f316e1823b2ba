"""LUNA16: nodules as points with a diameter, in LPS mm of the .mhd files (Setio 2017).

``annotations.csv`` holds the nodules that count, ``annotations_excluded.csv`` findings that count
for nothing, ``candidates_V2.csv`` places to classify. Directories ``subset0`` to ``subset9`` are
the folds. World coordinates of the tables are those of ITK, which are LPS: nothing is flipped.
"""

from collections.abc import Iterable
from pathlib import PurePosixPath

from tasks.archive.tablefile import join_problem, number
from tasks.labels.public import ImageLine, ReadFile, records
from tasks.labels.shapes import Box

ANNOTATIONS = "annotations.csv"
EXCLUDED = "annotations_excluded.csv"
CANDIDATES = "candidates_V2.csv"

_PLACE = ("seriesuid", "coordX", "coordY", "coordZ")
MAX_DIAMETER_MM = 300.0
"""A larger nodule would fill the chest."""

UNKNOWN_DIAMETER_MM = 10.0
"""Stands for a diameter of -1, as in the challenge's own script: findings within count for nothing.
"""


def images(_: ReadFile, files: Iterable[str]) -> list[ImageLine]:
    """Return whose each scan of ``subset0`` to ``subset9`` is: its own, by the UID of its series.

    The set has one scan of nearly every patient of LIDC-IDRI and does not say whose it is, so each
    scan counts as a patient. Its folder is kept as ``subset``: the ten folds of the challenge.
    """
    found = []
    for file in sorted(files):
        place = PurePosixPath(file)
        if place.suffix != ".mhd" or not place.parent.name.startswith("subset"):
            continue
        facts = {"modality": "CT", "body_part": "CHEST", "subset": place.parent.name}
        found.append(ImageLine(file, place.stem, place.stem, place.stem, facts))
    return found


def nodules(data: bytes, file: str = ANNOTATIONS) -> list[Box]:
    """Return a cube around each nodule, along LPS, whose edge is its diameter.

    Parameters
    ----------
    data : bytes
    file : str
        Of `EXCLUDED` each is irrelevant; a diameter of -1, which says not measured, is allowed
        there alone and gives a cube of `UNKNOWN_DIAMETER_MM`.

    Raises
    ------
    ValueError
        A column, a series or a number is missing or impossible; names file, line and remedy.
    """
    found = []
    for line, row in records(data, file, (*_PLACE, "diameter_mm")):
        diameter = number(row["diameter_mm"])
        unmeasured = file == EXCLUDED and diameter is not None and diameter < 0
        if not unmeasured and (diameter is None or not 0 < diameter <= MAX_DIAMETER_MM):
            raise ValueError(
                f"{file} line {line}: the diameter is not between 0 and {MAX_DIAMETER_MM:g} mm. "
                "Give the file as its authors publish it."
            )
        series, centre = _place(row, file, line)
        side = UNKNOWN_DIAMETER_MM if unmeasured else diameter
        found.append(
            Box(
                line,
                series,
                "nodule",
                centre,
                # Slices, rows and columns of an axial image: z, y and x of the patient.
                ((0.0, 0.0, side), (0.0, side, 0.0), (side, 0.0, 0.0)),
                diameter_mm=None if unmeasured else diameter,
                irrelevant=file == EXCLUDED,
            )
        )
    return found


def candidates(data: bytes, file: str = CANDIDATES) -> list[Box]:
    """Return the points of the false-positive track, named ``nodule`` or ``candidate``.

    Raises
    ------
    ValueError
        As `nodules`, or a class that is neither 0 nor 1.
    """
    found = []
    for line, row in records(data, file, (*_PLACE, "class")):
        if row["class"] not in ("0", "1"):
            raise ValueError(f"{file} line {line}: the class is neither 0 nor 1.")
        series, centre = _place(row, file, line)
        found.append(Box(line, series, ("candidate", "nodule")[int(row["class"])], centre))
    return found


def _place(row: dict[str, str], file: str, line: int) -> tuple[str, tuple[float, float, float]]:
    problem = join_problem("series", row["seriesuid"])
    if problem:
        raise ValueError(f"{file} line {line}: {problem}.")
    centre = tuple(number(row[name]) for name in _PLACE[1:])
    if None in centre:
        raise ValueError(f"{file} line {line}: a coordinate is no number.")
    return row["seriesuid"], centre
