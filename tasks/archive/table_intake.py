"""Tables into the catalog: the table is the truth, so rows that left it leave the catalog."""

from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import delete, select

from tasks.archive.catalog import upsert_table_rows
from tasks.archive.database import LOOKUP_ROWS, chunks, writing
from tasks.archive.intake_run import STAGE, Intake
from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.quarantine import clear_quarantine, insert_quarantine, quarantine_values
from tasks.archive.report import IntakeReport
from tasks.archive.rows import (
    MAPPING_SUFFIX,
    MappedTable,
    TableMapping,
    guess_mapping,
    map_rows,
    parse_mapping,
    table_name,
)
from tasks.archive.sources import Source, digest_of
from tasks.archive.tablefile import read_table
from tasks.archive.tables import table_rows
from tasks.archive.vault import remember
from tasks.archive.vault_files import FileSeen, put_files
from tasks.hashing import digest_json

LISTED_LINES = 20
"""Line numbers shown of rows that were refused for one reason."""


def ingest_table(run: Intake, mapping: TableMapping | None) -> IntakeReport:
    """Take the rows of a table source in; unchanged file and mapping are not read again.

    Raises
    ------
    ValueError
        The file is no table, or the mapping does not fit it.
    """
    place = Path(run.source.location)
    state, data = place.stat(), place.read_bytes()
    mapping = mapping or _sidecar(place)
    # Part of the digest, because another mapping makes other rows of the same bytes.
    digest = digest_of(data + digest_json([repr(mapping)]).encode())
    known = run.known.get("", "")
    if known and known.digest == digest and known.outcome == "instance":
        return IntakeReport(seen=1, unchanged=1, quarantined={})
    mapped = _mapped(run.source, data, mapping, run.names)
    name = mapped.name
    new = upsert_table_rows(run.catalog, name, run.source.alias, mapped.rows)
    removed = _remove_gone(run, mapped)
    remember(run.vault, mapped.identities)
    seen = FileSeen("", "", state.st_size, state.st_mtime_ns, digest, "instance")
    (locator,) = put_files(run.vault, run.source.alias, [seen])
    _quarantine_rows(run, mapped, locator)
    return IntakeReport(
        seen=1,
        instances=1,
        quarantined={},
        rows=new,
        rows_refused=len(mapped.problems),
        rows_removed=removed,
        columns_left_out=mapped.dropped,
    )


def row_lines(source: Source, names: Pseudonymiser) -> Mapping[str, int]:
    """Return the line of each row of a table source, by case id."""
    place = Path(source.location)
    return _mapped(source, place.read_bytes(), _sidecar(place), names).lines


def _mapped(
    source: Source, data: bytes, mapping: TableMapping | None, names: Pseudonymiser
) -> MappedTable:
    place = Path(source.location)
    table = read_table(data, place.name)
    chosen = mapping or guess_mapping(table.columns)
    return map_rows(
        table, chosen, names, source.alias, table_name(place.name, source.alias, chosen)
    )


def _sidecar(place: Path) -> TableMapping | None:
    beside = place.with_name(place.name.split(".")[0] + MAPPING_SUFFIX)
    return parse_mapping(beside.read_text("utf-8")) if beside.is_file() else None


def _remove_gone(run: Intake, mapped: MappedTable) -> int:
    held = {row.case_id for row in mapped.rows}
    of_this = (table_rows.c.source == run.source.alias, table_rows.c.table_name == mapped.name)
    with writing(run.catalog) as connection:
        gone = set(connection.scalars(select(table_rows.c.case_id).where(*of_this))) - held
        for chunk in chunks(sorted(gone), LOOKUP_ROWS):
            connection.execute(delete(table_rows).where(table_rows.c.case_id.in_(chunk)))
    return len(gone)


def _quarantine_rows(run: Intake, mapped: MappedTable, locator: int) -> None:
    lines: dict[str, list[int]] = {}
    for line, reason in mapped.problems:
        lines.setdefault(reason, []).append(line)
    rows = []
    if lines:
        shown = "; ".join(f"{reason}: {listed(numbers)}" for reason, numbers in lines.items())
        rows.append(
            quarantine_values(
                stage=STAGE,
                reason="unusable_rows",
                detail=shown,
                source=run.source.alias,
                locator=locator,
            )
        )
    clear_quarantine(run.catalog, stage=STAGE, locators=[locator])
    with writing(run.catalog) as connection:
        insert_quarantine(connection, rows)


def listed(lines: list[int]) -> str:
    """Return line numbers as text, the first of them and how many more."""
    shown = ", ".join(str(line) for line in lines[:LISTED_LINES])
    more = len(lines) - LISTED_LINES
    return f"lines {shown}" + (f" and {more} more" if more > 0 else "")
