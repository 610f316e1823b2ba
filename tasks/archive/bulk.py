"""Many rows into a table: on SQLite straight to the driver, elsewhere through SQLAlchemy."""

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Insert, Update

if TYPE_CHECKING:
    import sqlite3


def execute_rows(
    connection: Connection, statement: Insert | Update, names: Sequence[str], rows: Sequence[tuple]
) -> None:
    """Execute a statement once for each row.

    SQLAlchemy makes a dict of each row and converts each value, which on SQLite costs three times
    the insert; there the rows go to the driver as they are.

    Parameters
    ----------
    connection : Connection
    statement : Insert or Update
        With one parameter for each name.
    names : sequence of str
        What the values of a row are.
    rows : sequence of tuple
        Values as they are stored: keys as bytes.
    """
    if not rows:
        return
    if connection.dialect.name != "sqlite":
        connection.execute(statement, [dict(zip(names, row, strict=True)) for row in rows])
        return
    text_, ordered = _for_driver(connection, statement, names, rows)
    _driver(connection).executemany(text_, ordered)


def insert_returning(
    connection: Connection, statement: Insert, names: Sequence[str], rows: Sequence[tuple]
) -> list[int]:
    """Execute an INSERT that returns one number for each row; return them in the order of the rows.

    As `execute_rows`; on SQLite only.
    """
    text_, ordered = _for_driver(connection, statement, names, rows)
    cursor = _driver(connection).cursor()
    try:
        return [cursor.execute(text_, row).fetchone()[0] for row in ordered]
    finally:
        cursor.close()


def _for_driver(
    connection: Connection, statement: Insert | Update, names: Sequence[str], rows: Sequence[tuple]
) -> tuple[str, Iterable[tuple]]:
    compiled = statement.compile(dialect=connection.dialect, column_keys=list(names))
    places = [names.index(name) for name in compiled.positiontup]
    if places == list(range(len(names))):
        return str(compiled), rows
    return str(compiled), map(itemgetter(*places), rows)


def _driver(connection: Connection) -> "sqlite3.Connection":
    return connection.connection.driver_connection
