"""Label sets: what somebody said about cases, append-only, with author, time and predecessor."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, func, select

from tasks.archive.database import insert, now, writing
from tasks.archive.tables import label_rows as rows_table
from tasks.archive.tables import label_set_log
from tasks.archive.tables import label_sets as sets_table
from tasks.hashing import digest_json

JOINS = ("accession", "study", "series", "sop", "patient", "case")
"""What a label may be attached to."""


@dataclass(frozen=True)
class LabelRow:
    """One label: what it belongs to, its value (tables) or its mask file (locator)."""

    join: str
    key: str
    value: str | None
    locator: int | None = None


@dataclass(frozen=True)
class LabelSet:
    """One label set, and the last time it became the newest of its source and name."""

    label_set_id: str
    name: str
    source: str
    digest: str
    n_rows: int
    author: str
    at: str
    supersedes: str | None


def put_label_set(
    catalog: Engine,
    *,
    name: str,
    source: str,
    author: str,
    digest: str,
    rows: Iterable[LabelRow],
    supersedes: str | None = None,
) -> str:
    """Add a label set and make it the newest of its source and name; the same content is a no-op.

    Parameters
    ----------
    catalog : Engine
        The catalog.
    name, source : str
        What the set is called, and the alias of the source it speaks about.
    author : str
        Who or what made it.
    digest : str
        Digest of what it was read from (mask files have no value, so this stands for them).
    rows : iterable of LabelRow
        In any order.
    supersedes : str, optional
        The set it replaces; by default the newest of the same source and name.

    Returns
    -------
    str
        The label set's id: a hash of name, source, digest and rows (without locators).

    Raises
    ------
    ValueError
        A row with another join than `JOINS`.
    """
    ordered = sorted(rows, key=lambda row: (row.join, row.key, row.value or "", row.locator or 0))
    for row in ordered:
        if row.join not in JOINS:
            raise ValueError(f"A label is joined on {row.join!r}: give one of {', '.join(JOINS)}.")
    content = [[row.join, row.key, row.value] for row in ordered]
    label_set_id = digest_json(["label_set", name, source, digest, content])
    with writing(catalog) as connection:
        newest = _newest(connection, source, name)
        if newest == label_set_id:
            return label_set_id
        query = select(sets_table.c.id).filter_by(label_set_id=label_set_id)
        number = connection.execute(query).scalar()
        if number is None:
            number = _insert_set(connection, label_set_id, name, source, digest, ordered)
        connection.execute(
            label_set_log.insert(),
            {
                "label_set": number,
                "author": author,
                "at": now(),
                "supersedes": newest if supersedes is None else supersedes,
            },
        )
    return label_set_id


def _insert_set(
    connection: Connection,
    label_set_id: str,
    name: str,
    source: str,
    digest: str,
    rows: list[LabelRow],
) -> int:
    number = connection.execute(
        insert(connection, sets_table).returning(sets_table.c.id),
        {
            "label_set_id": label_set_id,
            "name": name,
            "source": source,
            "digest": digest,
            "n_rows": len(rows),
        },
    ).scalar_one()
    if rows:
        connection.execute(
            rows_table.insert(),
            [
                {
                    "label_set": number,
                    "number": i,
                    "join": row.join,
                    "key": row.key,
                    "value": row.value,
                    "locator": row.locator,
                }
                for i, row in enumerate(rows)
            ],
        )
    return number


def _newest(connection: Connection, source: str, name: str) -> str | None:
    query = (
        select(sets_table.c.label_set_id)
        .join_from(label_set_log, sets_table)
        .filter(sets_table.c.source == source, sets_table.c.name == name)
        .order_by(label_set_log.c.id.desc())
        .limit(1)
    )
    return connection.execute(query).scalar()


def latest_label_set(catalog: Engine, source: str, name: str) -> str | None:
    """Return the id of the newest label set of a source and name, or None."""
    with catalog.connect() as connection:
        return _newest(connection, source, name)


def label_sets(catalog: Engine) -> list[LabelSet]:
    """Return every label set, the one that became the newest last at the end."""
    last = select(func.max(label_set_log.c.id)).group_by(label_set_log.c.label_set)
    query = (
        select(
            sets_table.c.label_set_id,
            sets_table.c.name,
            sets_table.c.source,
            sets_table.c.digest,
            sets_table.c.n_rows,
            label_set_log.c.author,
            label_set_log.c.at,
            label_set_log.c.supersedes,
        )
        .join_from(label_set_log, sets_table)
        .where(label_set_log.c.id.in_(last))
        .order_by(label_set_log.c.id)
    )
    with catalog.connect() as connection:
        return [LabelSet(*row) for row in connection.execute(query)]


def label_rows(catalog: Engine, label_set_id: str) -> list[LabelRow]:
    """Return the rows of a label set, ordered by join, key and value.

    Raises
    ------
    KeyError
        There is no such label set.
    """
    with catalog.connect() as connection:
        query = select(sets_table.c.id).filter_by(label_set_id=label_set_id)
        number = connection.execute(query).scalar()
        if number is None:
            raise KeyError(f"there is no label set {label_set_id}")
        found = connection.execute(
            select(rows_table.c.join, rows_table.c.key, rows_table.c.value, rows_table.c.locator)
            .filter_by(label_set=number)
            .order_by(rows_table.c.number)
        )
        return [LabelRow(*row) for row in found]
