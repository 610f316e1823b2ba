"""Rows of table sources into the catalog: each is a case of its own."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Engine, select

from tasks.archive.database import LOOKUP_ROWS, chunks, insert, writing
from tasks.archive.tables import table_rows
from tasks.hashing import canonical_json


@dataclass(frozen=True)
class TableRow:
    """One row of a table source."""

    case_id: str
    patient_key: str
    facts: Mapping[str, float | str | None]


def upsert_table_rows(catalog: Engine, table: str, source: str, rows: Iterable[TableRow]) -> int:
    """Add rows of a table source and return how many were new.

    A row is known by its case id, the hash of its content, so a changed row is another case.
    """
    values = {
        row.case_id: {
            "case_id": row.case_id,
            "table_name": table,
            "source": source,
            "patient_key": row.patient_key,
            "facts": canonical_json(dict(row.facts)),
        }
        for row in rows
    }
    known: set[str] = set()
    with writing(catalog) as connection:
        for chunk in chunks(sorted(values), LOOKUP_ROWS):
            query = select(table_rows.c.case_id).where(table_rows.c.case_id.in_(chunk))
            known.update(connection.scalars(query))
        if values:
            statement = insert(connection, table_rows)
            changing = ("table_name", "source", "patient_key", "facts")
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["case_id"],
                    set_={name: statement.excluded[name] for name in changing},
                ),
                list(values.values()),
            )
    return len(values) - len(known)


def parse_facts(facts: str) -> dict[str, float | str | None]:
    """Return the facts of a stored table row."""
    return json.loads(facts)
