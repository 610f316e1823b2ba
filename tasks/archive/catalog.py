"""The catalog: a database of pseudonyms and kept header fields; it holds no identity.

What is asked of it and written to it stands in the modules named below, and is imported from here.
"""

from sqlalchemy import Engine

from tasks.archive.cases import (
    IMAGE_KINDS,
    KINDS,
    Case,
    cases,
    cases_of_sops,
    files_of,
    locators_of,
    series_facts,
)
from tasks.archive.database import DatabaseKind, open_database
from tasks.archive.labelsets import (
    LabelRow,
    LabelSet,
    label_rows,
    label_sets,
    latest_label_set,
    put_label_set,
)
from tasks.archive.quarantine import (
    QuarantineReason,
    QuarantineRow,
    add_quarantine,
    clear_quarantine,
    quarantine,
    quarantine_reasons,
)
from tasks.archive.status import status
from tasks.archive.tablerows import TableRow, upsert_table_rows
from tasks.archive.trace import Trace, trace
from tasks.archive.upsert import (
    InstanceRow,
    SeriesRow,
    UpsertCounts,
    upsert_series,
)
from tasks.archive.versions import drop_instances

__all__ = [
    "CATALOG",
    "IMAGE_KINDS",
    "KINDS",
    "Case",
    "InstanceRow",
    "LabelRow",
    "LabelSet",
    "QuarantineReason",
    "QuarantineRow",
    "SeriesRow",
    "TableRow",
    "Trace",
    "UpsertCounts",
    "add_quarantine",
    "cases",
    "cases_of_sops",
    "clear_quarantine",
    "drop_instances",
    "files_of",
    "label_rows",
    "label_sets",
    "latest_label_set",
    "locators_of",
    "open_catalog",
    "put_label_set",
    "quarantine",
    "quarantine_reasons",
    "series_facts",
    "status",
    "trace",
    "upsert_series",
    "upsert_table_rows",
]

CATALOG = DatabaseKind(
    name="catalog", head="0002", setting="RADLOOP_CATALOG_URL", synchronous="NORMAL", private=False
)


def open_catalog(url: str) -> Engine:
    """Open the catalog, making or migrating it.

    Parameters
    ----------
    url : str
        ``sqlite:///path`` (write-ahead log, one host) or ``postgresql://…``.

    Raises
    ------
    RadloopError, ValueError
        As `tasks.archive.database.open_database`.
    """
    return open_database(url, CATALOG)
