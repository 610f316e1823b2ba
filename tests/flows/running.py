"""Running the real command in processes of its own, and looking at what it leaves behind."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tasks.store.staging import MAGIC

LONGEST = 280
"""Seconds one command may take on a loaded machine before the test gives up on it."""


@dataclass(frozen=True)
class Ran:
    """One finished command."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str
    seconds: float

    @property
    def document(self) -> Any:
        """Standard output, which has to be one JSON document and nothing else."""
        return json.loads(self.out)

    def ok(self) -> "Ran":
        """Return itself, or fail with what the command said."""
        assert self.code == 0, f"{' '.join(self.words)} ended {self.code}\n{self.out}\n{self.err}"
        return self


def _short(folder: Path) -> Path:
    """Return another name of a folder: with 108 bytes for the name of a socket, ours are too long.

    In a folder whose name is too long workers are not forked, and kills would not meet them.
    """
    above = next(one for one in folder.parents if len(str(one)) < 56)
    link = above / f"t{zlib.crc32(str(folder).encode()):08x}"
    with suppress(FileExistsError):
        link.symlink_to(folder)
    return link


@dataclass(frozen=True)
class Place:
    """A home with user and temporary folders of its own, so that nothing escapes a sweep."""

    folder: Path
    api: str = ""
    """Prefect server to use; by default the command starts one of its own."""
    more: Mapping[str, str] = field(default_factory=dict)
    """Further variables that this user set."""

    @property
    def home(self) -> Path:
        """RADLOOP_HOME."""
        return self.folder / "home"

    def environment(self) -> dict[str, str]:
        """Return the environment of a user who set nothing but the home."""
        ours = ("RADLOOP_", "PREFECT_", "MLFLOW_", "DASK_", "DISTRIBUTED_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        for name in ("user", "tmp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        if self.api:
            kept["PREFECT_API_URL"] = self.api
        return kept | {
            "RADLOOP_HOME": str(self.home),
            "RADLOOP_WORKERS": "2",
            "HOME": str(self.folder / "user"),
            "TMPDIR": str(_short(self.folder / "tmp")),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
            **self.more,
        }

    def copied(self, folder: Path, more: Mapping[str, str] | None = None) -> "Place":
        """Return a copy that uses our server: same project key, so same cases and same parts."""
        place = Place(folder, self.api_of_server(), more or {})
        for name in ("catalog.db", "vault.db"):
            _checkpointed(self.home / name)
        kept = shutil.ignore_patterns("prefect", "mlflow", "*-wal", "*-shm")
        shutil.copytree(self.home, place.home, ignore=kept)
        place.home.chmod(0o700)
        return place

    def start(self, *words: object, **options: Any) -> subprocess.Popen:
        """Start the command in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "flows", *map(str, words)],
            cwd=self.folder / "user",
            env=self.environment(),
            start_new_session=True,
            text=True,
            **options,
        )

    def kill_once(
        self, there: Callable[[], object], *words: object, seconds: float, look: float = 0.05
    ) -> None:
        """Start the command and kill its group with -9 once something is there; wait for all."""
        process = self.start(*words)
        end = time.monotonic() + seconds
        while time.monotonic() < end and not there():
            assert process.poll() is None
            time.sleep(look)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        workers = [one for one in self.processes() if os.getsid(one.pid) == process.pid]
        psutil.wait_procs(workers, timeout=20)

    def radloop(self, *words: object, timeout: float = LONGEST) -> Ran:
        """Run the command to its end."""
        begun = time.monotonic()
        environment = self.environment()
        done = subprocess.run(
            [sys.executable, "-m", "flows", *map(str, words)],
            cwd=self.folder / "user",
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        shown = tuple(map(str, words))
        return Ran(shown, done.returncode, done.stdout, done.stderr, time.monotonic() - begun)

    def processes(self) -> list[psutil.Process]:
        """Return the processes that were started for this home, whoever their parent is now."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("RADLOOP_HOME") == str(self.home):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return [process for process in found if process.pid != os.getpid()]

    def api_of_server(self) -> str:
        """Return the address of the Prefect server that runs for this home."""
        record = json.loads((self.home / "prefect" / "server.json").read_text())
        return f"http://127.0.0.1:{record['port']}/api"

    def close(self) -> list[str]:
        """End this home's servers; return what is still running for it ten seconds later."""
        self.radloop("ui", "--stop").ok()
        _, left = psutil.wait_procs(self.processes(), timeout=10)
        names = [_described(process) for process in left]
        for process in left:
            process.kill()
        return names


def staged(store: Path) -> set[str]:
    """Return the names of the cases that lie finished in the staging of a store."""
    found = set()
    for path in (store / "staging").rglob("*"):
        # A part that is committed meanwhile takes its files away.
        with suppress(FileNotFoundError, IsADirectoryError), path.open("rb") as stream:
            if stream.read(len(MAGIC)) == MAGIC:
                found.add(path.name)
    return found


def _checkpointed(path: Path) -> None:
    with sqlite3.connect(path) as database:
        assert database.execute("pragma wal_checkpoint(truncate)").fetchone()[0] == 0
    database.close()


def _described(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return "(gone meanwhile)"
