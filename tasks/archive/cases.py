"""Cases of the catalog: which there are by predicates on kept fields, and their files."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

from sqlalchemy import ColumnElement, Engine, Row, and_, func, or_, select

from tasks.archive.database import LOOKUP_ROWS, chunks
from tasks.archive.kept import FACT_TYPES
from tasks.archive.tablerows import parse_facts
from tasks.archive.tables import instances, series, table_rows

IMAGE_KINDS = ("dicom", "nifti", "nrrd", "mha", "picture")
"""What an image case may be: a DICOM series, or a volume or picture of another format."""

KINDS = (*IMAGE_KINDS, "row")
"""What a case may be: an image, or a row of a table."""


@dataclass(frozen=True)
class Case:
    """One thing a model may learn from or judge."""

    case_id: str
    patient_key: str
    study_key: str | None
    series_key: str | None
    accession_key: str | None
    kind: str
    source: str
    n_instances: int
    facts: Mapping[str, object]
    series: tuple[tuple[str, "Case"], ...] = ()
    """(channel, series) of a case of several series, the reference first; else empty."""

    @property
    def lead(self) -> "Case":
        """The series on whose grid the case lies."""
        return self.series[0][1] if self.series else self

    @property
    def members(self) -> tuple["Case", ...]:
        """The series the case is made of."""
        return tuple(one for _, one in self.series) or (self,)


def cases(
    catalog: Engine,
    *,
    kind: str,
    source: str | None = None,
    where: Mapping[str, object] | None = None,
    table: str | None = None,
    case_ids: Iterable[str] | None = None,
) -> list[Case]:
    """Return the cases that meet every condition, ordered by case id.

    Parameters
    ----------
    catalog : Engine
        The catalog.
    kind : str
        ``dicom``, ``nifti`` or ``row``.
    source : str, optional
        Alias of the source.
    where : mapping, optional
        Kept header field (or column of a table) -> a value, a list of values, ``None`` (not
        stated) or ``{"min": a, "max": b}``, both included.
    table : str, optional
        Name of the table, for rows.
    case_ids : iterable of str, optional
        Only these.

    Raises
    ------
    ValueError
        Another kind, a field that is not kept, or a value of the wrong type.
    """
    if kind not in KINDS:
        raise ValueError(f"A case cannot be of kind {kind!r}: give one of {', '.join(KINDS)}.")
    wanted = None if case_ids is None else sorted(set(case_ids))
    if kind == "row":
        return _row_cases(catalog, source, where or {}, table, wanted)
    conditions = [series.c.kind == kind, series.c.n_instances > 0]
    if source is not None:
        conditions.append(series.c.source == source)
    conditions += [_condition(name, value) for name, value in (where or {}).items()]
    rows = _select_by_case(catalog, series, conditions, wanted)
    # By place and not by name: 100,000 series of 30 fields are three million look-ups.
    places = [series.c.keys().index(name) for name in FACT_TYPES]
    facts_of = itemgetter(*places)
    return [
        Case(
            case_id=row.case_id,
            patient_key=row.patient_key,
            study_key=row.study_key,
            series_key=row.series_key,
            accession_key=row.accession_key,
            kind=row.kind,
            source=row.source,
            n_instances=row.n_instances,
            facts=dict(zip(FACT_TYPES, facts_of(row), strict=True)),
        )
        for row in rows
    ]


def _select_by_case(
    catalog: Engine,
    table,
    conditions: Sequence[ColumnElement],
    wanted: list[str] | None,
) -> list[Row]:
    query = select(table).where(*conditions).order_by(table.c.case_id)
    with catalog.connect() as connection:
        if wanted is None:
            return list(connection.execute(query).all())
        found: list[Row] = []
        for chunk in chunks(wanted, LOOKUP_ROWS):
            found += connection.execute(query.where(table.c.case_id.in_(chunk))).all()
        return found


def _row_cases(
    catalog: Engine,
    source: str | None,
    where: Mapping[str, object],
    table: str | None,
    wanted: list[str] | None,
) -> list[Case]:
    conditions = []
    if source is not None:
        conditions.append(table_rows.c.source == source)
    if table is not None:
        conditions.append(table_rows.c.table_name == table)
    rows = _select_by_case(catalog, table_rows, conditions, wanted)
    found = (
        Case(
            case_id=row.case_id,
            patient_key=row.patient_key,
            study_key=None,
            series_key=None,
            accession_key=None,
            kind="row",
            source=row.source,
            n_instances=1,
            facts=parse_facts(row.facts),
        )
        for row in rows
    )
    return [case for case in found if all(_meets(case.facts.get(k), v) for k, v in where.items())]


def _meets(value: object, wanted: object) -> bool:
    """Whether a table's value meets a condition; as `_condition`, in Python."""
    if isinstance(wanted, Mapping):
        low, high = _bounds(wanted)
        if not isinstance(value, int | float):
            return False
        return (low is None or value >= low) and (high is None or value <= high)
    if isinstance(wanted, list | tuple | set | frozenset):
        return value in wanted
    return value == wanted


