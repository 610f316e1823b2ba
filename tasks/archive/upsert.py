"""Series into the catalog: idempotent, and the same rows whatever the order they came in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

from sqlalchemy import Connection, Engine, bindparam, update

from tasks.archive.bulk import execute_rows
from tasks.archive.database import insert, writing
from tasks.archive.kept import FACT_TYPES
from tasks.archive.tables import instances, series
from tasks.archive.versions import KnownSeries, instances_of, known_series, write_versions
from tasks.hashing import digest_json

_NO_SOP = "f" * 32


@dataclass(frozen=True)
class InstanceRow:
    """One instance of a series: keys as 32 hexadecimal characters, position in millimetres."""

    sop_key: str
    position: float | None
    digest: str
    locator: int


@dataclass(frozen=True)
class SeriesRow:
    """One series with the kept facts and some or all of its instances."""

    series_key: str
    study_key: str
    patient_key: str
    accession_key: str | None
    kind: str
    source: str
    facts: Mapping[str, object]
    instances: tuple[InstanceRow, ...]


@dataclass(frozen=True)
class UpsertCounts:
    """What an upsert did."""

    new: int
    """Series that were not there."""
    changed: int
    """Series that were there and now have another version."""
    instances_new: int
    conflicts: int
    """Instances refused: same SOP instance, other content, patient, study or series."""
    refused: tuple[int, ...] = ()
    """Locators of the files that were refused, ascending; the caller quarantines them."""
    kept: frozenset[int] = frozenset()
    """Locators of the batch's files that now hold their SOP instance; others are duplicates."""


class _Offer(NamedTuple):
    """An instance as it is stored."""

    series_id: int
    digest: bytes
    locator: int
    sop_key: bytes
    position: float | None


def upsert_series(catalog: Engine, rows: Iterable[SeriesRow]) -> UpsertCounts:
    """Add series and instances, and recompute versions and case ids of the series touched.

    ``series_version`` is the hash of the series key and the sorted digests of ALL its instances,
    ``case_id`` the hash of that version. Of two files that hold one SOP instance with different
    content the one with the smaller digest is kept, whichever came first; a file read again (same
    locator) replaces what it held. A series stays with the patient and study it came with first.
    Facts are those of the row that holds the series' smallest SOP key.

    Parameters
    ----------
    catalog : Engine
        The catalog.
    rows : iterable of SeriesRow
        One batch is one transaction; the same series may come in several rows and batches.

    Raises
    ------
    ValueError
        A fact that is not a kept field.
    """
    batch = sorted(
        rows, key=lambda row: (row.series_key, row.patient_key, row.study_key, _first_sop(row))
    )
    for row in batch:
        if unknown := set(row.facts) - FACT_TYPES.keys():
            raise ValueError(
                f"{min(unknown)!r} is not a kept header field: {', '.join(FACT_TYPES)}."
            )
    if not batch:
        return UpsertCounts(0, 0, 0, 0)
    with writing(catalog) as connection:
        return _upsert(connection, batch)


def _first_sop(row: SeriesRow) -> str:
    return min((instance.sop_key for instance in row.instances), default=_NO_SOP)


def _upsert(connection: Connection, batch: list[SeriesRow]) -> UpsertCounts:
    refused: set[int] = set()
    keys = sorted({row.series_key for row in batch})
    before = known_series(connection, keys)
    accepted = _same_patient(batch, before, refused)
    _insert_series(connection, [row for row in accepted if row.series_key not in before])
    known = known_series(connection, keys)
    old = instances_of(connection, [before[key].id for key in before])
    offers = _offers(accepted, known)
    offered = _offered(offers, old, refused)
    _write_instances(connection, offered)
    there = instances_of(connection, [known[key].id for key in keys if key in known])
    for sop_key, offer in offered.items():
        # Not where it was offered: the SOP instance belongs to another series.
        if there.get(sop_key, (None,))[0] != offer.series_id:
            refused.add(offer.locator)
    _write_facts(connection, accepted, known, there)
    changed = write_versions(connection, known, before, there)
    held = {locator for _, _, locator in there.values()}
    return UpsertCounts(
        new=len(known) - len(before),
        changed=changed,
        instances_new=len(there) - len(old),
        conflicts=len(refused),
        refused=tuple(sorted(refused)),
        kept=frozenset(offer.locator for offer in offers if offer.locator in held),
    )


