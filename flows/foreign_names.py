"""Whose another tool's predictions are: every name by which it may know a case, and back."""

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from flows.cohorts import Ready
from flows.home import Home
from flows.predict import origins
from tasks.archive.catalog import locators_of
from tasks.archive.decathlon import NIFTI_SUFFIXES
from tasks.archive.vault import get_source, recall
from tasks.archive.vault_files import file_refs
from tasks.errors import RadloopError
from tasks.evaluate.leakage import named
from tasks.learn.job import JobCase, TrainingJob


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
            names.append(stem(ref.member or ref.path))
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


def one_each(
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


def meant(home: Home, names: Mapping[str, set[str]], name: str) -> set[str]:
    """Return the cases a name may mean: as it stands, as a file, or as an accession number."""
    return names.get(name) or names.get(stem(name)) or names.get(_key(home, name), set())


def _key(home: Home, text: str) -> str:
    return home.names.key("accession", text) if text else ""


def stem(place: str) -> str:
    """Return a file's name without folder and ending, be it `.nii.gz` or another."""
    name = PurePosixPath(place.replace("\\", "/")).name
    for suffix in NIFTI_SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    path = PurePosixPath(name)
    # Files named by a UID have no ending: what stands behind its last point is a number.
    return path.name if path.suffix[1:].isdigit() else path.stem
