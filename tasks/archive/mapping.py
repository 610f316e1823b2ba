"""The mapping of a folder of pictures or volumes: whose they are, which no such file says itself.

A table ``radloop-images.csv`` at the root of a folder or bucket has a line for each file. A
line is treated as a small file of its own, a member of the table: so a corrected line makes its
case new and leaves the others, and workers read a picture's spacing as they read its pixels.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from tasks.archive import codes
from tasks.archive.s3 import SCHEME, object_version, read_object
from tasks.archive.sources import MAPPING_NAME
from tasks.archive.tablefile import TableFile, join_problem, number, read_table
from tasks.errors import BadCase
from tasks.hashing import canonical_json

MAX_MAPPING_BYTES = 1 << 30
"""Ten million lines of a hundred characters."""

MAX_SPACING_MM = 100.0
"""A larger pixel is no measurement."""

KINDS: Mapping[str, str] = MappingProxyType(
    {
        ".png": "picture",
        ".jpg": "picture",
        ".jpeg": "picture",
        ".tif": "picture",
        ".tiff": "picture",
        ".nii": "nifti",
        ".nii.gz": "nifti",
        ".nrrd": "nrrd",
        ".nhdr": "nrrd",
        ".mha": "mha",
        ".mhd": "mha",
    }
)
"""Ending of a file -> kind of its case."""

DETACHED = (".nhdr", ".mhd")
"""Headers whose voxels stand in a file beside them."""

REQUIRED = ("file", "patient")
OPTIONAL = ("study", "accession", "spacing")
FACTS: Mapping[str, Callable[[str], str | None]] = MappingProxyType(
    {
        "modality": lambda text: codes.term(text, codes.MODALITIES),
        "body_part": codes.body_part,
        "laterality": lambda text: codes.term(text, {"R", "L", "U", "B"}),
        "view": lambda text: codes.term(text, codes.VIEWS),
        "sex": lambda text: text.upper() if text.upper() in ("M", "F", "O") else None,
    }
)
"""Columns kept as facts, each through its list of codes. Columns that are not named here are
labels, which a scenario reads from the same table; ingest does not look at them."""


@dataclass(frozen=True)
class MappedRow:
    """One line of the mapping."""

    line: int
    file: str = field(repr=False)
    """Relative to the root, with forward slashes."""
    patient: str = field(repr=False)
    study: str = field(repr=False)
    """Empty when none is named; the file then stands for it."""
    accession: str = field(repr=False)
    """As `study`."""
    spacing: tuple[float, float] | None
    """(row, column) in mm."""
    facts: Mapping[str, str]

    @property
    def kind(self) -> str:
        """Return the kind of the case its file makes."""
        return KINDS[kind_suffix(self.file)]

    @property
    def content(self) -> bytes:
        """Return what the line says of the image, without whose it is.

        This is digested, and the digest goes into the catalog: so nothing that names somebody
        is in it, not even hashed.
        """
        said = {"spacing": self.spacing, **self.facts}
        return canonical_json({name: value for name, value in said.items() if value}).encode()


@dataclass(frozen=True)
class MappingTable:
    """A mapping table, read."""

    rows: Mapping[str, MappedRow]
    """By file."""
    problems: tuple[tuple[int, str], ...]
    """(line, what is wrong with it), without values."""


def kind_suffix(name: str) -> str:
    """Return the ending of a file's name that tells its kind, or an empty text."""
    lower = name.lower()
    return next((end for end in sorted(KINDS, key=len, reverse=True) if lower.endswith(end)), "")