def _condition(name: str, wanted: object) -> ColumnElement[bool]:
    if name not in FACT_TYPES:
        near = difflib.get_close_matches(name, FACT_TYPES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"kept are {', '.join(FACT_TYPES)}."
        raise ValueError(f"{name!r} is not a kept header field: {hint}")
    column = series.c[name]
    if isinstance(wanted, Mapping):
        low, high = _bounds(wanted)
        pieces = []
        if low is not None:
            pieces.append(column >= _value(name, low))
        if high is not None:
            pieces.append(column <= _value(name, high))
        return and_(*pieces)
    if isinstance(wanted, list | tuple | set | frozenset):
        stated = [_value(name, value) for value in wanted if value is not None]
        listed = column.in_(stated)
        return or_(listed, column.is_(None)) if None in wanted else listed
    return column.is_(None) if wanted is None else column == _value(name, wanted)


def _bounds(wanted: Mapping) -> tuple[object, object]:
    if not wanted or set(wanted) - {"min", "max"}:
        raise ValueError(f"A range is {{min: …, max: …}} with one of them at least, not {wanted}.")
    return wanted.get("min"), wanted.get("max")


def _value(name: str, value: object) -> object:
    kind = FACT_TYPES[name]
    # True would pass as the number 1, and a number as a text would never match.
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        fits = True
    if not fits:
        raise ValueError(
            f"{name} is compared with {value!r}, but the field holds {kind.__name__} values."
        )
    return value


def series_facts(catalog: Engine, series_key: str) -> dict[str, object]:
    """Return the kept header fields of a series.

    Raises
    ------
    KeyError
        There is no such series.
    """
    query = select(*(series.c[name] for name in FACT_TYPES)).filter_by(series_key=series_key)
    with catalog.connect() as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        raise KeyError(f"there is no series {series_key}")
    return dict(zip(FACT_TYPES, row, strict=True))


def cases_of_sops(catalog: Engine, sop_keys: Iterable[str]) -> dict[str, str]:
    """Return the case each SOP instance belongs to; unknown ones are left out."""
    query = select(instances.c.sop_key, series.c.case_id).join_from(instances, series)
    found: dict[str, str] = {}
    with catalog.connect() as connection:
        for chunk in chunks(sorted(set(sop_keys)), LOOKUP_ROWS):
            rows = connection.execute(query.where(instances.c.sop_key.in_(chunk))).all()
            found.update((sop_key, case_id) for sop_key, case_id in rows)
    return found


def locators_of(catalog: Engine, case_id: str) -> list[int]:
    """Return the files of an image case, ordered by position (unknown ones first), then locator.

    Raises
    ------
    KeyError
        There is no such case, or it has no files.
    """
    return files_of(catalog, [case_id])[case_id]


def files_of(catalog: Engine, case_ids: Iterable[str]) -> dict[str, list[int]]:
    """Return the files of image cases by case, each in the order of `locators_of`.

    Raises
    ------
    KeyError
        There is no such case, or it has no files.
    """
    wanted = sorted(set(case_ids))
    query = select(series.c.case_id, instances.c.locator).join_from(instances, series)
    in_order = func.coalesce(instances.c.position, float("-1e300")), instances.c.locator
    found: dict[str, list[int]] = {}
    with catalog.connect() as connection:
        for chunk in chunks(wanted, LOOKUP_ROWS):
            rows = connection.execute(query.where(series.c.case_id.in_(chunk)).order_by(*in_order))
            for case_id, locator in rows:
                found.setdefault(case_id, []).append(locator)
    if missing := set(wanted) - found.keys():
        raise KeyError(f"there is no case {min(missing)} with files")
    return found
