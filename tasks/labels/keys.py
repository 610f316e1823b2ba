"""Whose a label is: the keys of a source's cases, and the files that stand beside them."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.archive.catalog import KINDS, Case, LabelRow, cases, cases_of_sops, put_label_set
from tasks.archive.members import read_member
from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.sources import Source, read_named
from tasks.errors import BadCase
from tasks.labels.config import LabelConfig, label_set_name

if TYPE_CHECKING:
    from sqlalchemy import Engine


@dataclass(frozen=True)
class AttachReport:
    """What became of the rows of a label table; holds line numbers and no identifier."""

    label_set_id: str | None
    rows: int
    """Rows of the table."""
    matched: int
    """Rows that are labels of a case now."""
    unmatched: tuple[tuple[int, str], ...]
    """(line, reason) of the others, by line."""


def put_labels(
    source: Source,
    config: LabelConfig,
    catalog: "Engine",
    author: str,
    rows: Collection[LabelRow],
    digest: str,
) -> str | None:
    """Put a configuration's labels of a source into the catalog; return the set's id, if any.

    Parameters
    ----------
    source : Source
    config : LabelConfig
    catalog : Engine
    author : str
        No person's name.
    rows : collection of LabelRow
        Without any there is no set.
    digest : str
        Of the files that hold the labels.
    """
    if not rows:
        return None
    return put_label_set(
        catalog,
        name=label_set_name(config),
        source=source.alias,
        author=author,
        digest=digest,
        rows=rows,
    )


def read_beside(source: Source, file: str) -> tuple[bytes, str]:
    """Return the bytes and name of a table that a scenario names, relative to its source.

    Raises
    ------
    FileNotFoundError
        It is not there; the message does not repeat the place.
    """
    place = Path(source.location)
    try:
        if source.kind == "s3" and not Path(file).is_absolute():
            return read_named(source, file), file
        if source.kind == "archive" and not Path(file).is_absolute():
            return read_member(place, file), file
        folder = place if place.is_dir() else place.parent
        return (folder / Path(file).expanduser()).read_bytes(), file
    except (FileNotFoundError, IsADirectoryError, BadCase):
        # Not repeated: the scenario names it, and a place may hold a name.
        raise FileNotFoundError(
            f"The table of labels, sides or groups that the scenario names is not in the source "
            f"{source.alias!r}: give its `file` relative to the source, or as an absolute path."
        ) from None


def label_key(text: str, join: str, issuer: str, names: Pseudonymiser) -> str:
    """Return the catalog's key for a key that stands in a table.

    Raises
    ------
    ValueError
        It is a placeholder.
    """
    if join == "case":
        return text
    if join == "patient":
        # No study stands in for a placeholder here, so that one raises.
        return names.patient(text, issuer, "")
    return names.key(join, text)


def known_keys(source: Source, join: str, catalog: "Engine", keys: list[str]) -> set[str]:
    """Return those of the keys that cases of a source have, or all that its cases have."""
    ours = cases_of(source, catalog)
    if join == "sop":
        ids = {case.case_id for case in ours}
        return {sop for sop, case_id in cases_of_sops(catalog, keys).items() if case_id in ids}
    field = "case_id" if join == "case" else f"{join}_key"
    return {getattr(case, field) for case in ours}


def cases_of(source: Source, catalog: "Engine") -> list[Case]:
    """Return every case of a source."""
    return [case for kind in KINDS for case in cases(catalog, kind=kind, source=source.alias)]
