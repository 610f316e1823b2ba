"""Versions of series: hash of all instances; what changes with them, and what falls away."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    Connection,
    Engine,
    LargeBinary,
    bindparam,
    delete,
    select,
    type_coerce,
    update,
)

from tasks.archive.database import LOOKUP_ROWS, chunks, insert, writing
from tasks.archive.tables import instances, part_cases, series, superseded_cases, work
from tasks.hashing import digest_json


@dataclass(frozen=True)
class KnownSeries:
    """What the catalog knows of a series when a batch comes."""

    id: int
    study_key: str
    patient_key: str
    case_id: str
    series_version: str
    facts_from: str


def known_series(connection: Connection, keys: Sequence[str]) -> dict[str, KnownSeries]:
    """Return the series with these keys, locked until the transaction ends."""
    columns = ("id", "study_key", "patient_key", "case_id", "series_version", "facts_from")
    query = select(series.c.series_key, *(series.c[name] for name in columns))
    found = {}
    for chunk in chunks(keys, LOOKUP_ROWS):
        # Locked, so that a second writer on PostgreSQL cannot compute a version from half the rows.
        locked = query.where(series.c.series_key.in_(chunk)).order_by(series.c.id).with_for_update()
        found.update((key, KnownSeries(*rest)) for key, *rest in connection.execute(locked))
    return found


def instances_of(
    connection: Connection, series_ids: Sequence[int]
) -> dict[bytes, tuple[int, bytes, int]]:
    """Return SOP key -> (series id, digest, locator) of the instances of series."""
    # Keys as they are stored: hexadecimal text would double the time where rows are many.
    query = select(
        type_coerce(instances.c.sop_key, LargeBinary),
        instances.c.series_id,
        type_coerce(instances.c.digest, LargeBinary),
        instances.c.locator,
    )
    found = {}
    for chunk in chunks(series_ids, LOOKUP_ROWS):
        rows = connection.execute(query.where(instances.c.series_id.in_(chunk)))
        found.update((sop, (number, digest, locator)) for sop, number, digest, locator in rows)
    return found


def write_versions(
    connection: Connection,
    known: Mapping[str, KnownSeries],
    before: Mapping[str, KnownSeries],
    there: Mapping[bytes, tuple[int, bytes, int]],
) -> int:
    """Recompute versions and case ids from all instances; return how many known ones changed."""
    digests: dict[int, list[bytes]] = {}
    for number, digest, _ in there.values():
        digests.setdefault(number, []).append(digest)
    updates, old_cases, changed = [], [], 0
    for key, row in known.items():
        held = [digest.hex() for digest in sorted(digests.get(row.id, []))]
        version = digest_json([key, held])
        if version == row.series_version:
            continue
        case_id = digest_json(["case", [version]])
        updates.append({"b_id": row.id, "version": version, "case": case_id, "n": len(held)})
        if key in before:
            changed += 1
            old_cases.append((row.case_id, key, row.patient_key))
    if updates:
        connection.execute(
            update(series)
            .where(series.c.id == bindparam("b_id"))
            .values(
                series_version=bindparam("version"),
                case_id=bindparam("case"),
                n_instances=bindparam("n"),
            ),
            updates,
        )
    _supersede(connection, old_cases)
    return changed


def _supersede(connection: Connection, old: list[tuple[str, str, str]]) -> None:
    """Keep the trace of former cases that somebody wanted or stored; drop them from pending work.

    Cases nobody referred to leave no row: an archive taken in slowly ends like one taken in at
    once.
    """
    referred: set[str] = set()
    for chunk in chunks([case_id for case_id, _, _ in old], LOOKUP_ROWS):
        for column in (work.c.case_id, part_cases.c.case_id):
            referred.update(connection.scalars(select(column).where(column.in_(chunk))))
        connection.execute(
            update(work)
            .where(work.c.case_id.in_(chunk), work.c.state == "pending")
            .values(state="superseded")
        )
    kept = [
        {"case_id": case_id, "series_key": key, "patient_key": patient}
        for case_id, key, patient in old
        if case_id in referred
    ]
    if kept:
        connection.execute(insert(connection, superseded_cases).on_conflict_do_nothing(), kept)


def drop_instances(catalog: Engine, locators: Iterable[int]) -> int:
    """Forget the instances that these files held, because the files changed or went away.

    Versions and case ids of their series follow; a series without instances is removed.

    Returns
    -------
    int
        Instances removed.
    """
    removed = 0
    with writing(catalog) as connection:
        touched: set[int] = set()
        for chunk in chunks(sorted(set(locators)), LOOKUP_ROWS):
            gone = connection.scalars(
                delete(instances)
                .where(instances.c.locator.in_(chunk))
                .returning(instances.c.series_id)
            ).all()
            removed += len(gone)
            touched.update(gone)
        keys: list[str] = []
        for chunk in chunks(sorted(touched), LOOKUP_ROWS):
            keys += connection.scalars(select(series.c.series_key).where(series.c.id.in_(chunk)))
        known = known_series(connection, keys)
        there = instances_of(connection, sorted(touched))
        write_versions(connection, known, known, there)
        empty = touched - {number for number, _, _ in there.values()}
        for chunk in chunks(sorted(empty), LOOKUP_ROWS):
            connection.execute(delete(series).where(series.c.id.in_(chunk)))
    return removed
