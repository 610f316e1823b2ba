"""What an id of the catalog stands for, and who refers to it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine, func, select

from tasks.archive.tables import (
    assignments,
    editions,
    feature_rows,
    instances,
    label_set_log,
    label_sets,
    part_cases,
    parts,
    quarantine,
    recipe_generations,
    recipes,
    series,
    superseded_cases,
    table_rows,
    work,
)
from tasks.hashing import ID_LENGTH

SHORTEST_START = 6
"""Characters of an id that are asked for at least; messages show twelve."""

MAX_REFERENCES = 200
"""References listed of one kind; ``n`` counts them all."""


@dataclass(frozen=True)
class References:
    """Things of one kind that refer to an id, or that it consists of."""

    relation: str
    """In words, e.g. ``parts that hold it``."""
    n: int
    ids: tuple[str, ...]
    """The first `MAX_REFERENCES`, in order."""


@dataclass(frozen=True)
class Trace:
    """What an id stands for."""

    id: str
    kind: str
    """``case``, ``former case``, ``row``, ``series``, ``study``, ``patient``, ``instance``, …"""
    facts: dict[str, object] = field(default_factory=dict)
    references: tuple[References, ...] = ()


def trace(catalog: Engine, id: str) -> list[Trace]:  # noqa: A002 (the field's word)
    """Return what a key or id stands for; empty when the catalog does not know it.

    Parameters
    ----------
    catalog : Engine
        The catalog.
    id : str
        Key of a patient, study, accession, series or instance, or id of a case, part, recipe,
        label set, split or row of quarantine; the first `SHORTEST_START` characters or more do.

    Raises
    ------
    ValueError
        When a start fits several ids.
    """
    with catalog.connect() as connection:
        whole = id if len(id) == ID_LENGTH else _whole_id(connection, id)
        answers = (look(connection, whole) for look in _LOOKS)
        return [answer for answer in answers if answer is not None]


def _whole_id(connection: Connection, start: str) -> str:
    """Return the one id that starts so, or the start itself when none does."""
    if len(start) < SHORTEST_START:
        return start
    found: set[str] = set()
    for column in _ID_COLUMNS:
        # A range, so that the column's index is used; "g" follows every hexadecimal digit.
        inside = select(column).where(column >= start, column < start + "g").distinct().limit(2)
        found.update(value for value in connection.scalars(inside) if value is not None)
    if len(found) > 1:
        raise ValueError(f"{start!r} is the start of {len(found)} or more ids: give more of it")
    return found.pop() if found else start


def _references(connection: Connection, relation: str, column, condition) -> References:
    some = select(column).where(condition).distinct().order_by(column).limit(MAX_REFERENCES)
    n = connection.scalar(select(func.count(column.distinct())).where(condition))
    return References(relation, n, tuple(str(value) for value in connection.scalars(some)))


def _found(references: list[References]) -> tuple[References, ...]:
    return tuple(r for r in references if r.n)


def _uses_of_case(connection: Connection, case_id: str, patient_key: str) -> list[References]:
    return [
        _references(
            connection, "parts that hold it", part_cases.c.part_id, part_cases.c.case_id == case_id
        ),
        _references(
            connection, "recipes it was wanted for", work.c.recipe_id, work.c.case_id == case_id
        ),
        _references(
            connection,
            "recipes that measured it",
            feature_rows.c.recipe_id,
            feature_rows.c.case_id == case_id,
        ),
        _references(
            connection,
            "reasons for its quarantine",
            quarantine.c.reason,
            quarantine.c.case_id == case_id,
        ),
        _references(
            connection,
            "splits of its patient",
            assignments.c.split_id,
            assignments.c.patient_key == patient_key,
        ),
    ]


def _case(connection: Connection, id: str) -> Trace | None:  # noqa: A002
    row = connection.execute(select(series).where(series.c.case_id == id)).first()
    if row is None:
        return None
    names = ("patient_key", "study_key", "series_key", "kind", "source", "n_instances", "modality")
    facts = {name: row._mapping[name] for name in names}
    return Trace(id, "case", facts, _found(_uses_of_case(connection, id, row.patient_key)))


def _former_case(connection: Connection, id: str) -> Trace | None:  # noqa: A002
    row = connection.execute(select(superseded_cases).filter_by(case_id=id)).first()
    if row is None:
        return None
    newer = _references(
        connection, "its case now", series.c.case_id, series.c.series_key == row.series_key
    )
    facts = {"patient_key": row.patient_key, "series_key": row.series_key}
    uses = _uses_of_case(connection, id, row.patient_key)
    return Trace(id, "former case", facts, _found([newer, *uses]))


def _row(connection: Connection, id: str) -> Trace | None:  # noqa: A002
    row = connection.execute(select(table_rows).filter_by(case_id=id)).first()
    if row is None:
        return None
    facts = {"patient_key": row.patient_key, "source": row.source, "table": row.table_name}
    return Trace(id, "row", facts, _found(_uses_of_case(connection, id, row.patient_key)))


def _series_by(kind: str, column: str) -> Callable[[Connection, str], Trace | None]:
    def look(connection: Connection, id: str) -> Trace | None:  # noqa: A002
        condition = series.c[column] == id
        references = [
            _references(connection, relation, series.c[other], condition)
            for relation, other in (
                ("patients", "patient_key"),
                ("studies", "study_key"),
                ("series", "series_key"),
                ("cases", "case_id"),
            )
            if other != column
        ]
        if column == "patient_key":
            rows = table_rows.c.patient_key == id
            references.append(_references(connection, "rows", table_rows.c.case_id, rows))
            former = superseded_cases.c.patient_key == id
            references.append(
                _references(connection, "former cases", superseded_cases.c.case_id, former)
            )
            sides = assignments.c.patient_key == id
            references.append(_references(connection, "splits", assignments.c.split_id, sides))
        found = _found(references)
        return Trace(id, kind, {}, found) if found else None

    return look


def _instance(connection: Connection, id: str) -> Trace | None:  # noqa: A002
    if len(id) != 32 or set(id) - set("0123456789abcdef"):
        return None
    query = (
        select(series.c.case_id, series.c.series_key, instances.c.position)
        .join_from(instances, series)
        .where(instances.c.sop_key == id)
    )
    row = connection.execute(query).first()
    return None if row is None else Trace(id, "instance", dict(row._mapping))


def _part(connection: Connection, id: str) -> Trace | None:  # noqa: A002
    row = connection.execute(select(parts).filter_by(part_id=id)).first()
    if row is None:
        return None
    names = ("kind", "recipe_id", "label_set_id", "image_part_id", "path", "bytes", "digest", "at")
    references = [
        _references(connection, "cases", part_cases.c.case_id, part_cases.c.part_id == id),
        _references(
            connection, "label parts on its grid", parts.c.part_id, parts.c.image_part_id == id
        ),
    ]
    return Trace(id, "part", {n: row._mapping[n] for n in names}, _found(references))


def _recipe(connection: Connection, id: str) -> Trace | None:  # noqa: A002
    row = connection.execute(select(recipes).filter_by(recipe_id=id)).first()
    if row is None:
        return None
    states = select(work.c.state, func.count()).filter_by(recipe_id=id).group_by(work.c.state)
    known = row.fitted_on.startswith("{")
    learnt = f"{len(json.loads(row.fitted_on))} cases" if known else row.fitted_on
    facts = {"fitted_on": learnt, "at": row.at}
    facts |= {f"cases {state}": n for state, n in connection.execute(states)}
    scenarios = recipe_generations.c.recipe_id == id
    references = [
        _references(connection, "scenarios", recipe_generations.c.scenario, scenarios),
        _references(connection, "parts", parts.c.part_id, parts.c.recipe_id == id),
    ]
    return Trace(id, "recipe", facts, _found(references))


def _label_set(connection: Connection, id: str) -> Trace | None:  # noqa: A002
    row = connection.execute(select(label_sets).filter_by(label_set_id=id)).first()
    if row is None:
        return None
    log = select(label_set_log).filter_by(label_set=row.id).order_by(label_set_log.c.id.desc())
    last = connection.execute(log).first()
    facts = {n: row._mapping[n] for n in ("name", "source", "n_rows", "digest")}
    facts |= {"author": last.author, "at": last.at, "supersedes": last.supersedes}
    references = [
        _references(connection, "label parts", parts.c.part_id, parts.c.label_set_id == id),
        _references(
            connection,
            "label sets that replaced it",
            label_sets.c.label_set_id,
            label_sets.c.id.in_(select(label_set_log.c.label_set).filter_by(supersedes=id)),
        ),
    ]
    return Trace(id, "label set", facts, _found(references))


def _split(connection: Connection, id: str) -> Trace | None:  # noqa: A002
    query = select(assignments.c.side, func.count(assignments.c.patient_key.distinct()))
    rows = connection.execute(query.filter_by(split_id=id).group_by(assignments.c.side))
    sides = dict(rows.all())
    opened = _references(connection, "editions", editions.c.edition, editions.c.split_id == id)
    if not sides and not opened.n:
        return None
    facts = {f"patients ever in {side}": n for side, n in sorted(sides.items())}
    return Trace(id, "split", facts, _found([opened]))


def _quarantined(connection: Connection, id: str) -> Trace | None:  # noqa: A002
    row = connection.execute(select(quarantine).filter_by(quarantine_id=id)).first()
    if row is None:
        return None
    names = ("stage", "reason", "detail", "source", "case_id", "recipe_id", "at")
    facts = {name: row._mapping[name] for name in names if row._mapping[name] is not None}
    return Trace(id, "quarantine", facts)


_LOOKS = (
    _case,
    _former_case,
    _row,
    _series_by("series", "series_key"),
    _series_by("study", "study_key"),
    _series_by("accession", "accession_key"),
    _series_by("patient", "patient_key"),
    _instance,
    _part,
    _recipe,
    _label_set,
    _split,
    _quarantined,
)

_ID_COLUMNS = (
    series.c.case_id,
    series.c.series_key,
    series.c.study_key,
    series.c.accession_key,
    series.c.patient_key,
    table_rows.c.case_id,
    table_rows.c.patient_key,
    parts.c.part_id,
    recipes.c.recipe_id,
    label_sets.c.label_set_id,
    editions.c.split_id,
    quarantine.c.quarantine_id,
)
"""Columns with ids as text; instances are kept as bytes and are asked for whole."""