def _same_patient(
    batch: list[SeriesRow], known: Mapping[str, KnownSeries], refused: set[int]
) -> list[SeriesRow]:
    belongs = {key: (row.patient_key, row.study_key) for key, row in known.items()}
    accepted = []
    for row in batch:
        owner = belongs.setdefault(row.series_key, (row.patient_key, row.study_key))
        if owner == (row.patient_key, row.study_key):
            accepted.append(row)
        else:
            refused.update(instance.locator for instance in row.instances)
    return accepted


def _insert_series(connection: Connection, rows: list[SeriesRow]) -> None:
    fresh = {}
    for row in rows:
        version = digest_json([row.series_key, []])
        fresh[row.series_key] = {
            "series_key": row.series_key,
            "study_key": row.study_key,
            "patient_key": row.patient_key,
            "kind": row.kind,
            "source": row.source,
            "series_version": version,
            "case_id": digest_json(["case", [version]]),
            "n_instances": 0,
            "facts_from": _NO_SOP,
        }
    if fresh:
        statement = insert(connection, series).on_conflict_do_nothing()
        connection.execute(statement, list(fresh.values()))


def _write_facts(
    connection: Connection,
    rows: list[SeriesRow],
    known: Mapping[str, KnownSeries],
    there: Mapping[bytes, tuple[int, bytes, int]],
) -> None:
    """Give each series the facts of the row with its smallest SOP key, when that file was kept."""
    best: dict[str, tuple[str, SeriesRow]] = {}
    for row in rows:
        place = known[row.series_key].id
        kept = [
            instance.sop_key
            for instance in row.instances
            if there.get(bytes.fromhex(instance.sop_key), ())[:2]
            == (place, bytes.fromhex(instance.digest))
        ]
        if row.instances and not kept:
            continue
        first = min(kept, default=_NO_SOP)
        held = (
            best[row.series_key][0]
            if row.series_key in best
            else (known[row.series_key].facts_from)
        )
        # The same file read again may say more than it did to an earlier release.
        if first <= held:
            best[row.series_key] = (first, row)
    if not best:
        return
    columns = ("accession_key", "kind", "source", "facts_from", *FACT_TYPES)
    connection.execute(
        update(series)
        .where(series.c.id == bindparam("b_id"))
        .values({name: bindparam(f"b_{name}") for name in columns}),
        [
            {
                "b_id": known[key].id,
                "b_accession_key": row.accession_key,
                "b_kind": row.kind,
                "b_source": row.source,
                "b_facts_from": first,
                **{f"b_{name}": _typed(name, row.facts.get(name)) for name in FACT_TYPES},
            }
            for key, (first, row) in best.items()
        ],
    )


def _typed(name: str, value: object) -> object:
    return None if value is None else FACT_TYPES[name](value)


def _offers(rows: list[SeriesRow], known: Mapping[str, KnownSeries]) -> list[_Offer]:
    """Return all instances with the smaller (digest, locator) of a series first."""
    offers = [
        _Offer(
            known[row.series_key].id,
            bytes.fromhex(instance.digest),
            instance.locator,
            bytes.fromhex(instance.sop_key),
            instance.position,
        )
        for row in rows
        for instance in row.instances
    ]
    offers.sort(key=itemgetter(0, 1, 2))
    return offers


def _offered(
    offers: list[_Offer], old: Mapping[bytes, tuple[int, bytes, int]], refused: set[int]
) -> dict[bytes, _Offer]:
    """Return what to write, by SOP key; files that lose against another one are refused.

    The smaller (digest, locator) wins, so that any order of batches ends in the same rows.
    """
    offered: dict[bytes, _Offer] = {}
    for offer in offers:
        winner = offered.setdefault(offer.sop_key, offer)
        if winner is not offer and winner[:2] != offer[:2]:
            refused.add(offer.locator)
    for sop_key in offered.keys() & old.keys():
        offer, (stored_id, digest, locator) = offered[sop_key], old[sop_key]
        if stored_id != offer.series_id or locator == offer.locator:
            continue
        stored_wins = (digest, locator) < (offer.digest, offer.locator)
        if digest != offer.digest:
            refused.add(offer.locator if stored_wins else locator)
        if stored_wins:
            del offered[sop_key]
    return offered


def _write_instances(connection: Connection, offered: Mapping[bytes, _Offer]) -> None:
    statement = insert(connection, instances)
    excluded = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=["sop_key"],
        set_={name: excluded[name] for name in ("position", "digest", "locator")},
        where=instances.c.series_id == excluded.series_id,
    )
    execute_rows(connection, statement, _Offer._fields, list(offered.values()))
