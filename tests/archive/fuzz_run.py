"""One run of the fuzzer in a process of its own: damaged files through header, catalog and decoder.

    python -m tests.archive.fuzz_run FIRST COUNT FOLDER [--real DATA]

takes the files FIRST to FIRST + COUNT - 1 the whole way to staged cases below FOLDER and prints
what became of them as JSON.  `problems` is empty when all is well.  A number always means the same
file, so a run can be taken up anywhere.
"""

import argparse
import json
import logging
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, inspect, text

from flows.orders import orders_of
from tasks.archive.catalog import cases, open_catalog, quarantine
from tasks.archive.headers import read_header
from tasks.archive.intake import ingest
from tasks.archive.orders import OrderCase
from tasks.archive.pseudonyms import Pseudonymiser
from tasks.archive.reasons import FAILED, remedy
from tasks.archive.sources import resolve_source
from tasks.archive.vault import open_vault, project_key
from tasks.errors import BadCase
from tasks.imaging.recipe import FittedRecipe
from tasks.store.fill import prepare_case
from tasks.store.write import Prepared, write_part
from tests.archive.pixel_mutations import damaged
from tests.archive.whole_images import TOKEN, Whole, plant_names

HANG_SECONDS = 10
"""No file may take longer, on a machine that does other things as well."""

MAX_RESIDENT_BYTES = 2 << 30
"""A run that needs more was made to take memory by a header that lies."""

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
RECIPE = FittedRecipe(())

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate"}
"""Audit events (PEP 578) that change a file system, beside the opening of files."""


class HangError(BaseException):
    """No Exception: nothing that reads files may catch it."""


@dataclass
class Outcome:
    """What became of the files of a run."""

    files: int = 0
    cases: int = 0
    stored: int = 0
    headers: dict[str, int] = field(default_factory=dict)
    """Reason -> files refused by their header."""
    voxels: dict[str, int] = field(default_factory=dict)
    """Reason -> cases refused on the way to voxels."""
    slowest: float = 0.0
    resident: int = 0
    problems: list[str] = field(default_factory=list)


class Watch:
    """Notes which file is looked at, so that also a death can be laid to one."""

    def __init__(self, folder: Path) -> None:
        self._note, self.outcome, self.number = folder / "at", Outcome(), -1

    @contextmanager
    def file(self, number: int) -> Iterator[None]:
        self.number = number
        self._note.write_text(str(number))

        def ended(*_: object) -> None:
            raise HangError

        signal.signal(signal.SIGALRM, ended)
        signal.alarm(HANG_SECONDS)
        began = time.monotonic()
        try:
            yield
        except HangError:
            self.problem(f"took more than {HANG_SECONDS} s")
            raise BadCase("decoder_hung", "ended by the test") from None
        except BadCase as problem:
            self.judge(problem.reason, problem.detail)
            raise
        except Exception as error:
            self.problem(f"raised {error!r}")
            raise
        finally:
            signal.alarm(0)
            self.outcome.slowest = max(self.outcome.slowest, time.monotonic() - began)

    def judge(self, reason: str, detail: str) -> None:
        if remedy(reason) is None or reason.startswith(FAILED):
            self.problem(f"has no remedy for {reason}")
        self.silent(f"{reason}: {detail}")

    def silent(self, said: object) -> None:
        at = str(said).find(TOKEN)
        if at >= 0:
            self.problem(f"is quoted: {str(said)[max(at - 90, 0) : at + 30]!r}")

    def problem(self, what: str) -> None:
        self.outcome.problems.append(f"file {self.number}: {what}")

    def guard_writes(self, folder: Path) -> None:
        """Report whatever this process writes outside the folder from now on."""
        inside = (str(folder), "/dev/null")

        def hook(event: str, arguments: tuple) -> None:
            if event == "socket.connect":
                self.problem("speaks to the network")
            for path in _changed(event, arguments):
                if not path.startswith(inside):
                    self.problem(f"{event} outside the home: {path}")

        sys.addaudithook(hook)