def parse_mapping_table(data: bytes) -> MappingTable:
    """Read a mapping table.

    Raises
    ------
    ValueError
        Not CSV, or without the columns ``file`` and ``patient``.
    """
    table = read_table(data, MAPPING_NAME)
    names = [column.lower() for column in table.columns]
    missing = [column for column in REQUIRED if column not in names]
    if missing or len(set(names)) != len(names):
        raise ValueError(
            f"The {MAPPING_NAME} has no column {missing[0]!r}: it needs file and patient."
            if missing
            else f"The {MAPPING_NAME} has two columns of one name, apart from upper and lower case."
        )
    rows: dict[str, MappedRow] = {}
    problems = list(table.problems)
    for line, values in table.rows:
        try:
            row = _row(line, dict(zip(names, values, strict=True)), table)
            if row.file in rows:
                raise ValueError(f"line {rows[row.file].line} names the same file")
            rows[row.file] = row
        except ValueError as error:
            problems.append((line, str(error)))
    return MappingTable(rows, tuple(sorted(problems)))


def _row(line: int, values: dict[str, str], table: TableFile) -> MappedRow:
    file = _inside(values["file"])
    if not kind_suffix(file):
        raise ValueError(f"the file is none of {', '.join(KINDS)}")
    for join in ("patient", "study", "accession"):
        text = values.get(join, "")
        problem = join_problem("row id", text) if text or join == "patient" else None
        if problem:
            raise ValueError(problem.replace("row id", join))
    return MappedRow(
        line,
        file,
        values["patient"],
        values.get("study", ""),
        values.get("accession", ""),
        _spacing(values.get("spacing", ""), table.decimal_comma),
        {name: code for name, code_of in FACTS.items() if (code := code_of(values.get(name, "")))},
    )


def _inside(text: str) -> str:
    """Return a path below the root in its plain form."""
    path = text.replace("\\", "/")
    parts = path.removeprefix("./").split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in path or ":" in parts[0]:
        raise ValueError("the file is not a plain path below the folder of this table")
    return "/".join(parts)


def _spacing(text: str, decimal_comma: bool) -> tuple[float, float] | None:
    """Return (row, column) in mm of one number for both, or two."""
    if not text:
        return None
    words = text.replace("\\", " ").replace("x", " ").split()
    found = [number(word, decimal_comma) for word in words]
    if len(found) not in (1, 2) or not all(
        value is not None and math.isfinite(value) and 0 < value <= MAX_SPACING_MM
        for value in found
    ):
        raise ValueError(f"the spacing is not one or two numbers up to {MAX_SPACING_MM:g} mm")
    return (found[0], found[-1])


def members(data: bytes) -> Iterator[tuple[str, bytes, BadCase | None]]:
    """Yield (name, content, problem) of each line, as the members of an archive.

    Raises
    ------
    ValueError
        As `parse_mapping_table`.
    """
    mapping = parse_mapping_table(data)
    for row in mapping.rows.values():
        yield row.file, row.content, None
    for line, problem in mapping.problems:
        yield f"line {line}", b"", BadCase("unusable_row", f"line {line}: {problem}")


def read_row(path: str, member: str) -> bytes:
    """Return the content of one line; the table is read once for all of its lines.

    Raises
    ------
    BadCase
        ``file_missing``: the line is gone.
    FileNotFoundError, OSError
        The table is gone or cannot be read.
    """
    if path.startswith(SCHEME):
        version: object = object_version(path)
    else:
        state = Path(path).stat()
        version = (state.st_size, state.st_mtime_ns)
    content = _contents(path, version).get(member)
    if content is None:
        raise BadCase("file_missing", "the mapping no longer holds this line: ingest again")
    return content


@lru_cache(maxsize=2)
def _contents(path: str, version: object) -> Mapping[str, bytes]:
    # The version is part of the key so that a changed table is read anew.
    data = read_object(path, MAX_MAPPING_BYTES) if path.startswith(SCHEME) else _bytes_of(path)
    try:
        return {name: content for name, content, problem in members(data) if problem is None}
    except ValueError:
        return {}


def _bytes_of(path: str) -> bytes:
    with Path(path).open("rb") as stream:
        return stream.read(MAX_MAPPING_BYTES)


def spacing_of(content: bytes) -> tuple[float, float] | None:
    """Return the spacing a line states, from its content."""
    spacing = json.loads(content).get("spacing")
    return None if spacing is None else (float(spacing[0]), float(spacing[1]))
