"""Which files are in quarantine, as a table for whoever runs the archive and nobody else.

A reason without a file helps nobody find it, and places of files name patients: the list is
written only when asked for, with mode 0600.
"""

import csv
import os
from pathlib import Path

from sqlalchemy import Engine

from tasks.archive.catalog import locators_of
from tasks.archive.quarantine import quarantine
from tasks.archive.reasons import remedy
from tasks.archive.vault_files import file_refs

COLUMNS = ("id", "stage", "reason", "detail", "to_do", "source", "file")
"""Of the list; inside an archive a file is ``archive!member``."""

LIST_MODE = 0o600
"""Of the list: its owner's."""


def write_quarantine_list(path: str | Path, catalog: Engine, vault: Engine) -> int:
    """Write one row a quarantined file, or first file of a quarantined case, as CSV.

    Returns
    -------
    int
        Rows written.

    Raises
    ------
    OSError
        The place cannot be written.
    """
    rows = quarantine(catalog)
    places = {row.quarantine_id: _locator(catalog, row.locator, row.case_id) for row in rows}
    refs = file_refs(vault, sorted({place for place in places.values() if place is not None}))
    # Removed before, since the mode is that of a file that is made.
    Path(path).unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, LIST_MODE)
    with open(handle, "w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
        table = csv.writer(stream)
        table.writerow(COLUMNS)
        for row in rows:
            ref = refs.get(places[row.quarantine_id])
            place = "" if ref is None else "!".join(filter(None, (ref.path, ref.member)))
            to_do = remedy(row.reason) or ""
            said = (row.quarantine_id[:12], row.stage, row.reason, row.detail, to_do)
            table.writerow((*said, row.source or "", place))
    return len(rows)


def _locator(catalog: Engine, locator: int | None, case_id: str | None) -> int | None:
    """Return the file of a row; of a case its first, None when the case is no more."""
    if locator is not None or case_id is None:
        return locator
    try:
        return locators_of(catalog, case_id)[0]
    except KeyError:
        return None
