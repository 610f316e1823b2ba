"""Thousands of damaged files: each is taken in or quarantined with a known reason, none hangs."""

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.archive.catalog import quarantine
from tasks.archive.headers import read_header
from tasks.archive.intake import ingest
from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.reasons import remedy
from tasks.archive.sources import resolve_source
from tasks.archive.vault import open_vault, project_key
from tasks.errors import BadCase
from tests.archive.mutations import MUTATIONS, mutated, seeds

HANG_SECONDS = 10
"""No file may take longer, on a machine that does other things as well."""

FOLDER_FILES = 500
"""Files of one intake."""


@contextmanager
def no_hang() -> Iterator[None]:
    """End what takes longer than any file may."""

    def ended(*_):
        # No Exception: nothing that reads files may catch it.
        raise KeyboardInterrupt(f"one file took more than {HANG_SECONDS} s")

    former = signal.signal(signal.SIGALRM, ended)
    signal.alarm(HANG_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)


def _survives(first: int, count: int, catalog, prepared: Path, base: Path) -> None:
    """Take a folder of damaged files in, and account for each."""
    root = base / f"fuzz-{first}"
    root.mkdir()
    shutil.copy(prepared / "vault.db", base / f"fuzz-{first}.db")
    vault = open_vault(f"sqlite:///{base}/fuzz-{first}.db")
    outcomes = {"read": 0, "refused": 0}
    for number in range(first, first + count):
        data = mutated(number)
        with no_hang():
            try:
                read_header(data)
                outcomes["read"] += 1
            except BadCase as problem:
                outcomes["refused"] += 1
                if remedy(problem.reason) is None:
                    pytest.fail(f"file {number}: no remedy for {problem.reason}")
        (root / f"{number:06d}").write_bytes(data)
    before = _listing(base)
    report = ingest(resolve_source(str(root)), catalog, vault, Pseudonymiser(project_key(vault)))
    vault.dispose()
    assert _listing(base) == before
    assert report.seen == report.accounted == count
    refused = sum((report.quarantined or {}).values())
    assert report.instances + report.duplicates + report.ignored + refused == count
    # Both happen, or the damage is too small or too great to say anything.
    assert min(outcomes.values()) > count // 20
    shown = " ".join(row.detail for row in quarantine(catalog))
    for token in ("Planted", "ACC0", "CompressedSamples", "Müller", "1.2.826.0.1"):
        assert token not in shown


def _listing(base: Path) -> list[str]:
    names = (str(path.relative_to(base)) for path in base.rglob("*"))
    return sorted(name for name in names if ".db" not in name)


def test_the_same_number_makes_the_same_damage():
    assert mutated(11) == mutated(11)
    assert len({mutated(number) for number in range(100)}) == 100
    assert len(seeds()) >= 20
    assert {mutation.__name__ for mutation in MUTATIONS} >= {
        "flip_bits",
        "lie_about_length",
        "swap_vr",
        "cut",
    }


def test_five_hundred_damaged_files_are_accounted_for(sqlite_catalog, prepared_sqlite, tmp_path):
    _survives(0, FOLDER_FILES, sqlite_catalog, prepared_sqlite, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("first", range(FOLDER_FILES, 20_000, FOLDER_FILES))
def test_twenty_thousand_damaged_files_are_accounted_for(
    sqlite_catalog, prepared_sqlite, tmp_path, first
):
    _survives(first, FOLDER_FILES, sqlite_catalog, prepared_sqlite, tmp_path)
