"""Results given back their patients' identity, for the hospital's own archive. Starts no server."""

import argparse
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flows.commands.start import open_home
from flows.home import Home
from tasks.errors import BadCase, RadloopError

FOLDER_MODE, FILE_MODE = 0o700, 0o600
"""What is written names patients: it is its owner's alone."""

OTHERS = 0o077
"""What group and others may do with a folder."""

NOTHING_BESIDE: Mapping[str, list[Any]] = MappingProxyType({"series": [], "beside": []})

NO_IMAGES = "no_such_images"

SAID = {
    NO_IMAGES: "the source holds no DICOM case of this id: give the source it was predicted from; "
    "images changed since are other images, so predict again",
}


def bring_home(args: argparse.Namespace) -> int:
    """Write every result whose images say that it is about them; audit each case."""
    from flows.console import progress
    from flows.desk import Desk
    from tasks.archive.audit import append
    from tasks.archive.reasons import remedy
    from tasks.serve.result_files import DICOM_FOLDER

    if not args.results or not args.source:
        raise RadloopError(
            "--to dicom gives results back to their patients: say --results DIR, which `radloop "
            "predict` wrote, and --source, the images it was asked about"
        )
    found = sorted((args.results / DICOM_FOLDER).glob("*_s[er]*.dcm"))
    if not found:
        raise RadloopError(
            f"{args.results} holds no DICOM results (folder {DICOM_FOLDER}); see outputs.seg and "
            "outputs.sr of its scenario"
        )
    home = open_home(args)
    _check_zone(args.out, args.results, home)
    alias = home.source(args.source).alias
    grouped = {
        case_id: list(paths)
        for case_id, paths in groupby(found, key=lambda path: path.name.partition("_")[0])
    }
    args.out.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
    written = refused = 0
    with Desk(home) as desk, progress("giving back", len(grouped), "cases") as advance:
        places = _places(home, desk, alias, grouped, _told(args.results))
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


def _check_zone(out: Path, results: Path, home: Home) -> None:
    """Refuse a folder that is not the hospital's own: there a name would be among pseudonyms."""
    place = out.resolve()
    for ours in (home.settings.home, results):
        inside = ours.resolve()
        if place == inside or inside in place.parents:
            raise RadloopError(
                f"--out {out} lies in {ours}, where all are pseudonyms; what is written names "
                "patients: give a folder of the hospital's own"
            )
    if out.exists() and stat.S_IMODE(out.stat().st_mode) & OTHERS:
        raise RadloopError(
            f"--out {out} is open to others of this computer, and what is written names patients: "
            f"`chmod 700 {out}`, or give a new folder"
        )


def _log(home: Home) -> Path:
    return home.settings.audit_path


def _told(results: Path) -> dict[str, dict[str, list[Any]]]:
    """Return case id -> its row: which series a case is made of, which views are beside it.

    A file that says something else leads to other images, and these are refused.
    """
    from tasks.serve.results import PREDICTIONS_JSON

    try:
        told = json.loads((results / PREDICTIONS_JSON).read_text(encoding="utf-8"))
        return {
            row["case_id"]: {
                "series": [(channel, one) for channel, one in row.get("series") or ()],
                "beside": [str(one) for one in row.get("beside") or ()],
            }
            for row in told["predictions"]
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _places(
    home: Home,
    desk: Any,
    alias: str,
    wanted: Iterable[str],
    told: Mapping[str, Mapping[str, list[Any]]],
) -> Mapping[str, tuple[Any, list[Any]]]:
    """Return case id -> (who knows its files, the case and the views beside it); what the catalog
    lacks is taken in anew.

    The id of a case of several series is a hash of theirs, so it is these that are found.
    """
    from tasks.archive.catalog import cases
    from tasks.archive.intake import ingest
    from tasks.archive.vault import get_source
    from tasks.cohort.channels import joined

    found: dict[str, tuple[Any, list[Any]]] = {}
    missing = set(wanted)
    for place in (home, desk):
        if place is desk and missing:
            # As `radloop predict` does: images that were judged are not in the archive's catalog.
            ingest(get_source(home.vault, alias), desk.catalog, desk.vault, home.names)
        known = {case.case_id: case for case in cases(place.catalog, kind="dicom", source=alias)}
        for case_id in missing:
            case = known.get(case_id)
            parts, beside = told.get(case_id, NOTHING_BESIDE).values()
            if case is None and parts and all(one in known for _, one in parts):
                case = joined(tuple((channel, known[one]) for channel, one in parts))
            if case is not None and case.case_id == case_id:
                found[case_id] = (place, [case, *(known[one] for one in beside if one in known)])
        missing -= found.keys()
    return found


def _identified(
    home: Home, known: tuple[Any, list[Any]] | None, paths: Iterable[Path], alias: str
) -> Iterator[Any]:
    """Give each result of a case with its identity; BadCase when one is not about its images."""
    from flows.orders import orders_of
    from tasks.archive.reidentify import read_originals, read_result, reidentify, together

    if known is None:
        raise BadCase(NO_IMAGES)
    place, found = known
    parts = []
    for case, order in zip(found, orders_of(place, found), strict=True):
        files = [one.files for one in order.series] or [order.files]
        for one, its in zip(case.members, files, strict=True):
            parts.append(read_originals(one, its, home.names, alias))
    originals = together(parts, found[0].case_id)
    for path in paths:
        yield reidentify(read_result(path), originals, home.names)


def _save(path: Path, dataset: Any) -> None:
    path.unlink(missing_ok=True)
    # The mode is given at birth: a file closed later can be read in between.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    with os.fdopen(descriptor, "wb") as stream:
        dataset.save_as(stream, enforce_file_format=True)
