"""Catalog and vault on SQLite: rows a second, bytes an instance, and the work not yet done.

    python benchmarks/bench_catalog.py [--instances 240000] [--pending-at 10000000]

Rows go in through the functions an intake calls, 120 instances a series, in batches of an intake's
size; beside them the instances alone go in by plain INSERTs, which is what SQLite itself costs.
Speeds are rows per second of core time, which other load on the machine disturbs less.  For the
last figure the catalog is filled up to ten million instances inside SQLite, whose 83,334 series
are one case each, all but 400 processed.  Exit code 1 when a bar is missed.
"""

import argparse
import hashlib
import os
import platform
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy import Engine, text

from tasks.archive.catalog import InstanceRow, SeriesRow, open_catalog, upsert_series
from tasks.archive.intake_run import BATCH_FILES
from tasks.archive.sources import Source
from tasks.archive.vault import open_vault, put_source
from tasks.archive.vault_files import FileSeen, finish_files, put_files
from tasks.archive.work import pending_cases, put_recipe, want_cases

SLICES = 120
UPSERT_BAR, PENDING_BAR_MS, BYTES_BAR = 40_000, 10.0, 400
LEFT = 400
"""Cases not yet processed: what a night brings."""

RECIPE = "e" * 32
FACTS = {
    "modality": "CT", "body_part": "CHEST", "sex": "F", "age_band": "60-64",
    "manufacturer": "Siemens", "model": "Sensation 64", "device": "d" * 32, "site": "c" * 32,
    "kernel": "B30f", "kvp": 120.0, "exposure": 92.0, "contrast": True, "slice_thickness": 1.0,
    "spacing_row": 0.68359375, "spacing_col": 0.68359375, "rows": 512, "cols": 512, "frames": 1,
    "burned_in": False, "transfer_syntax": "1.2.840.10008.1.2.1", "photometric": "MONOCHROME2",
    "date": "2014-05-01",
}  # fmt: skip


def key(kind: str, number: int) -> str:
    """Return a key as random as a pseudonym."""
    return hashlib.sha256(f"{kind}{number}".encode()).hexdigest()[:32]


def files_of(start: int, stop: int) -> list[FileSeen]:
    """Return files in dated folders, named as a PACS names them in its export."""
    return [
        FileSeen(
            path=f"2014/05/{i // SLICES:08d}/IM{i % SLICES:06d}.dcm",
            member="",
            size=527_000 + i % 900,
            mtime_ns=1_400_000_000_000_000_000 + i * 1_000_003,
            digest=bytes.fromhex(key("digest", i)),
            outcome="instance",
        )
        for i in range(start, stop)
    ]


