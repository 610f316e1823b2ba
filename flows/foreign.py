"""Predictions of another tool: whose they are, kept under the home without a name of anybody.

Another tool knows a case by its accession number, by the name of its file, or by the name that
`radloop export` gave it. The coordinator turns these into case ids before anything is kept, so that
the flow, its run and its report know nothing else.
"""

import csv
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite, nan
from pathlib import Path, PurePosixPath
from typing import Any

from flows.cohorts import Ready
from flows.foreign_boxes import TABLE as FOUND
from flows.foreign_boxes import kept_findings, read_boxes, write_boxes
from flows.home import Home
from flows.judging import of_cases
from flows.orders import orders_of
from flows.predict import origins
from tasks.archive.catalog import locators_of
from tasks.archive.decathlon import NIFTI_SUFFIXES
from tasks.archive.nifti import read_mask, read_nifti, write_nifti
from tasks.archive.sources import FileRef, digest_of
from tasks.archive.vault import get_source, recall
from tasks.archive.vault_files import file_refs
from tasks.errors import BadCase, RadloopError
from tasks.evaluate.estimates import Estimates, quantity_words
from tasks.evaluate.finding_scores import FindingScores
from tasks.evaluate.leakage import named
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.predictions import Predictions
from tasks.evaluate.segmentation import MaskFigures, mask_figures, mask_scores
from tasks.evaluate.studies import of_studies
from tasks.hashing import digest_file, digest_json
from tasks.imaging.recipe import FittedRecipe
from tasks.imaging.source import read_source
from tasks.labels.case_mask import case_mask
from tasks.labels.regions import values_of
from tasks.learn.dataset import spacing_of
from tasks.learn.job import JobCase, TrainingJob

TABLE = "predictions.csv"
"""Probabilities: the first column names the case, the others are `p/<class>` or `<class>`; of a
regression its quantity."""

MASK = ".nii.gz"

ROUNDING = 0.01
"""How far probabilities of a case may be from a sum of 1: tables are written with two digits."""


def names_of(home: Home, ready: Ready, cases: Sequence[JobCase]) -> dict[str, set[str]]:
    """Return each name by which another tool may know a case, and the cases it may mean.

    Case id, series key (the name `radloop export` gives), pseudonym of the accession number, and
    for a case of one file the file's name without its ending.
    """
    wanted = {case.case_id for case in cases}
    found: dict[str, set[str]] = {}
    for case in ready.cohort.cases:
        if case.case_id not in wanted:
            continue
        names = [case.case_id, case.series_key, case.accession_key]
        if case.kind != "row" and case.n_instances == 1:
            locators = locators_of(home.catalog, case.lead.case_id)
            ref = file_refs(home.vault, locators)[locators[0]]
            names.append(_stem(ref.member or ref.path))
        for name in filter(None, names):
            found.setdefault(name, set()).add(case.case_id)
    return found


def write_frame(home: Home, ready: Ready, cases: Sequence[JobCase], path: Path) -> None:
    """List the test edition's cases under every name another tool may use; mode 0600.

    It names files and accession numbers, and stays with whoever asked for it. No figure is
    measured, so the edition is not used.
    """
    wanted = {case.case_id for case in cases}
    chosen = [case for case in ready.cohort.cases if case.case_id in wanted]
    places: dict[str, str] = {}
    for alias in sorted({case.source for case in chosen}):
        ours = [case for case in chosen if case.source == alias]
        places |= dict(origins(home, home, get_source(home.vault, alias), ours))
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["case_id", "export_name", "accession", "file"])
        for case in chosen:
            known = case.accession_key and recall(home.vault, "accession", case.accession_key)
            writer.writerow([case.case_id, case.series_key, known, places[case.case_id]])
    path.chmod(0o600)


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
            _keep_masks(job, folder, names, beside)
        elif job.task == "detection":
            given = read_boxes(folder, job)
            meant = [(name, _meant(home, names, name), rows) for name, rows in given.items()]
            write_boxes(beside / FOUND, _one_each(job, meant, FOUND))
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

    meant = [(name, _meant(home, names, name.strip()), row) for name, row in given]
    rows = _one_each(job, meant, TABLE)
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


def _meant(home: Home, names: Mapping[str, set[str]], name: str) -> set[str]:
    return names.get(name) or names.get(_stem(name)) or names.get(_key(home, name), set())


