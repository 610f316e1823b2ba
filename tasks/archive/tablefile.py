"""CSV and Parquet tables as text rows with their line numbers, and which of them can be keys."""

import csv
import gzip
import io
import math
import re
import zlib
from dataclasses import dataclass

from tasks.archive.headers import MAX_UID_LENGTH, UID_TEXT
from tasks.archive.textform import normalise

MAX_TABLE_BYTES = 1 << 30
"""Largest table read, after unpacking: tens of millions of rows."""

MAX_FIELD_CHARACTERS = 1 << 20
"""A longer field is an unclosed quotation mark, not a value."""

_DELIMITERS = ",;\t|"
_TRAILING_ZEROS = re.compile(r"[+-]?\d+\.0*")
_SCIENTIFIC = re.compile(r"[+-]?\d+(\.\d*[eE][+-]?|[eE][+-])\d+")


@dataclass(frozen=True)
class TableFile:
    """A table as it was written: every value as text, nothing guessed."""

    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    """(line of a CSV file or row of a Parquet file, both counted from 1; values)."""
    problems: tuple[tuple[int, str], ...]
    """(line, what is wrong with it) of rows that are left out."""
    decimal_comma: bool = False

    def column(self, name: str) -> int:
        """Return the place of a column.

        Raises
        ------
        ValueError
            The table has no such column.
        """
        if name not in self.columns:
            raise ValueError(
                f"The table has no column {name!r}; it has: {', '.join(self.columns)}."
            )
        return self.columns.index(name)


def read_table(data: bytes, name: str) -> TableFile:
    """Return a table from the bytes of a .csv, .tsv (also .gz) or .parquet file.

    Raises
    ------
    ValueError
        Not a table, two columns of one name, or too large.
    """
    if name.lower().endswith(".parquet"):
        return _read_parquet(data)
    if name.lower().endswith(".gz"):
        data = _gunzip(data)
    if len(data) > MAX_TABLE_BYTES:
        raise ValueError(f"The table has more than {MAX_TABLE_BYTES} bytes: split it.")
    text = _decode(data)
    first = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = _columns(next(reader, []))
        rows, problems = _csv_rows(reader, len(columns))
    except csv.Error:
        raise ValueError(
            f"The table is not CSV at line {reader.line_num}: an unclosed quotation mark?"
        ) from None
    return TableFile(columns, tuple(rows), tuple(problems), decimal_comma=delimiter == ";")


def join_problem(join: str, text: str) -> str | None:
    """Return why a value cannot be a key, or None.

    A spreadsheet that once held the table turns ``00123`` into ``123.0`` and ``120000`` into
    ``1.2E+05``: such values would silently match nobody, or somebody else.
    """
    if not text:
        return f"no {join} is given"
    if _SCIENTIFIC.fullmatch(text):
        return f"the {join} was turned into scientific notation: export the column as text"
    if join in ("study", "series", "sop"):
        if len(text) > MAX_UID_LENGTH or not UID_TEXT.fullmatch(text):
            return f"the {join} is not a UID: digits and dots, at most 64 characters"
        return None
    if _TRAILING_ZEROS.fullmatch(text):
        return f"the {join} was turned into a decimal number: export the column as text"
    return None


def number(text: str, decimal_comma: bool = False) -> float | None:
    """Return a finite number, or None for any other text."""
    if decimal_comma:
        text = text.replace(",", ".")
    try:
        value = float(text)
    except ValueError:
        return None
    # float() takes "1_000" for a number, which no table means.
    return value if math.isfinite(value) and "_" not in text else None


def _gunzip(data: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            return stream.read(MAX_TABLE_BYTES + 1)
    except (OSError, EOFError, zlib.error):
        raise ValueError("The table is not what its ending .gz says.") from None


def _decode(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # What Western European spreadsheets write when they do not write UTF-8.
        return data.decode("cp1252", "replace")


def _columns(names: list[str]) -> tuple[str, ...]:
    columns = tuple(normalise(name) for name in names)
    if not any(columns):
        raise ValueError("The table is empty: its first line must name the columns.")
    if len(set(columns)) != len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise ValueError(f"The table has two columns called {twice!r}: rename one.")
    return columns


def _csv_rows(reader, width: int) -> tuple[list, list]:
    rows, problems = [], []
    for values in reader:
        if not any(value.strip() for value in values):
            continue
        if len(values) == width:
            rows.append((reader.line_num, tuple(normalise(value) for value in values)))
        else:
            problems.append((reader.line_num, f"{len(values)} fields instead of {width}"))
    return rows, problems


def _read_parquet(data: bytes) -> TableFile:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(io.BytesIO(data))
    except (pyarrow.ArrowException, OSError):
        raise ValueError("The table is not what its ending .parquet says.") from None
    if table.nbytes > MAX_TABLE_BYTES:
        raise ValueError(f"The table has more than {MAX_TABLE_BYTES} bytes: split it.")
    columns = _columns(list(table.column_names))
    values = [[_text(value) for value in column.to_pylist()] for column in table.columns]
    rows = tuple(enumerate(zip(*values, strict=True), start=1))
    return TableFile(columns, rows, ())


def _text(value: object) -> str:
    # A float that stood for an id comes out as "1234.0" and is refused as a key.
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return normalise(str(value))