def series_of(start: int, stop: int, locators: list[int]) -> list[SeriesRow]:
    """Return the series these instances belong to."""
    groups: dict[int, list[InstanceRow]] = {}
    for i in range(start, stop):
        row = InstanceRow(key("sop", i), i % SLICES * 1.25, key("digest", i), locators[i - start])
        groups.setdefault(i // SLICES, []).append(row)
    return [
        SeriesRow(
            series_key=key("series", number),
            study_key=key("study", number),
            patient_key=key("patient", number // 2),
            accession_key=key("accession", number),
            kind="dicom",
            source="pacs",
            facts=FACTS,
            instances=tuple(rows),
        )
        for number, rows in groups.items()
    ]


def fill(catalog: Engine, vault: Engine, count: int) -> dict[str, float]:
    """Put the rows in as an intake does; return seconds by step."""
    put_source(vault, Source("pacs", "folder", "/archive"))
    taken = {"files": 0.0, "instances": 0.0}
    for start in range(0, count, BATCH_FILES):
        stop = min(count, start + BATCH_FILES)
        seen = files_of(start, stop)
        begun = time.process_time()
        locators = put_files(vault, "pacs", seen)
        finish_files(
            vault, [(n, f.mtime_ns, f.outcome) for n, f in zip(locators, seen, strict=True)]
        )
        taken["files"] += time.process_time() - begun
        rows = series_of(start, stop, locators)
        begun = time.process_time()
        upsert_series(catalog, rows)
        taken["instances"] += time.process_time() - begun
    return taken


def one_by_one(folder: Path, count: int) -> float:
    """Return seconds of plain INSERTs of the instances' rows alone, in batches of the same size."""
    connection = sqlite3.connect(folder / "plain.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(
        "CREATE TABLE instances (id INTEGER PRIMARY KEY, series_id INTEGER, sop_key BLOB UNIQUE, "
        "position REAL, digest BLOB, locator INTEGER)"
    )
    connection.execute("CREATE INDEX of_series ON instances (series_id)")
    rows = [
        (i // SLICES, bytes.fromhex(key("sop", i)), 1.0, bytes.fromhex(key("digest", i)), i)
        for i in range(count)
    ]
    begun = time.process_time()
    for start in range(0, count, BATCH_FILES):
        connection.execute("BEGIN")
        for row in rows[start : start + BATCH_FILES]:
            connection.execute("INSERT INTO instances VALUES (NULL, ?, ?, ?, ?, ?)", row)
        connection.execute("COMMIT")
    taken = time.process_time() - begun
    connection.close()
    return taken


def bytes_on_disk(folder: Path, engines: list[Engine]) -> int:
    """Return the size of the databases with their logs written back."""
    for engine in engines:
        engine.dispose()
    for place in folder.glob("[cv]a*.db"):
        connection = sqlite3.connect(place)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
    return sum(place.stat().st_size for place in folder.glob("[cv]a*.db*"))


def fill_up(catalog: Engine, count: int, wanted: int) -> None:
    """Bring the catalog from `count` to `wanted` instances with rows made inside SQLite."""
    with catalog.begin() as connection:
        numbers = (
            "WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i < :last) "
        )
        span = {"first": count // SLICES + 1, "last": -(-wanted // SLICES)}
        connection.execute(
            text(
                "INSERT INTO series (series_key, study_key, patient_key, kind, source, "
                f"series_version, case_id, n_instances, facts_from) {numbers} SELECT "
                + ", ".join(["lower(hex(randomblob(16)))"] * 3)
                + ", 'dicom', 'pacs', lower(hex(randomblob(16))), lower(hex(randomblob(16))), "
                ":slices, randomblob(16) FROM n"
            ),
            {**span, "slices": SLICES},
        )
        connection.execute(
            text(
                f"INSERT INTO instances (series_id, sop_key, position, digest, locator) {numbers} "
                f"SELECT (i - 1) / {SLICES} + 1, randomblob(16), i % {SLICES} * 1.25, "
                "randomblob(16), i FROM n"
            ),
            {"first": count + 1, "last": wanted},
        )


def bench_pending(catalog: Engine) -> list[float]:
    """Ask for all cases, finish all but a few; return milliseconds of asking what is left."""
    put_recipe(catalog, RECIPE, "bench", {}, "f" * 32)
    with catalog.connect() as connection:
        case_ids = list(connection.execute(text("SELECT case_id FROM series")).scalars())
    want_cases(catalog, RECIPE, case_ids)
    left = set(random.Random(1).sample(case_ids, LEFT))
    with catalog.begin() as connection:
        connection.execute(
            text("UPDATE work SET state = 'done' WHERE case_id = :case"),
            [{"case": case} for case in case_ids if case not in left],
        )
    taken = []
    for _ in range(21):
        begun = time.perf_counter()
        found = pending_cases(catalog, RECIPE)
        taken.append(1000 * (time.perf_counter() - begun))
        if set(found) != left:
            raise SystemExit("The catalog lists other cases than those left: the run says nothing.")
    return taken


def verdict(met: bool) -> str:
    """Return how a bar was taken."""
    return "met" if met else "MISSED"


def main() -> int:
    """Print each figure with its bar; 1 when one is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=240_000)
    parser.add_argument("--pending-at", type=int, default=10_000_000)
    asked = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, SQLite {sqlite3.sqlite_version}")
    with tempfile.TemporaryDirectory() as name:
        folder, count = Path(name), asked.instances // SLICES * SLICES
        catalog = open_catalog(f"sqlite:///{folder}/catalog.db")
        vault = open_vault(f"sqlite:///{folder}/vault.db")
        taken = fill(catalog, vault, count)
        plain = one_by_one(folder, count)
        speed = count / taken["instances"]
        print(
            f"upsert   catalog  {speed:9.0f} instances/s  bar {UPSERT_BAR}: "
            f"{verdict(speed >= UPSERT_BAR)}; {plain / taken['instances']:.2f} times plain INSERTs"
        )
        print(f"record   vault    {count / taken['files']:9.0f} files/s, each recorded twice")
        each = bytes_on_disk(folder, [catalog, vault]) / count
        print(f"size     both     {each:9.0f} bytes an instance  bar {BYTES_BAR}: "
              f"{verdict(each <= BYTES_BAR)}")  # fmt: skip
        catalog = open_catalog(f"sqlite:///{folder}/catalog.db")
        fill_up(catalog, count, asked.pending_at)
        taken_ms = bench_pending(catalog)
        middle, cases = statistics.median(taken_ms), -(-asked.pending_at // SLICES)
        print(
            f"pending  catalog  {middle:9.2f} ms for {LEFT} of {cases} cases, "
            f"{asked.pending_at} instances  bar {PENDING_BAR_MS:.0f} ms: "
            f"{verdict(middle < PENDING_BAR_MS)}"
        )
        catalog.dispose()
    met = speed >= UPSERT_BAR, each <= BYTES_BAR, middle < PENDING_BAR_MS
    return int(not all(met))


if __name__ == "__main__":
    sys.exit(main())
