"""Tables as sources: rows become cases, without the columns that could name somebody."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tasks.archive.catalog import TableRow
from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.tablefile import TableFile, join_problem, number
from tasks.hashing import digest_json

MAPPING_SUFFIX = ".mapping.json"
"""A table's mapping may stand beside it under its own name with this ending."""

MAX_TEXT = 64
"""Longer text is prose, and prose names people."""

MAX_CATEGORIES = 50
"""A text column with more different values is no category; without a mapping it is left out."""

ID_COLUMNS = ("id", "row_id", "sample_id", "case")
PATIENT_COLUMNS = ("patient_id", "patientid", "patient", "subject_id", "subject")

_IDENTIFYING = re.compile(
    r"(^|[^a-z])(id|ids|uid|mrn|pid|ssn|name|names|surname|vorname|nachname|birth|birthdate|dob|"
    r"address|phone|email|e-mail|mail|zip|postcode|accession|accession_number|date|datum|"
    r"insurance|physician|filename|file|path|filestem)([^a-z]|$)|patient_?id|accessionnumber",
    re.IGNORECASE,
)
"""Names of columns that are only taken when a mapping asks for them."""

_TABLE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")


@dataclass(frozen=True)
class TableMapping:
    """Which columns of a table are what."""

    id_column: str | None = None
    """Names the row; without one its content does."""
    patient_column: str | None = None
    """Names the patient; without one each row is a patient."""
    features: tuple[str, ...] | None = None
    """Columns kept; without them numbers and categories, unless named like an identifier."""
    table: str | None = None
    """What the table is called in scenarios; by default its file's name, if that is plain."""


@dataclass(frozen=True)
class MappedTable:
    """Rows ready for the catalog, and what was left out."""

    name: str
    rows: tuple[TableRow, ...]
    duplicates: int
    """Rows that repeat another one, id and content."""
    problems: tuple[tuple[int, str], ...]
    dropped: tuple[str, ...]
    """Columns left out because they might name somebody."""
    identities: tuple[tuple[str, str, str], ...]
    """(kind, key, value) for the vault."""
    lines: Mapping[str, int]
    """case_id -> line in the file, so that an answer finds its row again."""


def guess_mapping(columns: Sequence[str]) -> TableMapping:
    """Return the mapping of a table that came without one, by the usual column names."""
    lower = {name.lower(): name for name in columns}
    return TableMapping(
        id_column=next((lower[name] for name in ID_COLUMNS if name in lower), None),
        patient_column=next((lower[name] for name in PATIENT_COLUMNS if name in lower), None),
    )


def parse_mapping(text: str) -> TableMapping:
    """Return a mapping from JSON with the fields of `TableMapping`.

    Raises
    ------
    ValueError
        Not JSON, or another field.
    """
    try:
        content = json.loads(text)
        if content.get("features") is not None:
            content["features"] = tuple(content["features"])
        return TableMapping(**content)
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ValueError(
            f"The table's {MAPPING_SUFFIX} is not a JSON object with id_column, patient_column, "
            "features and table."
        ) from None


def table_name(file_name: str, alias: str, mapping: TableMapping) -> str:
    """Return what the table is called: the mapping's word, a plain file name, or the alias."""
    stem = file_name.split(".")[0].lower()
    return mapping.table or (stem if _TABLE_NAME.fullmatch(stem) else alias)


def map_rows(
    table: TableFile, mapping: TableMapping, names: Pseudonymiser, alias: str, name: str
) -> MappedTable:
    """Return the rows of a table as cases with pseudonyms.

    A case's id is the hash of the table, the row's pseudonym and its facts, so a corrected row is
    another case.

    Raises
    ------
    ValueError
        The mapping names a column that is not there.
    """
    for column in (mapping.id_column, mapping.patient_column, *(mapping.features or ())):
        if column is not None:
            table.column(column)
    kept, dropped = _kept_columns(table, mapping)
    found: dict[str, tuple[int, TableRow]] = {}
    problems, identities, duplicates = list(table.problems), {}, 0
    for line, values in table.rows:
        try:
            row_key, row, identity = _map_row(values, table, kept, mapping, names, alias, name)
        except ValueError as error:
            problems.append((line, str(error)))
            continue
        first = found.setdefault(row_key, (line, row))
        if first[0] == line:
            identities[identity[:2]] = identity
        elif first[1] == row:
            duplicates += 1
        else:
            problems.append((line, f"another row than line {first[0]} under the same id"))
    rows = tuple(row for _, row in found.values())
    lines = {row.case_id: line for line, row in found.values()}
    return MappedTable(
        name, rows, duplicates, tuple(sorted(problems)), dropped, tuple(identities.values()), lines
    )


def _map_row(
    values: tuple[str, ...],
    table: TableFile,
    kept: dict[str, int],
    mapping: TableMapping,
    names: Pseudonymiser,
    alias: str,
    name: str,
) -> tuple[str, TableRow, tuple[str, str, str]]:
    facts: dict[str, float | str | None] = {}
    for column, place in kept.items():
        facts[column] = _value(values[place], table.decimal_comma)
    row_id = _key_text(values, table, mapping.id_column, "row id")
    if row_id is None:
        row_id = digest_json([values])
    patient = _key_text(values, table, mapping.patient_column, "patient")
    patient = row_id if patient is None else patient
    patient_key = names.patient(patient, alias, f"{name}|{row_id}")
    row_key = names.key("case", f"{alias}|{name}|{row_id}")
    row = TableRow(digest_json(["row", name, row_key, facts]), patient_key, facts)
    return row_key, row, ("patient", patient_key, patient)


def _key_text(
    values: tuple[str, ...], table: TableFile, column: str | None, what: str
) -> str | None:
    if column is None:
        return None
    text = values[table.column(column)]
    if problem := join_problem(what, text):
        raise ValueError(problem)
    return text


def _value(text: str, decimal_comma: bool) -> float | str | None:
    if not text or text.lower() in ("na", "nan", "n/a", "null", "none"):
        return None
    value = number(text, decimal_comma)
    if value is not None:
        return value
    if len(text) > MAX_TEXT:
        raise ValueError(f"a value has {len(text)} characters, at most {MAX_TEXT} are a category")
    return text


def _kept_columns(
    table: TableFile, mapping: TableMapping
) -> tuple[dict[str, int], tuple[str, ...]]:
    keys = {mapping.id_column, mapping.patient_column}
    others = [column for column in table.columns if column and column not in keys]
    if mapping.features is not None:
        wanted = set(mapping.features)
        kept = {column: table.column(column) for column in mapping.features}
        return kept, tuple(column for column in others if column not in wanted)
    kept = {c: table.column(c) for c in others if _harmless(c, table)}
    return kept, tuple(column for column in others if column not in kept)


def _harmless(column: str, table: TableFile) -> bool:
    """Tell a measurement or a category from what might name somebody."""
    if _IDENTIFYING.search(column):
        return False
    texts = {text for text in _texts(table, column) if number(text, table.decimal_comma) is None}
    return len(texts) <= MAX_CATEGORIES and all(len(text) <= MAX_TEXT for text in texts)


def _texts(table: TableFile, column: str) -> Iterator[str]:
    place = table.column(column)
    return (values[place] for _, values in table.rows if values[place])