def _changed(event: str, arguments: tuple) -> list[str]:
    """Return the paths that an audit event is about to change."""
    if event == "open":
        path, _, flags = arguments
        writes = isinstance(flags, int) and flags & WRITING and not isinstance(path, int)
        return [os.path.abspath(os.fsdecode(path))] if writes else []
    if event not in CHANGES:
        return []
    paths = [value for value in arguments if isinstance(value, str | bytes | os.PathLike)]
    # Removing a tree names its files by the descriptor of their folder.
    holds = arguments[-1] if isinstance(arguments[-1], int) else -1
    base = f"/proc/self/fd/{holds}" if holds >= 0 and event != "os.truncate" else "."
    return [os.path.abspath(os.path.join(os.path.realpath(base), os.fsdecode(p))) for p in paths]


def run(first: int, count: int, folder: Path, among: tuple[Whole, ...] | None = None) -> Outcome:
    """Take damaged files the whole way and account for each."""
    watch = Watch(folder)
    outcome, archive = watch.outcome, folder / "archive"
    archive.mkdir()
    watch.guard_writes(folder)
    for number in range(first, first + count):
        data = damaged(number, among)
        (archive / f"{number:06d}").write_bytes(data)
        try:
            with watch.file(number):
                read_header(data)
        except Exception:
            continue
    catalog = open_catalog(f"sqlite:///{folder}/catalog.db")
    vault = open_vault(f"sqlite:///{folder}/vault.db")
    names = Pseudonymiser(project_key(vault))
    report = ingest(resolve_source(str(archive)), catalog, vault, names)
    outcome.files, outcome.headers = report.seen, dict(report.quarantined)
    taken = report.instances + report.duplicates + report.ignored
    if not report.seen == report.accounted == count == taken + sum(report.quarantined.values()):
        watch.problem(f"is not the matter: {count} given, {report} accounted")
    for row in quarantine(catalog):
        watch.judge(row.reason, row.detail)
    _stage(catalog, vault, folder, watch)
    watch.silent(_dump(catalog))
    outcome.resident = _most_resident()
    if outcome.resident > MAX_RESIDENT_BYTES:
        watch.problem(f"or another took {outcome.resident} bytes of memory")
    return outcome


def _most_resident() -> int:
    # Not ru_maxrss: a child starts with that of the parent that forked it, here a whole test run.
    told = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(told[1]) * 1024


@dataclass(frozen=True)
class _Desk:
    catalog: Engine
    vault: Engine


def _stage(catalog: Engine, vault: Engine, folder: Path, watch: Watch) -> None:
    """Make one part of all cases; every case is in it or has a reason."""
    found = cases(catalog, kind="dicom")
    orders = {order.case_id: order for order in orders_of(_Desk(catalog, vault), found)}
    record = write_part(
        str(folder / "store"),
        "part",
        "image",
        "recipe",
        tuple(orders),
        _producer(orders, watch),
        dtype="float32",
    )
    outcome = watch.outcome
    outcome.cases, outcome.stored = len(orders), len(record.case_ids)
    outcome.voxels = dict(Counter(reason for _, reason, _ in record.failures).most_common())
    if {*record.case_ids, *(case for case, _, _ in record.failures)} != orders.keys():
        watch.problem(f"is not the matter: {len(orders)} cases, {record} accounted")
    for _, reason, detail in record.failures:
        watch.judge(reason, detail)
    for path in (folder / "store").rglob("*"):
        if path.is_file():
            watch.silent(path.read_bytes().decode("latin-1"))


def _producer(orders: dict[str, OrderCase], watch: Watch) -> Callable[[str], Prepared]:
    def produce(case_id: str) -> Prepared:
        with watch.file(int(Path(orders[case_id].files[0].path).name)):
            prepared = prepare_case(orders[case_id], RECIPE)
            watch.silent((prepared.facts, prepared.certificate, prepared.traces))
            return prepared

    return produce


def _dump(catalog: Engine) -> str:
    rows: list[Any] = []
    with catalog.connect() as connection:
        for table in inspect(connection).get_table_names():
            rows += connection.execute(text(f'SELECT * FROM "{table}"')).all()
    return repr([tuple(row) for row in rows])


def real_wholes(data: Path) -> tuple[Whole, ...]:
    """Real slices of nine transfer syntaxes, their names planted."""
    return tuple(
        Whole(path.name, plant_names(path.read_bytes())) for path in sorted(data.glob("*.dcm"))
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--real", type=Path, help="folder of DICOM files to damage instead")
    given = parser.parse_args()
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    among = real_wholes(given.real) if given.real else None
    print(json.dumps(asdict(run(given.first, given.count, given.folder.resolve(), among))))


if __name__ == "__main__":
    main()
