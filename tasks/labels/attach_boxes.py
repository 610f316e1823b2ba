"""Boxes to the catalog: the boxes of a case become one row, or none where one cannot be used."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasks.archive.catalog import LabelRow, cases_of_sops
from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.sources import Source
from tasks.hashing import digest_bytes
from tasks.labels.box_files import BoxEntry, FileBoxes, read_boxes
from tasks.labels.boxes import CaseBox, written
from tasks.labels.config import LabelConfig
from tasks.labels.keys import (
    AttachReport,
    cases_of,
    known_keys,
    label_key,
    put_labels,
    read_beside,
)

if TYPE_CHECKING:
    from sqlalchemy import Engine


def attach_boxes(
    source: Source, config: LabelConfig, names: Pseudonymiser, catalog: "Engine", author: str
) -> AttachReport:
    """Join boxes with the cases of a source and put them into the catalog, a row a case.

    A case of which a line cannot be used is left out whole, and its line is listed. With
    ``normals: rest`` nothing is to be found in the cases that no file names.

    Parameters and errors are those of `tasks.labels.attach.attach_labels`.
    """
    given = read_boxes(config, lambda name: read_beside(source, name)[0])
    texts = {text for one in given for entry in one.entries for text in entry.keys}
    texts |= {text for one in given for *_, keys in one.problems for text in keys}
    issuer = config.issuer or source.alias
    keyed = {text: _key_or_none(text, config.join, issuer, names) for text in texts}
    known = known_keys(source, config.join, catalog, [key for key in keyed.values() if key])
    found = gather_boxes(given, keyed, known, config.join)
    rows = found.rows(config.join)
    if config.normals == "rest" and found.nameless:
        text = f"{found.nameless} lines name no case, which may be any of the rest: none is taken"
        found.problems.append((0, text))
    elif config.normals == "rest":
        rows += _rest(source, config.join, catalog, {*found.boxes, *found.refused})
    digest = digest_bytes(b"".join(one.data for one in given))
    label_set_id = put_labels(source, config, catalog, author, rows, digest)
    lines = sum(len(one.entries) + len(one.problems) for one in given)
    return AttachReport(label_set_id, lines, found.matched, tuple(sorted(found.problems)))


@dataclass
class Gathered:
    """What the files say of the cases there are."""

    boxes: dict[str, list[CaseBox]] = field(default_factory=dict, repr=False)
    """Key of a case -> its boxes; an empty list of one in which nothing is to be found."""
    refused: set[str] = field(default_factory=set, repr=False)
    """Keys of cases of which a line cannot be used: half a truth would be a wrong one."""
    problems: list[tuple[int, str]] = field(default_factory=list)
    matched: int = 0
    """Lines that speak of a case there is."""
    nameless: int = 0
    """Lines whose key is damaged, so that nobody knows whose they are."""

    def rows(self, join: str) -> list[LabelRow]:
        """Return one label row a case."""
        kept = {key: boxes for key, boxes in self.boxes.items() if key not in self.refused}
        return [LabelRow(join, key, written(boxes), None) for key, boxes in kept.items()]


def gather_boxes(
    given: Sequence[FileBoxes], keyed: dict[str, str | None], known: set[str], join: str
) -> Gathered:
    """Bring the boxes of all files together, by case.

    Parameters
    ----------
    given : sequence of FileBoxes
        What the files say.
    keyed : dict of text in a file to key of the catalog
        None of a placeholder.
    known : set of str
        Keys that cases have.
    join : str
        For messages.
    """
    found = Gathered()
    for one in given:
        for line, reason, texts in one.problems:
            key = _first_known(texts, keyed, known)
            left = " (its case is left out whole)" if key else ""
            found.problems.append((line, f"{one.file}: {reason}{left}"))
            found.refused |= {key} if key else set()
            found.nameless += not texts
        for entry in one.entries:
            _add(found, one, entry, _first_known(entry.keys, keyed, known), keyed, join)
    normal = _said_normal(given, keyed)
    contradicted = {key for key, boxes in found.boxes.items() if boxes and key in normal}
    found.refused |= contradicted
    if contradicted:
        text = f"{len(contradicted)} cases have boxes and are among the normals: left out whole"
        found.problems.append((0, text))
    return found


def _add(
    found: Gathered,
    one: FileBoxes,
    entry: BoxEntry,
    key: str | None,
    keyed: dict[str, str | None],
    join: str,
) -> None:
    if key is None:
        placeholder = all(keyed.get(text) is None for text in entry.keys)
        found.nameless += placeholder
        why = f"the {join} is a placeholder" if placeholder else f"no case has this {join}"
        found.problems.append((entry.line, f"{one.file}: {why}"))
        return
    boxes = found.boxes.setdefault(key, [])
    found.matched += 1
    if entry.box is not None and entry.box not in boxes:
        boxes.append(entry.box)


def _said_normal(given: Sequence[FileBoxes], keyed: dict[str, str | None]) -> set[str | None]:
    return {
        keyed.get(text)
        for one in given
        if one.file == "normals"
        for entry in one.entries
        for text in entry.keys
    }


def _first_known(
    texts: tuple[str, ...], keyed: dict[str, str | None], known: set[str]
) -> str | None:
    return next((key for text in texts if (key := keyed.get(text)) in known), None)


def _key_or_none(text: str, join: str, issuer: str, names: Pseudonymiser) -> str | None:
    try:
        return label_key(text, join, issuer, names)
    except ValueError:
        return None


def _rest(source: Source, join: str, catalog: "Engine", told: set[str]) -> list[LabelRow]:
    """Return a row without boxes for each case that the files do not name."""
    named = set(cases_of_sops(catalog, sorted(told)).values()) if join == "sop" else set()
    field = "case_id" if join == "case" else f"{join}_key"
    return [
        LabelRow("case", case.case_id, written(()), None)
        for case in cases_of(source, catalog)
        if case.case_id not in named and (join == "sop" or getattr(case, field) not in told)
    ]
