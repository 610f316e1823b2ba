"""Predictions of another tool: whose they are, kept under the home without a name of anybody.

Another tool knows a case by its accession number, by the name of its file, or by the name that
`radloop export` gave it. The coordinator turns these into case ids before anything is kept, so that
the flow, its run and its report know nothing else.
"""

import csv
import json
import shutil
import tempfile
from collections.abc import Mapping
from math import isfinite, nan
from pathlib import Path

from flows.cohorts import Ready
from flows.foreign_boxes import TABLE as FOUND
from flows.foreign_boxes import kept_findings, read_boxes, write_boxes
from flows.foreign_masks import keep_masks, measured_masks
from flows.foreign_names import meant, names_of, one_each
from flows.home import Home
from flows.judging import of_cases
from tasks.errors import RadloopError
from tasks.evaluate.estimates import Estimates, quantity_words
from tasks.evaluate.finding_scores import FindingScores
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.predictions import Predictions
from tasks.evaluate.segmentation import mask_scores
from tasks.evaluate.studies import of_studies
from tasks.hashing import digest_file, digest_json
from tasks.learn.job import TrainingJob

TABLE = "predictions.csv"
"""Probabilities: the first column names the case, the others are `p/<class>` or `<class>`; of a
regression its quantity."""

ROUNDING = 0.01
"""How far probabilities of a case may be from a sum of 1: tables are written with two digits."""


def keep_foreign(home: Home, ready: Ready, job: TrainingJob, folder: Path) -> str:
    """Copy another tool's predictions under the home by case id; return their digest.

    Parameters
    ----------
    folder : Path
        With `predictions.csv` for a classification or a regression, with a NIfTI mask a case for a
        segmentation, with `findings.csv` for a detection.

    Raises
    ------
    RadloopError
        When a test case has none, or a name stands for several; all such cases are named.
    """
    place = home.settings.home / "foreign"
    place.mkdir(parents=True, exist_ok=True)
    names = names_of(home, ready, job.on("test"))
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        beside = Path(scratch) / "kept"
        beside.mkdir()
        if job.task == "segmentation":
            keep_masks(job, folder, names, beside)
        elif job.task == "detection":
            given = read_boxes(folder, job)
            ours = [(name, meant(home, names, name), rows) for name, rows in given.items()]
            write_boxes(beside / FOUND, one_each(job, ours, FOUND))
        else:
            _keep_table(home, job, folder, names, beside)
        digest = digest_json({path.name: digest_file(path) for path in sorted(beside.iterdir())})
        if not (place / digest).exists():
            shutil.move(beside, place / digest)
    return digest


def _keep_table(
    home: Home, job: TrainingJob, folder: Path, names: Mapping[str, set[str]], out: Path
) -> None:
    table = folder / TABLE
    if not table.is_file():
        raise RadloopError(
            f"{folder} has no {TABLE}: write one whose first column names the case and whose "
            f"others are {_columns_of(job)}"
        )
    with table.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        first = (reader.fieldnames or [""])[0]
        given = [(row[first] or "", row) for row in reader]

    ours = [(name, meant(home, names, name.strip()), row) for name, row in given]
    rows = one_each(job, ours, TABLE)
    with (out / TABLE).open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["case_id", *job.classes])
        for case_id, row in sorted(rows.items()):
            said = _number if job.task == "regression" else _probabilities
            writer.writerow([case_id, *map(repr, said(case_id, row, job))])


def _columns_of(job: TrainingJob) -> str:
    """Return the columns another tool's table needs beside the case."""
    if job.task == "regression":
        return f"{job.classes[0]} (in {job.unit}) alone"
    return ", ".join(f"p/{name}" for name in job.classes)


def _number(case_id: str, row: Mapping[str, str], job: TrainingJob) -> list[float]:
    """Return a case's number; as `radloop predict` writes it, or under the label's own name."""
    names = (job.classes[0], quantity_words(*job.classes, job.unit))
    text = next((row[name] for name in names if row.get(name)), "")
    try:
        value = float(text)
    except ValueError:
        value = nan
    if not isfinite(value):
        raise RadloopError(f"case {case_id[:12]} lacks a number in {TABLE}: {_columns_of(job)}")
    return [value]


def _probabilities(case_id: str, row: Mapping[str, str], job: TrainingJob) -> list[float]:
    """Return a case's probabilities; of two classes the positive one is enough."""
    said = {
        name: row[column]
        for name in job.classes
        # The later goes before: beside `p/<class>`, `<class>` may be what a reader said.
        for column in (name, f"p/{name}")
        if row.get(column) not in (None, "")
    }
    try:
        if row.get("probabilities"):  # as `radloop predict` writes them
            said = json.loads(row["probabilities"])
        if len(job.classes) == 2 and list(said) == [job.positive]:
            positive = float(said[job.positive])
            values = [positive if name == job.positive else 1 - positive for name in job.classes]
        else:
            values = [float(said[name]) for name in job.classes]
    except (KeyError, TypeError, ValueError) as error:
        columns = ", ".join(f"p/{name}" for name in job.classes)
        raise RadloopError(
            f"case {case_id[:12]} lacks a number in {TABLE}: give one in each of {columns}"
        ) from error
    if not all(0 <= value <= 1 for value in values) or abs(sum(values) - 1) > ROUNDING:
        raise RadloopError(
            f"the probabilities of case {case_id[:12]} are {values}, with the sum {sum(values):g}: "
            "give numbers from 0 to 1 that add up to 1"
        )
    return [value / sum(values) for value in values]


def kept_scores(
    home: Home, ready: Ready, job: TrainingJob, digest: str
) -> Predictions | MaskScores | FindingScores | Estimates:
    """Return kept predictions held against the truth of the test edition.

    Raises
    ------
    RadloopError
        When they are not there, or a mask lies on another grid than its image: by how much is said.
    """
    folder = home.settings.home / "foreign" / digest
    cases = {case.case_id: case for case in job.on("test")}
    if not folder.is_dir():
        raise RadloopError(
            f"predictions {digest[:12]} are not in this home: give their folder again"
        )
    if job.task == "segmentation":
        rows = measured_masks(home, ready, job, folder, list(cases))
        patients = [case.patient_key for case in cases.values()]
        return mask_scores(list(cases), patients, job.measured, rows)
    if job.task == "detection":
        return kept_findings(home, ready, job, folder / FOUND)
    with (folder / TABLE).open(newline="") as stream:
        rows = {row["case_id"]: row for row in csv.DictReader(stream)}
    values = [[float(rows[case_id][name]) for name in job.classes] for case_id in cases]
    found = of_cases(job, list(cases.values()), values)
    if job.views is None:
        return found
    return of_studies(found, {case_id: case.unit for case_id, case in cases.items()}, job.views)
