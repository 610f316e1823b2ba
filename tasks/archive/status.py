"""What the catalog holds, counted."""

from sqlalchemy import Connection, Engine, Table, func, select

from tasks.archive.tables import (
    label_sets,
    parts,
    quarantine,
    series,
    table_rows,
    work,
)


def status(catalog: Engine) -> dict:
    """Return how many there are of everything; answers in milliseconds.

    Returns
    -------
    dict
        ``patients studies series instances rows cases parts part_bytes pending label_sets`` as
        numbers, ``modalities`` and ``quarantine`` as name -> number.
    """
    with catalog.connect() as connection:
        patients = select(series.c.patient_key).union(select(table_rows.c.patient_key)).subquery()
        n_series, n_studies, n_instances = connection.execute(
            select(
                func.count(),
                func.count(series.c.study_key.distinct()),
                # The sum stands in the series: counting a million instances takes too long.
                func.coalesce(func.sum(series.c.n_instances), 0),
            ).where(series.c.n_instances > 0)
        ).one()
        n_rows = _count(connection, table_rows)
        n_parts, n_bytes = connection.execute(
            select(func.count(), func.coalesce(func.sum(parts.c.bytes), 0))
        ).one()
        pending = select(func.count()).where(work.c.state == "pending")
        return {
            "patients": connection.scalar(select(func.count()).select_from(patients)),
            "studies": n_studies,
            "series": n_series,
            "instances": int(n_instances),
            "rows": n_rows,
            "cases": n_series + n_rows,
            "parts": n_parts,
            "part_bytes": int(n_bytes),
            "pending": connection.scalar(pending),
            "label_sets": _count(connection, label_sets),
            "modalities": _grouped(connection, series.c.modality),
            "quarantine": _grouped(connection, quarantine.c.reason),
        }


def _count(connection: Connection, table: Table) -> int:
    return connection.scalar(select(func.count()).select_from(table))


def _grouped(connection: Connection, column) -> dict[str, int]:
    query = select(column, func.count()).group_by(column).order_by(column)
    return {name or "not stated": n for name, n in connection.execute(query)}
