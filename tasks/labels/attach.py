"""Labels to the catalog: each row finds its case by pseudonym, or is listed with its line."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.archive.catalog import LabelRow, cases, label_rows, latest_label_set
from tasks.archive.layouts import description
from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.sources import Source
from tasks.archive.tablefile import read_table
from tasks.hashing import digest_bytes, digest_json
from tasks.labels.attach_boxes import attach_boxes
from tasks.labels.config import BOXES, PUBLIC, LabelConfig, label_set_name
from tasks.labels.keys import AttachReport, known_keys, label_key, put_labels, read_beside
from tasks.labels.layouts import read_labels
from tasks.labels.mask_folder import lidc_files, mask_files, mask_rows, structure_files
from tasks.labels.named import NAMED
from tasks.labels.public import FileLabels
from tasks.labels.quantity import read_number
from tasks.labels.tables import LabelEntry, LabelTable, parse_label_table
from tasks.labels.told_classes import class_misfit

if TYPE_CHECKING:
    from sqlalchemy import Engine

_OF_SERIES = {"lidc": lidc_files, "rtstruct": structure_files}
"""Files that name the series they speak of."""

_TWICE = "several files name this case, so none is taken: keep one"
_UNKNOWN = "no case of this source has this {join}"


def attach_labels(
    source: Source,
    config: LabelConfig,
    names: Pseudonymiser,
    catalog: "Engine",
    vault: "Engine",
    *,
    author: str = "table",
) -> AttachReport:
    """Join a source's labels with its cases and put them into the catalog.

    A row is left out, and listed, when its key is damaged or unknown, its value is none of the
    classes, or another row gives the same key another value.

    Parameters
    ----------
    source : Source
        Where the label file stands, and whose cases it speaks about.
    config : LabelConfig
    names : Pseudonymiser
    catalog, vault : Engine
    author : str
        Recorded with the label set; no person's name.

    Raises
    ------
    FileNotFoundError, ValueError
        The file is not there, is no table or lacks a column; or a folder's dataset.json calls the
        values of its masks otherwise than the scenario.
    """
    if config.format == "decathlon":
        if problem := class_misfit(description(Path(source.location)), config):
            raise ValueError(f"labels of the scenario: {problem}")
        label_set_id = latest_label_set(catalog, source.alias, label_set_name(config))
        n = len(label_rows(catalog, label_set_id)) if label_set_id else 0
        return AttachReport(label_set_id, n, n, ())
    if config.format == "column":
        return _column_report(source, config, catalog)
    if config.format in ("masks", "lidc", *NAMED):
        return _attach_masks(source, config, names, catalog, vault, author)
    if config.format in BOXES:
        return attach_boxes(source, config, names, catalog, author)
    given = _given(source, config)
    labels: dict[tuple[str, str], LabelRow] = {}
    problems: list[tuple[int, str]] = []
    matched = rows = 0
    for one in given:
        found, n, left = _join(one.table, source, config, names, catalog)
        # Of several files a line alone would not say which is meant.
        prefix = f"{one.file}: " if len(given) > 1 else ""
        labels |= found
        problems += [(line, prefix + reason) for line, reason in left]
        matched += n
        rows += len(one.table.rows) + len(one.table.problems)
    digest = digest_bytes(b"".join(one.data for one in given))
    label_set_id = put_labels(source, config, catalog, author, labels.values(), digest)
    return AttachReport(label_set_id, rows, matched, tuple(sorted(problems)))


def _attach_masks(
    source: Source,
    config: LabelConfig,
    names: Pseudonymiser,
    catalog: "Engine",
    vault: "Engine",
    author: str,
) -> AttachReport:
    """Join masks, structure sets or LIDC's XML with the cases; a line is a file's place there."""
    keyed, problems = [], []
    if config.format in _OF_SERIES:
        found, problems = _OF_SERIES[config.format](source, config.file)
    else:
        slicer = config.format == "slicer"
        found = list(enumerate(mask_files(source, config.file, slicer=slicer), start=1))
    rows = len(found) + len(problems)
    for line, one in found:
        try:
            issuer = config.issuer or source.alias
            keyed.append((line, one, label_key(one.name, config.join, issuer, names)))
        except ValueError:
            problems.append((line, f"the {config.join} is a placeholder"))
    known = known_keys(source, config.join, catalog, [key for *_, key in keyed])
    unknown = _UNKNOWN.format(join=config.join)
    problems += [(line, unknown) for line, _, key in keyed if key not in known]
    many = Counter(key for *_, key in keyed)
    problems += [(line, _TWICE) for line, _, key in keyed if key in known and many[key] > 1]
    ours = [(one, key) for _, one, key in keyed if key in known and many[key] == 1]
    labels = mask_rows(source, config.file, config.join, ours, vault) if ours else ()
    digest = digest_json([[key, one.digest.hex()] for one, key in ours])
    label_set_id = put_labels(source, config, catalog, author, labels, digest)
    return AttachReport(label_set_id, rows, len(ours), tuple(sorted(problems)))


def _given(source: Source, config: LabelConfig) -> list[FileLabels]:
    """Return the labels of the files that a configuration means."""
    if config.format in PUBLIC:
        return read_labels(config.format, lambda name: read_beside(source, name)[0])
    data, name = read_beside(source, config.file)
    table = read_table(data, name)
    labels = parse_label_table(table, config.join, config.column, key_column=config.key_column)
    return [FileLabels(name, data, labels)]


def _join(
    table: LabelTable,
    source: Source,
    config: LabelConfig,
    names: Pseudonymiser,
    catalog: "Engine",
) -> tuple[dict[tuple[str, str], LabelRow], int, list[tuple[int, str]]]:
    """Return labels by key and value, how many rows gave them, and (line, reason) of the rest."""
    keyed, problems = _with_keys(table, source, config, names)
    problems += table.problems
    problems += _conflicts(keyed)
    refused = {line for line, _ in problems}
    known = known_keys(source, config.join, catalog, [key for _, key in keyed])
    labels: dict[tuple[str, str], LabelRow] = {}
    matched = 0
    for entry, key in keyed:
        if entry.line in refused:
            continue
        if key in known:
            labels[key, entry.value] = LabelRow(config.join, key, entry.value, None)
            matched += 1
        else:
            problems.append((entry.line, _UNKNOWN.format(join=config.join)))
    return labels, matched, problems


def _with_keys(
    table: LabelTable, source: Source, config: LabelConfig, names: Pseudonymiser
) -> tuple[list[tuple[LabelEntry, str]], list[tuple[int, str]]]:
    keyed, problems = [], []
    for entry in table.rows:
        value, reason = _value(entry.value, config, table.decimal_comma)
        if value is None:
            problems.append((entry.line, reason))
            continue
        entry = replace(entry, value=value)
        try:
            issuer = config.issuer or source.alias
            keyed.append((entry, label_key(entry.key, config.join, issuer, names)))
        except ValueError:
            problems.append((entry.line, f"the {config.join} is a placeholder"))
    return keyed, problems


def _value(text: str, config: LabelConfig, decimal_comma: bool) -> tuple[str | None, str]:
    """Return a label that counts, or None and the reason."""
    if config.unit is not None:
        return read_number(text, config, decimal_comma=decimal_comma)
    if text in config.classes:
        return text, ""
    # The value is not shown, nor stored: with a wrong column it would be anything.
    return None, f"the label is none of {', '.join(config.classes)}"


def _conflicts(keyed: list[tuple[LabelEntry, str]]) -> list[tuple[int, str]]:
    entries: dict[str, list[LabelEntry]] = {}
    for entry, key in keyed:
        entries.setdefault(key, []).append(entry)
    problems = []
    for same in entries.values():
        if len({entry.value for entry in same}) > 1:
            lines = ", ".join(str(entry.line) for entry in same)
            problems += [
                (entry.line, f"lines {lines} give one key different labels") for entry in same
            ]
    return problems


def _column_report(source: Source, config: LabelConfig, catalog: "Engine") -> AttachReport:
    """Labels in the cases' own table need no label set; only count the rows that have one."""
    found = cases(catalog, kind="row", source=source.alias)
    labelled = sum(case.facts.get(config.column) is not None for case in found)
    return AttachReport(None, len(found), labelled, ())
