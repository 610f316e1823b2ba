"""Rows in bulk: the same on both databases, inside the caller's transaction."""

import pytest
from sqlalchemy import bindparam, select, update

from tasks.archive.bulk import execute_rows, insert_returning
from tasks.archive.database import insert, writing
from tasks.archive.tables import leases

NAMES = ("name", "ttl_s", "fence", "heartbeat")


def _rows(catalog) -> list[tuple]:
    with catalog.connect() as connection:
        query = select(leases.c.name, leases.c.ttl_s, leases.c.fence, leases.c.heartbeat)
        return [tuple(row) for row in connection.execute(query.order_by("name"))]


def test_rows_may_name_their_values_in_any_order(catalog):
    rows = [("a", 1.0, 2, 3.0), ("b", 4.0, 5, 6.0)]
    with writing(catalog) as connection:
        execute_rows(connection, insert(connection, leases), NAMES, rows)
        execute_rows(connection, insert(connection, leases), NAMES, [])
    assert _rows(catalog) == rows
    statement = update(leases).where(leases.c.name == bindparam("b_name"))
    statement = statement.values(fence=bindparam("b_fence"))
    with writing(catalog) as connection:
        execute_rows(connection, statement, ("b_name", "b_fence"), [("b", 9)])
    assert [row[2] for row in _rows(catalog)] == [2, 9]


def test_rows_go_with_the_transaction_they_came_in(catalog):
    rows = [("a", 1.0, 2, 3.0), ("b", 1.0, 2, 3.0), ("a", 1.0, 2, 3.0)]
    with pytest.raises(Exception, match=r"(?i)unique"), writing(catalog) as connection:
        execute_rows(connection, insert(connection, leases), NAMES, rows)
    assert _rows(catalog) == []


def test_returned_numbers_stand_in_the_order_of_the_rows(sqlite_catalog):
    with writing(sqlite_catalog) as connection:
        statement = insert(connection, leases).returning(leases.c.fence)
        rows = [(f"n{7 * i % 50}", 1.0, i, 0.0) for i in range(50)]
        assert insert_returning(connection, statement, NAMES, rows) == list(range(50))
    assert len(_rows(sqlite_catalog)) == 50
