"""Which patient stands on which side: append-only, with numbered and counted test editions."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, Row, func, select

from tasks.archive.database import insert, now, writing
from tasks.archive.tables import assignments as assignments_table
from tasks.archive.tables import edition_uses
from tasks.archive.tables import editions as editions_table

SIDES = ("train", "test", "reserve")
"""Where a patient may stand; reserve waits, never trained on, for the next test edition."""

SHOWN_KEY = 8
"""Characters of a patient key in messages: enough to find it with `radloop trace`."""


@dataclass(frozen=True)
class Assignment:
    """One patient's place in a split."""

    patient_key: str
    side: str
    edition: int
    fold: int | None
    stratum: str


@dataclass(frozen=True)
class Edition:
    """One test edition and how often it has been looked at."""

    edition: int
    n_patients: int
    at: str
    uses: int


def assign(catalog: Engine, split_id: str, rows: Sequence[Assignment]) -> int:
    """Append assignments and return how many were new; the same again is a no-op.

    The only step a patient can take is from ``reserve`` into a test edition after the first. All
    rows are written or none.

    Raises
    ------
    ValueError
        A patient would change side, fold or edition, an edition that has been used would grow, or
        a side is not one of `SIDES`.
    """
    with writing(catalog) as connection:
        current = _current(connection, split_id)
        used = _used_editions(connection, split_id)
        fresh: dict[tuple[str, int], dict] = {}
        for row in rows:
            turn = _turn(row, current.get(row.patient_key), used)
            if turn is None:
                continue
            current[row.patient_key] = row
            fresh[row.patient_key, turn] = {
                "split_id": split_id,
                "patient_key": row.patient_key,
                "turn": turn,
                "side": row.side,
                "edition": row.edition,
                "fold": row.fold,
                "stratum": row.stratum,
                "at": now(),
            }
        if fresh:
            connection.execute(assignments_table.insert(), list(fresh.values()))
    return len(fresh)


def _turn(row: Assignment, held: Assignment | None, used: set[int]) -> int | None:
    """Return which row of its patient this becomes, or None when it says nothing new."""
    shown = row.patient_key[:SHOWN_KEY]
    if row.side not in SIDES:
        raise ValueError(f"A side is one of {', '.join(SIDES)}, not {row.side!r}.")
    if held and (held.side, held.edition, held.fold) == (row.side, row.edition, row.fold):
        return None
    if row.side == "test" and row.edition in used:
        raise ValueError(
            f"Patient {shown}… would join test edition {row.edition}, which has been used: put "
            "the patient in reserve and open the next edition."
        )
    if held is None:
        return 0
    if held.side == "reserve" and row.side == "test" and row.edition > 1:
        return 1
    raise ValueError(
        f"Patient {shown}… stands in {_place(held)} and cannot move to {_place(row)}: sides are "
        "decided once; another split needs another split configuration."
    )


def _place(row: Assignment) -> str:
    fold = "" if row.fold is None else f", fold {row.fold}"
    return f"{row.side} (edition {row.edition}{fold})"


def _current(connection: Connection, split_id: str) -> dict[str, Assignment]:
    table = assignments_table.c
    query = (
        select(table.patient_key, table.side, table.edition, table.fold, table.stratum)
        .where(table.split_id == split_id)
        .order_by(table.patient_key, table.turn)
    )
    # The later turn overwrites the earlier one.
    return {row.patient_key: Assignment(*row) for row in connection.execute(query)}


def _used_editions(connection: Connection, split_id: str) -> set[int]:
    query = select(edition_uses.c.edition).filter_by(split_id=split_id).distinct()
    return set(connection.scalars(query))


def assignments(catalog: Engine, split_id: str) -> dict[str, Assignment]:
    """Return where each patient of a split stands now, by patient key in order."""
    with catalog.connect() as connection:
        return _current(connection, split_id)


def sides_of_patient(catalog: Engine, patient_key: str) -> list[tuple[str, str, int]]:
    """Return (split id, side, edition) of a patient in every split, where it stands now."""
    table = assignments_table.c
    query = (
        select(table.split_id, table.side, table.edition)
        .where(table.patient_key == patient_key)
        .order_by(table.split_id, table.turn)
    )
    with catalog.connect() as connection:
        newest = {row.split_id: tuple(row) for row in connection.execute(query)}
    return list(newest.values())


def open_edition(catalog: Engine, split_id: str, edition: int, n_patients: int) -> None:
    """Open a test edition; the same again is a no-op.

    Raises
    ------
    ValueError
        It is not the next number, or it is open with another number of patients.
    """
    with writing(catalog) as connection:
        held = _edition(connection, split_id, edition)
        if held is not None and held.n_patients == n_patients:
            return
        if held is not None:
            raise ValueError(
                f"Test edition {edition} is open with {held.n_patients} patients and cannot become "
                f"one of {n_patients}: open the next edition."
            )
        newest = connection.scalar(
            select(func.max(editions_table.c.edition)).filter_by(split_id=split_id)
        )
        following = (newest or 0) + 1
        if edition != following:
            raise ValueError(
                f"Test edition {edition} cannot be opened: the next edition is {following}."
            )
        connection.execute(
            editions_table.insert(),
            {"split_id": split_id, "edition": edition, "n_patients": n_patients, "at": now()},
        )


def _edition(connection: Connection, split_id: str, edition: int) -> Row | None:
    query = select(editions_table).filter_by(split_id=split_id, edition=edition)
    return connection.execute(query).one_or_none()


def editions(catalog: Engine, split_id: str) -> list[Edition]:
    """Return the editions of a split with their number of uses, the first first."""
    table = editions_table
    uses = (
        select(func.count())
        .where(
            edition_uses.c.split_id == table.c.split_id, edition_uses.c.edition == table.c.edition
        )
        .scalar_subquery()
    )
    query = (
        select(table.c.edition, table.c.n_patients, table.c.at, uses)
        .where(table.c.split_id == split_id)
        .order_by(table.c.edition)
    )
    with catalog.connect() as connection:
        return [Edition(*row) for row in connection.execute(query)]


def use_edition(catalog: Engine, split_id: str, edition: int, run_id: str, purpose: str) -> int:
    """Count one look at a test edition and return how often it has been used now.

    The same run with the same purpose counts once, so that a repeated task does not count twice.

    Raises
    ------
    ValueError
        The edition is not open.
    """
    with writing(catalog) as connection:
        if _edition(connection, split_id, edition) is None:
            raise ValueError(
                f"Test edition {edition} of split {split_id[:SHOWN_KEY]}… is not open: open it "
                "before it is used."
            )
        connection.execute(
            insert(connection, edition_uses).on_conflict_do_nothing(),
            {
                "split_id": split_id,
                "edition": edition,
                "run_id": run_id,
                "purpose": purpose,
                "at": now(),
            },
        )
        query = select(func.count()).select_from(edition_uses)
        return connection.scalar(query.filter_by(split_id=split_id, edition=edition))