def _keep_masks(job: TrainingJob, folder: Path, names: Mapping[str, set[str]], out: Path) -> None:
    files = sorted(path for path in folder.glob("*") if path.name.endswith(NIFTI_SUFFIXES))
    if not files:
        raise RadloopError(f"{folder} has no NIfTI file: write one mask a test case, NAME{MASK}")
    given = [(path.name, names.get(_stem(path.name), set()), path) for path in files]
    wrong = []
    for case_id, path in sorted(_one_each(job, given, str(folder)).items()):
        try:
            # Written anew: a header may hold texts of its maker.
            mask = read_nifti(_ref(path))
        except BadCase as problem:
            wrong.append(f"{case_id[:12]} ({problem})")
            continue
        write_nifti(out / f"{case_id}{MASK}", mask.array, mask.affine)
    if wrong:
        raise RadloopError(f"{len(wrong)} masks cannot be read: {named(wrong)}")


def _one_each(
    job: TrainingJob, given: Iterable[tuple[str, set[str], Any]], where: str
) -> dict[str, Any]:
    """Return what is given for each test case; names that mean no test case are left aside."""
    found: dict[str, Any] = {}
    unit = {case.case_id: case.unit for case in job.on("test")}
    twice, vague = [], 0
    for _, cases, what in given:
        # The name of a study stands for its views, where studies are judged.
        several = len({unit[case_id] for case_id in cases}) > 1
        vague += several
        for case_id in () if several else sorted(cases):
            if case_id in found:
                twice.append(case_id[:12])
            found[case_id] = what
    if vague:
        raise RadloopError(
            f"{vague} names of {where} stand for several test cases each: use the case ids that "
            "`radloop evaluate --list FILE` writes"
        )
    if twice:
        raise RadloopError(f"{len(twice)} test cases stand in {where} twice: {named(twice)}")
    cases = job.on("test")
    missing = [case.case_id[:12] for case in cases if case.case_id not in found]
    if missing:
        raise RadloopError(
            f"{len(missing)} of {len(cases)} test cases are not in {where}: {named(missing)}. All "
            "are needed, so that two tools are compared on the same patients; `radloop evaluate "
            "--list FILE` writes their names"
        )
    return found


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
        rows = _measured(home, ready, job, folder, list(cases))
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


def _measured(
    home: Home, ready: Ready, job: TrainingJob, folder: Path, case_ids: Sequence[str]
) -> list[MaskFigures]:
    recipe = FittedRecipe.from_dict(job.recipe)
    by_id = {case.case_id: case for case in ready.cohort.cases}
    rows, wrong = [], []
    chosen, labels = [by_id[case_id] for case_id in case_ids], ready.scenario.labels
    told = (ready.cohort.masks, labels.numbers)
    for order in orders_of(home, chosen, *told, named=labels.named):
        path = folder / f"{order.case_id}{MASK}"
        volume = read_source(recipe, order)
        truth = case_mask(order, volume)
        try:
            theirs = read_mask(_ref(path), volume)
        except BadCase as problem:
            wrong.append(f"{order.case_id[:12]} ({problem})")
            continue
        if (most := int(theirs.max())) > len(job.classes):
            wrong.append(
                f"{order.case_id[:12]} (label {most}, classes are 1 to {len(job.classes)})"
            )
            continue
        rows.append(
            mask_figures(
                truth,
                theirs,
                spacing_of(volume.affine),
                len(job.classes),
                ready.scenario.evaluate,
                values_of(labels.parts),
            )
        )
    if wrong:
        raise RadloopError(f"{len(wrong)} masks do not fit their images: {named(wrong)}")
    return rows


def _key(home: Home, text: str) -> str:
    return home.names.key("accession", text) if text else ""


def _ref(path: Path) -> FileRef:
    data = path.read_bytes()
    return FileRef(str(path), None, digest_of(data).hex(), len(data))


def _stem(place: str) -> str:
    """Return a file's name without folder and ending, be it `.nii.gz` or another."""
    name = PurePosixPath(place.replace("\\", "/")).name
    for suffix in NIFTI_SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    path = PurePosixPath(name)
    # Files named by a UID have no ending: what stands behind its last point is a number.
    return path.name if path.suffix[1:].isdigit() else path.stem
