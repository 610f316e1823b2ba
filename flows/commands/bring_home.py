"""Results given back their patients' identity, for the hospital's own archive. Starts no server."""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from flows.commands.start import open_home
from flows.home import Home
from tasks.errors import BadCase, RadloopError

FOLDER_MODE, FILE_MODE = 0o700, 0o600
"""What is written names patients: it is its owner's alone."""

NO_IMAGES = "no_such_images"

SAID = {
    NO_IMAGES: "the source holds no DICOM case of this id: give the source it was predicted from; "
    "images changed since are other images, so predict again",
}


def bring_home(args: argparse.Namespace) -> int:
    """Write every result whose images say that it is about them; audit each case."""
    from flows.console import progress
    from flows.desk import Desk
    from flows.dicom import FOLDER
    from tasks.archive.audit import append
    from tasks.archive.reasons import remedy

    if not args.results or not args.source:
        raise RadloopError(
            "--to dicom gives results back to their patients: say --results DIR, which `radloop "
            "predict` wrote, and --source, the images it was asked about"
        )
    found = sorted((args.results / FOLDER).glob("*_s[er]*.dcm"))
    if not found:
        raise RadloopError(
            f"{args.results} holds no DICOM results (folder {FOLDER}); see outputs.seg and "
            "outputs.sr of its scenario"
        )
    home = open_home(args)
    alias = home.source(args.source).alias
    grouped = {
        case_id: list(paths)
        for case_id, paths in groupby(found, key=lambda path: path.name.partition("_")[0])
    }
    args.out.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
    written = refused = 0
    with Desk(home) as desk, progress("giving back", len(grouped), "cases") as advance:
        places = _places(home, desk, alias, grouped)
        for number, (case_id, paths) in enumerate(grouped.items(), start=1):
            try:
                made = list(_identified(home, places.get(case_id), paths, alias))
            except BadCase as problem:
                told = SAID.get(problem.reason) or remedy(problem.reason) or str(problem)
                print(f"{case_id}: refused, {problem.reason}: {told}", file=sys.stderr)
                refused += 1
                append(_log(home), "reidentify_refused", case=case_id, reason=problem.reason)
            else:
                # Before the files: an identity that was put back is on record, whatever happens.
                append(_log(home), "reidentify", case=case_id, source=alias, results=len(made))
                for dataset in made:
                    _save(args.out / f"{dataset.SOPInstanceUID}.dcm", dataset)
                written += len(made)
            advance(number, len(grouped))
    print(
        f"{written} results of {len(grouped) - refused} cases written to {args.out}, {refused} "
        "cases refused; these files name patients"
    )
    return 1 if refused else 0


def _log(home: Home) -> Path:
    return home.settings.audit_path


def _places(
    home: Home, desk: Any, alias: str, wanted: Iterable[str]
) -> Mapping[str, tuple[Any, Any]]:
    """Return case id -> (who knows its files, case); what the catalog lacks is taken in anew."""
    from tasks.archive.catalog import cases
    from tasks.archive.intake import ingest
    from tasks.archive.vault import get_source

    found: dict[str, tuple[Any, Any]] = {}
    missing = set(wanted)
    for place in (home, desk):
        if place is desk and missing:
            # As `radloop predict` does: images that were judged are not in the archive's catalog.
            ingest(get_source(home.vault, alias), desk.catalog, desk.vault, home.names)
        for case in cases(place.catalog, kind="dicom", source=alias):
            if case.case_id in missing:
                found[case.case_id] = (place, case)
        missing -= found.keys()
    return found


def _identified(
    home: Home, known: tuple[Any, Any] | None, paths: Iterable[Path], alias: str
) -> Iterator[Any]:
    """Give each result of a case with its identity; BadCase when one is not about its images."""
    from flows.orders import orders_of
    from tasks.archive.reidentify import read_originals, read_result, reidentify

    if known is None:
        raise BadCase(NO_IMAGES)
    place, case = known
    (order,) = orders_of(place, [case])
    originals = read_originals(case, order.files, home.names, alias)
    for path in paths:
        yield reidentify(read_result(path), originals, home.names)


def _save(path: Path, dataset: Any) -> None:
    path.unlink(missing_ok=True)
    # The mode is given at birth: a file closed later can be read in between.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    with os.fdopen(descriptor, "wb") as stream:
        dataset.save_as(stream, enforce_file_format=True)
