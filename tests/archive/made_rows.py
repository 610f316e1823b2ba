"""Rows of a catalog made of words: series, keys and numbers."""

import hashlib

from sqlalchemy import Engine, inspect, text

from tasks.archive.catalog import (
    InstanceRow,
    SeriesRow,
    cases,
)


def key(*words: object) -> str:
    return hashlib.sha256(repr(words).encode()).hexdigest()[:32]


RECIPE, SPLIT = key("recipe"), key("split")
CASES = tuple(sorted(key("case", i) for i in range(6)))


def a_series(
    name: object, n: int = 3, *, patient: object = "p", content: object = "", **facts: object
) -> SeriesRow:
    return SeriesRow(
        series_key=key("series", name),
        study_key=key("study", patient),
        patient_key=key("patient", patient),
        accession_key=key("accession", patient),
        kind="dicom",
        source="archive",
        facts={"modality": "CT", "kvp": 120.0, "rows": 512, "contrast": False, **facts},
        instances=tuple(
            InstanceRow(
                key("sop", name, i), float(i), key("digest", name, i, content), number(name, i)
            )
            for i in range(n)
        ),
    )


def number(*words: object) -> int:
    return int(key(*words)[:12], 16)


def only(catalog: Engine, **conditions: object):
    (case,) = cases(catalog, kind="dicom", **conditions)
    return case


def dumped(engine: Engine) -> str:
    """Return all rows of all tables as text, to look for what must not be there."""
    with engine.connect() as connection:
        tables = inspect(connection).get_table_names()
        found = [connection.execute(text(f'SELECT * FROM "{name}"')).all() for name in tables]
    values = [list(row) for rows in found for row in rows]
    # PostgreSQL gives bytes as views, whose repr is an address.
    return repr([[bytes(v) if isinstance(v, memoryview) else v for v in row] for row in values])
