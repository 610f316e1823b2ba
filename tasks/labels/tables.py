"""Label tables: keys read as text, and refused where a spreadsheet has damaged them."""

import re
from dataclasses import dataclass
from pathlib import Path

from tasks.archive.tablefile import TableFile, join_problem, read_table

KEY_COLUMNS = {
    "accession": ("accessionnumber", "accession", "accessionno", "accno"),
    "study": ("studyinstanceuid", "studyuid", "study"),
    "series": ("seriesinstanceuid", "seriesuid", "series"),
    "sop": ("sopinstanceuid", "sopuid", "instanceuid", "sop"),
    "patient": ("patientid", "patient", "mrn", "pid", "subjectid", "subject"),
    "case": ("caseid", "case"),
}
"""Usual names of key columns, compared without case, spaces and underscores."""

_CASE_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class LabelEntry:
    """One usable row: its line, its key as text (identified), its value."""

    line: int
    key: str
    value: str


@dataclass(frozen=True)
class LabelTable:
    """Rows of a label table, and (line, reason) of those that cannot be used."""

    rows: tuple[LabelEntry, ...]
    problems: tuple[tuple[int, str], ...]
    decimal_comma: bool = False


def read_label_table(
    path: str | Path, join: str, column: str, *, key_column: str | None = None
) -> LabelTable:
    """Read the labels of a CSV, TSV or Parquet file.

    Parameters
    ----------
    path : path
    join : str
        One of `KEY_COLUMNS`.
    column : str
        Column with the value.
    key_column : str, optional
        Column with the key; by default the one of a usual name.

    Raises
    ------
    ValueError
        The file is no table or lacks a column; the message names columns, never a value.
    OSError
        The file cannot be read.
    """
    place = Path(path)
    return parse_label_table(
        read_table(place.read_bytes(), place.name), join, column, key_column=key_column
    )


def parse_label_table(
    table: TableFile, join: str, column: str, *, key_column: str | None = None
) -> LabelTable:
    """Return the labels of a table that was read already; as `read_label_table`."""
    key_at = table.column(key_column or key_column_of(table, join))
    value_at = table.column(column)
    rows, problems = [], list(table.problems)
    for line, values in table.rows:
        key, value = values[key_at], values[value_at]
        problem = join_problem(join, key)
        if problem is None and join == "case" and not _CASE_ID.fullmatch(key):
            problem = "the case id is not 32 hexadecimal characters"
        if problem is None and not value:
            problem = "no label is given"
        if problem is None:
            rows.append(LabelEntry(line, key, value))
        else:
            problems.append((line, problem))
    return LabelTable(tuple(rows), tuple(sorted(problems)), table.decimal_comma)


def key_column_of(table: TableFile, join: str) -> str:
    """Return the column of a usual name for keys; ValueError lists the columns."""
    plain = {re.sub(r"[^a-z]", "", name.lower()): name for name in table.columns}
    for name in KEY_COLUMNS[join]:
        if name in plain:
            return plain[name]
    raise ValueError(
        f"No column of the label table is named like a key of join {join!r}; it has: "
        f"{', '.join(table.columns)}. Name one as key_column."
    )
