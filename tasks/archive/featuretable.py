"""What recipes measured in images: one narrow row a case and recipe, names once a recipe.

The part keeps the same numbers in its traces, so these rows can always be written again; they are
here because a table is asked for all cases at once, and parts would have to be opened one by one.
"""

import json
from collections.abc import Iterable, Mapping

import numpy as np
from sqlalchemy import Connection, Engine, select

from tasks.archive.database import LOOKUP_ROWS, chunks, insert
from tasks.archive.tables import feature_columns, feature_rows
from tasks.errors import StoreError
from tasks.hashing import canonical_json

NUMBER = np.dtype("<f8")
"""How a number is kept; nan stands for one that an image does not have."""

Numbers = Mapping[str, float | None]


def put_features(connection: Connection, recipe_id: str, measured: Mapping[str, Numbers]) -> None:
    """Keep what a recipe measured, within a transaction; the same again is a no-op.

    Parameters
    ----------
    connection : Connection
    recipe_id : str
    measured : mapping of case id to mapping of column to number or None
        Every case has the same columns.

    Raises
    ------
    StoreError
        The recipe measures other columns, or has other numbers of a case.
    """
    if not measured:
        return
    columns = sorted(next(iter(measured.values())))
    if any(sorted(numbers) != columns for numbers in measured.values()):
        msg = f"Recipe {recipe_id} measured different columns in different cases: see its steps."
        raise StoreError(msg)
    connection.execute(
        insert(connection, feature_columns).on_conflict_do_nothing(),
        {"recipe_id": recipe_id, "names": canonical_json(columns)},
    )
    if _columns(connection, recipe_id) != columns:
        msg = (
            f"Recipe {recipe_id} measures other columns than it did before: a step changed and "
            "its version did not; raise the version and preprocess again."
        )
        raise StoreError(msg)
    rows = {case_id: _packed(numbers, columns) for case_id, numbers in measured.items()}
    held = _rows(connection, recipe_id, rows)
    changed = [case_id for case_id, numbers in held.items() if numbers != rows[case_id]]
    if changed:
        msg = (
            f"Case {changed[0]} was measured before under recipe {recipe_id} with other numbers: "
            "the same input must give the same; run `radloop verify` and check what changed."
        )
        raise StoreError(msg)
    fresh = [
        {"recipe_id": recipe_id, "case_id": case_id, "numbers": numbers}
        for case_id, numbers in rows.items()
        if case_id not in held
    ]
    if fresh:
        connection.execute(insert(connection, feature_rows).on_conflict_do_nothing(), fresh)


def features(
    catalog: Engine, recipe_id: str, case_ids: Iterable[str] | None = None
) -> dict[str, dict[str, float | None]]:
    """Return what a recipe measured, by case id in order; cases without numbers are not there.

    Parameters
    ----------
    catalog : Engine
    recipe_id : str
    case_ids : iterable of str, optional
        Only these; all by default.
    """
    with catalog.connect() as connection:
        columns = _columns(connection, recipe_id)
        found = _rows(connection, recipe_id, case_ids)
    return {case_id: _unpacked(found[case_id], columns) for case_id in sorted(found)}


def _columns(connection: Connection, recipe_id: str) -> list[str]:
    query = select(feature_columns.c.names).filter_by(recipe_id=recipe_id)
    return json.loads(connection.scalar(query) or "[]")


def _rows(
    connection: Connection, recipe_id: str, case_ids: Iterable[str] | None
) -> dict[str, bytes]:
    query = select(feature_rows.c.case_id, feature_rows.c.numbers).filter_by(recipe_id=recipe_id)
    if case_ids is None:
        return {case_id: bytes(numbers) for case_id, numbers in connection.execute(query)}
    found: dict[str, bytes] = {}
    for chunk in chunks(sorted(set(case_ids)), LOOKUP_ROWS):
        rows = connection.execute(query.where(feature_rows.c.case_id.in_(chunk)))
        found.update((case_id, bytes(numbers)) for case_id, numbers in rows)
    return found


def _packed(numbers: Numbers, columns: list[str]) -> bytes:
    values = [np.nan if numbers[name] is None else numbers[name] for name in columns]
    return np.array(values, dtype=NUMBER).tobytes()


def _unpacked(numbers: bytes, columns: list[str]) -> dict[str, float | None]:
    values = np.frombuffer(numbers, dtype=NUMBER).tolist()
    pairs = zip(columns, values, strict=True)
    return {name: None if value != value else value for name, value in pairs}
