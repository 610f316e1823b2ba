"""Quarantine: files and cases that could not be used, each with its reason."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, delete, func, or_, select

from tasks.archive.database import LOOKUP_ROWS, chunks, insert, now, writing
from tasks.archive.tables import quarantine as quarantine_table
from tasks.hashing import digest_json


@dataclass(frozen=True)
class QuarantineRow:
    """One thing that could not be used; holds opaque ids only."""

    quarantine_id: str
    stage: str
    reason: str
    detail: str
    source: str | None
    locator: int | None
    case_id: str | None
    recipe_id: str | None
    at: str


@dataclass(frozen=True)
class QuarantineReason:
    """How many rows share a stage and a reason, and a few of them."""

    stage: str
    reason: str
    n: int
    examples: tuple[QuarantineRow, ...]


def add_quarantine(
    catalog: Engine,
    *,
    stage: str,
    reason: str,
    detail: str,
    source: str | None = None,
    locator: int | None = None,
    case_id: str | None = None,
    recipe_id: str | None = None,
) -> str:
    """Record what could not be used; the same thing for the same reason stays one row.

    Returns
    -------
    str
        The row's id.
    """
    with writing(catalog) as connection:
        row = quarantine_values(
            stage=stage,
            reason=reason,
            detail=detail,
            source=source,
            locator=locator,
            case_id=case_id,
            recipe_id=recipe_id,
        )
        insert_quarantine(connection, [row])
    return row["quarantine_id"]


def quarantine_values(
    *,
    stage: str,
    reason: str,
    detail: str,
    source: str | None = None,
    locator: int | None = None,
    case_id: str | None = None,
    recipe_id: str | None = None,
) -> dict:
    """Return the values of a row; its id is the hash of what and why."""
    what = [stage, reason, source, locator, case_id, recipe_id]
    return {
        "quarantine_id": digest_json(["quarantine", *what]),
        "stage": stage,
        "reason": reason,
        "detail": detail,
        "source": source,
        "locator": locator,
        "case_id": case_id,
        "recipe_id": recipe_id,
        "at": now(),
    }


def insert_quarantine(connection: Connection, rows: list[dict]) -> None:
    """Insert rows inside the caller's transaction; known ones keep their time."""
    if rows:
        statement = insert(connection, quarantine_table)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["quarantine_id"], set_={"detail": statement.excluded.detail}
            ),
            rows,
        )


def quarantine(catalog: Engine) -> list[QuarantineRow]:
    """Return all rows, oldest first."""
    order = quarantine_table.c
    with catalog.connect() as connection:
        rows = connection.execute(
            select(quarantine_table).order_by(order.at, order.quarantine_id)
        ).all()
    return [QuarantineRow(**row._mapping) for row in rows]


def quarantine_reasons(catalog: Engine, examples: int = 3) -> list[QuarantineReason]:
    """Return the rows grouped by stage and reason, the most frequent first.

    Parameters
    ----------
    catalog : Engine
        The catalog.
    examples : int
        Rows shown of each group.
    """
    table = quarantine_table
    numbered = select(
        table,
        func.row_number()
        .over(partition_by=[table.c.stage, table.c.reason], order_by=table.c.quarantine_id)
        .label("number"),
        func.count().over(partition_by=[table.c.stage, table.c.reason]).label("n"),
    ).subquery()
    groups: dict[tuple[str, str], list[QuarantineRow]] = {}
    sizes: dict[tuple[str, str], int] = {}
    with catalog.connect() as connection:
        for row in connection.execute(
            select(numbered).where(numbered.c.number <= max(examples, 1))
        ):
            values = dict(row._mapping)
            del values["number"]
            group = (values["stage"], values["reason"])
            sizes[group] = values.pop("n")
            groups.setdefault(group, []).append(QuarantineRow(**values))
    return [
        QuarantineReason(*group, sizes[group], tuple(groups[group][:examples]))
        for group in sorted(groups, key=lambda group: (-sizes[group], group))
    ]


def clear_quarantine(
    catalog: Engine,
    *,
    stage: str | None = None,
    reason: str | None = None,
    source: str | None = None,
    recipe_id: str | None = None,
    locators: Iterable[int] | None = None,
    case_ids: Iterable[str] | None = None,
) -> int:
    """Remove the rows that meet every given condition, and return how many.

    Raises
    ------
    ValueError
        No condition is given.
    """
    named = {"stage": stage, "reason": reason, "source": source, "recipe_id": recipe_id}
    conditions = [quarantine_table.c[k] == v for k, v in named.items() if v is not None]
    for column, values in (("locator", locators), ("case_id", case_ids)):
        if values is not None:
            pieces = chunks(sorted(set(values)), LOOKUP_ROWS)
            conditions.append(or_(False, *(quarantine_table.c[column].in_(p) for p in pieces)))
    if not conditions:
        raise ValueError("clear_quarantine was given no condition and would remove every row.")
    with writing(catalog) as connection:
        return connection.execute(delete(quarantine_table).where(*conditions)).rowcount
