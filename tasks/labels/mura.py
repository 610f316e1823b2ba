"""MURA 1.1: radiographs of upper limbs, called normal or abnormal by study (Rajpurkar 2017).

Layout: ``{train,valid}_image_paths.csv`` and ``{train,valid}_labeled_studies.csv`` without a
header, whose paths are ``MURA-v1.1/train/XR_WRIST/patient00001/study1_positive/image1.png``.
"""

import csv
import io
import re
from collections.abc import Iterable

from tasks.labels.config import PUBLIC
from tasks.labels.public import FileLabels, ImageLine, ReadFile
from tasks.labels.tables import LabelEntry, LabelTable

CLASSES = PUBLIC["mura"]["classes"]
SIDES = ("train", "valid")
"""The published sides; the authors keep their test side to themselves."""

_STUDY = re.compile(
    r"(?:.*/)?((train|valid)/XR_([A-Z]+)/(patient\d+)/study\d+_(positive|negative))(?:/([^/]+))?/?"
)


def images(read: ReadFile, files: Iterable[str]) -> list[ImageLine]:
    """Return whose each image of ``*_image_paths.csv`` is.

    Raises
    ------
    ValueError
        A line is no path of the data set; names file and line.
    """
    found = []
    for side in SIDES:
        name = f"{side}_image_paths.csv"
        for line, (path, *_) in _rows(read(name)):
            match = _STUDY.fullmatch(path)
            if not match or not match[6]:
                raise ValueError(f"{name} line {line}: not a path of MURA; unpack the set anew.")
            study, subset, part, patient, _, image = match.groups()
            facts = {"modality": "DX", "body_part": part, "subset": subset}
            found.append(ImageLine(f"{study}/{image}", patient, study, study, facts))
    return found


def class_labels(read: ReadFile) -> list[FileLabels]:
    """Return the label of each study, joined on its path as accession."""
    found = []
    for side in SIDES:
        name = f"{side}_labeled_studies.csv"
        data = read(name)
        rows, problems = [], []
        for line, values in _rows(data):
            try:
                rows.append(_label(line, values))
            except ValueError as error:
                problems.append((line, str(error)))
        found.append(FileLabels(name, data, LabelTable(tuple(rows), tuple(problems))))
    return found


def _label(line: int, values: list[str]) -> LabelEntry:
    match = _STUDY.fullmatch(values[0])
    if len(values) != 2 or not match:
        raise ValueError("not the path of a study and its label")
    if values[1] not in ("0", "1"):
        raise ValueError("the label is neither 0 nor 1")
    if (values[1] == "1") != (match[5] == "positive"):
        raise ValueError("the label contradicts the name of the study's folder")
    return LabelEntry(line, match[1], CLASSES[int(values[1])])


def _rows(data: bytes) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(data.decode("utf-8-sig", "replace")))
    return [(reader.line_num, [text.strip() for text in row]) for row in reader if any(row)]
