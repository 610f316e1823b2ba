"""Boxes that another tool found in the test edition: read, kept by case id, held to the truth."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from flows.cohorts import Ready
from flows.home import Home
from flows.orders import orders_of
from tasks.errors import RadloopError
from tasks.evaluate.finding_scores import FindingScores
from tasks.imaging.recipe import FittedRecipe
from tasks.imaging.source import read_source
from tasks.learn.box_scores import finding_scores
from tasks.learn.boxes import Findings, rows_of_findings
from tasks.learn.job import TrainingJob

TABLE = "findings.csv"
"""The first column names the case; `class`, `score`, and the corners in voxels of the image."""

CORNERS = ("z0", "y0", "x0", "z1", "y1", "x1")
"""Lowest and highest corner in index coordinates: voxel i reaches from i - 1/2 to i + 1/2."""

FLAT = {"z0": "-0.5", "z1": "0.5"}
"""What a picture's boxes need not say."""

HOW = (
    f"write a {TABLE} whose first column names the case and whose others are class, score and "
    f"{', '.join(CORNERS)} in voxels of the image; a case in which nothing was found is a row with "
    "an empty score"
)


def read_boxes(folder: Path, job: TrainingJob) -> dict[str, list[list[float]]]:
    """Return what is found under each name: rows of class number, score and corners.

    Raises
    ------
    RadloopError
        When the table is not there, or a row holds no number, another class or an impossible box.
    """
    table = folder / TABLE
    if not table.is_file():
        raise RadloopError(f"{folder} has no {TABLE}: {HOW}")
    found: dict[str, list[list[float]]] = {}
    with table.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        first = (reader.fieldnames or [""])[0]
        if "score" not in (reader.fieldnames or ()):
            # Every row would read as a case in which nothing was found.
            raise RadloopError(f"{TABLE} has no column score: {HOW}")
        for line, row in enumerate(reader, start=2):
            rows = found.setdefault((row[first] or "").strip(), [])
            if any((row.get(name) or "").strip() for name in ("score", *CORNERS)):
                rows.append(_row(row, line, job))
    return found


def _row(row: Mapping[str, str], line: int, job: TrainingJob) -> list[float]:
    name = row.get("class") or (job.classes[0] if len(job.classes) == 1 else "")
    if name not in job.classes:
        # Not what it says: a cell may hold anything.
        raise RadloopError(
            f"line {line} of {TABLE} has a class that is not one of {', '.join(job.classes)}"
        )
    optional = FLAT if job.of_pictures else {}
    try:
        numbers = [float(row.get(n) or optional.get(n, "")) for n in ("score", *CORNERS)]
    except ValueError:
        raise RadloopError(f"line {line} of {TABLE} lacks a number: {HOW}") from None
    score, low, high = numbers[0], np.array(numbers[1:4]), np.array(numbers[4:])
    if not 0 <= score <= 1 or not np.isfinite(numbers).all() or (high <= low).any():
        raise RadloopError(
            f"line {line} of {TABLE}: a score lies from 0 to 1, and a box ends after it begins"
        )
    return [float(job.classes.index(name)), *numbers]


def write_boxes(path: Path, found: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """Write boxes by case id; a case without any is there with an empty row."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["case_id", "class", "score", *CORNERS])
        for case_id, rows in sorted(found.items()):
            for row in rows or [[]]:
                writer.writerow([case_id, *map(repr, row)])


def kept_findings(home: Home, ready: Ready, job: TrainingJob, path: Path) -> FindingScores:
    """Return kept boxes held against the true ones of the test edition."""
    found: dict[str, list[list[float]]] = {}
    with path.open(newline="") as stream:
        for case_id, *numbers in list(csv.reader(stream))[1:]:
            rows = found.setdefault(case_id, [])
            if numbers:
                rows.append([float(one) for one in numbers])
    cases = {case.case_id: case for case in job.on("test")}
    by_id = {case.case_id: case for case in ready.cohort.cases}
    recipe = FittedRecipe.from_dict(job.recipe)
    said = {}
    for order in orders_of(home, [by_id[case_id] for case_id in cases], {}):
        rows = np.array(found[order.case_id], float).reshape(-1, 8)
        boxes = Findings(rows[:, 0], rows[:, 1], rows[:, 2:].reshape(-1, 2, 3))
        said[order.case_id] = rows_of_findings(boxes, read_source(recipe, order).affine)
    return finding_scores(
        list(cases),
        [case.patient_key for case in cases.values()],
        job.classes,
        [said[case_id] for case_id in cases],
        {case_id: case.boxes for case_id, case in cases.items()},
        ready.scenario.evaluate.findings.settled(job.of_pictures).iou,
    )
