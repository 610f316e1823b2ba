"""What the readers of public data sets have in common: rows of their images and of their labels."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tasks.archive.tablefile import TableFile, join_problem, read_table
from tasks.labels.tables import LabelEntry, LabelTable

ReadFile = Callable[[str], bytes]
"""Returns the bytes of a file by its path relative to the data set's folder; FileNotFoundError."""


@dataclass(frozen=True)
class ImageLine:
    """A line of ``radloop-images.csv``: whose one picture of a data set is."""

    file: str = field(repr=False)
    patient: str = field(repr=False)
    study: str = field(repr=False)
    accession: str = field(repr=False)
    """What the data set's labels are joined on."""
    facts: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Other columns: ``body_part`` and ``spacing``, and what the set says of the picture."""


@dataclass(frozen=True)
class FileLabels:
    """The labels one file of a data set gives."""

    file: str
    """A name the data set's authors chose, which names nobody."""
    data: bytes = field(repr=False)
    table: LabelTable


def value_labels(
    file: str,
    data: bytes,
    join: str,
    key_column: str,
    value_of: Callable[[Mapping[str, str]], str],
) -> FileLabels:
    """Return a label for each row of a table.

    Parameters
    ----------
    file : str
        For the columns' separator, and for messages.
    data : bytes
    join : str
        See `tasks.labels.config.Join`.
    key_column : str
    value_of : callable
        Row, by column, to its class; ValueError says what is wrong with it without the value.

    Raises
    ------
    ValueError
        The file is no table or lacks the column of keys.
    """
    table = read_table(data, file)
    at = column_of(table, file, key_column)
    rows, problems = [], list(table.problems)
    for line, values in table.rows:
        problem = join_problem(join, values[at])
        try:
            if problem:
                raise ValueError(problem)
            value = value_of(dict(zip(table.columns, values, strict=True)))
            rows.append(LabelEntry(line, values[at], value))
        except ValueError as error:
            problems.append((line, str(error)))
    return FileLabels(file, data, LabelTable(tuple(rows), tuple(sorted(problems))))


def column_of(table: TableFile, file: str, name: str) -> int:
    """Return the place of a column.

    Raises
    ------
    ValueError
        It is not there; names file, columns and remedy.
    """
    if name not in table.columns:
        raise ValueError(
            f"{file} has no column {name!r}; it has: {', '.join(table.columns)}. Give the file as "
            "its authors publish it."
        )
    return table.columns.index(name)


def records(data: bytes, file: str, columns: Iterable[str]) -> list[tuple[int, dict[str, str]]]:
    """Return (line, values by column) of a table that must be whole and have these columns.

    Raises
    ------
    ValueError
        It is no table, lacks a column, or holds a ragged row.
    """
    table = read_table(data, file)
    for name in columns:
        column_of(table, file, name)
    if table.problems:
        line, problem = table.problems[0]
        raise ValueError(f"{file} line {line}: {problem}. Give the file as its authors publish it.")
    return [(line, dict(zip(table.columns, row, strict=True))) for line, row in table.rows]


def flag(text: str, *, blank: bool | None = None) -> bool:
    """Return what 0, 1, 0.0 and 1.0 say; an empty text is as told.

    Raises
    ------
    ValueError
        Any other text.
    """
    if not text and blank is not None:
        return blank
    if text in ("0", "0.0", "1", "1.0"):
        return text.startswith("1")
    raise ValueError("the value is neither 0 nor 1")
