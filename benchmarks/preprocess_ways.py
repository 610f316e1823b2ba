"""The ways of bench_preprocess.py: radloop's commands on a home, and programs of the peers."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from preprocess_archive import Archive, accession, scenario
from run_big_archive import Sampler, digests, environment, parts_table
from series_at_hand import PEERS
from watched import Run, reap, watch

from flows.home import Home
from flows.runners import ONE_THREAD
from flows.settings import Settings
from tasks.archive.catalog import cases
from tasks.archive.commits import all_parts
from tasks.store.read import open_part

PROGRAM = Path(__file__).with_name("preprocess_peers.py")


class WayFailed(Exception):
    """A program did not end well; the message says how."""


def prepared_home(folder: Path) -> Path:
    """Return a home with both scenarios and a project key: its copies give the same ids."""
    folder.mkdir(parents=True, mode=0o700)
    (folder / "scenarios").mkdir()
    for order in ("cubic", "linear"):
        (folder / "scenarios" / f"{order}-chest.yaml").write_text(scenario(order))
    Home(Settings(home=folder)).names.key("accession", accession(0))
    return folder


@dataclass(frozen=True)
class RadloopWay:
    """`radloop ingest` and `radloop preprocess`, one after the other."""

    order: str
    archive: Archive
    prepared: Path
    workers: int
    holds = "float32, compressed, checksums, provenance"

    @property
    def name(self) -> str:
        """Name for --only and folders."""
        return f"radloop-{self.order}"

    @property
    def title(self) -> str:
        """Name in the table."""
        return f"radloop, {self.order}"

    def command(self, place: Path) -> list[str | Path]:
        """Return one command that runs both."""
        words = shlex.join([sys.executable, "-m", "flows"])
        chest = f"{self.order}-chest"
        archive = shlex.quote(str(self.archive.folder))
        both = f"{words} ingest {archive} --labels-of {chest} && {words} preprocess {chest}"
        return ["sh", "-c", both]

    def env(self, place: Path) -> dict[str, str]:
        """Return the environment of a home."""
        return environment(place, self.workers)

    def begin(self, place: Path) -> None:
        """Copy the prepared home, whose catalog is empty."""
        shutil.copytree(self.prepared, place)
        place.chmod(0o700)

    def end(self, place: Path) -> None:
        """Stop the home's server, which is this process's child by now."""
        words = [sys.executable, "-m", "flows", "ui", "--stop"]
        if place.exists():
            process = subprocess.Popen(words, env=self.env(place), stderr=subprocess.DEVNULL)
            while process.poll() is None:
                # It waits until the server is gone, and that is not before it is taken in.
                reap(but=process.pid)
                time.sleep(0.1)

    def stored(self, place: Path) -> Path:
        """Return the folder of the results."""
        return place / "store"

    def digests(self, place: Path) -> dict[str, str]:
        """Return the digest of every part."""
        return digests(place)

    def read(self, place: Path, number: int) -> np.ndarray:
        """Return the volume of one series, (z, y, x)."""
        home = Home(Settings(home=place))
        wanted = home.names.key("accession", accession(number))
        (case,) = (c for c in cases(home.catalog, kind="dicom") if c.accession_key == wanted)
        (part,) = (p for p in all_parts(home.catalog) if case.case_id in p.case_ids)
        return open_part(str(self.stored(place)), part.path).read(case.case_id)

    def notes(self, place: Path, run: Run) -> list[str]:
        """Say what the work inside parts took, and which processes live on beside it."""
        rows = parts_table(place)
        sampler = Sampler(place)
        sampler.look()
        server = sampler.core_seconds().get("Prefect server", 0.0)
        inside = sum(row["core_seconds"] for row in rows)
        return [
            f"inside parts: {sum(row['seconds'] for row in rows):.1f} s of workers, {inside:.1f} "
            f"core s without decoders",
            f"fixed: Prefect's server {server:.1f} core s; commands, workers' start, ingest and "
            f"decoders {run.core - inside - server:.1f} core s",
        ]


@dataclass(frozen=True)
class PeerWay:
    """A peer: one program in the peers' environment."""

    name: str
    title: str
    order: str
    result: str
    holds: str
    asked: dict

    def command(self, place: Path) -> list[str | Path]:
        """Return the command that does the whole way into a folder."""
        return self._words("run", self.name, place)

    def env(self, place: Path) -> dict[str, str]:
        """Return the environment: one thread a process."""
        return os.environ | ONE_THREAD

    def begin(self, place: Path) -> None:
        """Make an empty place."""
        place.mkdir(parents=True)

    def end(self, place: Path) -> None:
        """Leave nothing running: nothing is."""

    def stored(self, place: Path) -> Path:
        """Return the folder of the results."""
        return place / self.result

    def digests(self, place: Path) -> dict[str, str]:
        """Return the digest of the voxels of every series; empty where there is no result."""
        run = watch(self._words("digests", self.name, place), place / "read.log", self.env(place))
        if run.code:
            raise WayFailed(f"the results cannot be read: {run.last[-200:]}")
        # What a library says at its end may follow.
        return json.loads([line for line in run.said.splitlines() if line.startswith("{")][-1])

    def read(self, place: Path, number: int) -> np.ndarray:
        """Return the volume of one series, (z, y, x) as in DICOM."""
        run = watch(
            self._words("read", self.name, place, number), place / "read.log", self.env(place)
        )
        if run.code:
            raise WayFailed(f"a result cannot be read: {run.last[-200:]}")
        return np.load(place / "read.npy")

    def notes(self, place: Path, run: Run) -> list[str]:
        """Say what its stages took."""
        rows = [json.loads(line) for line in run.said.splitlines() if line.startswith('{"stage"')]
        return [f"{row['stage']}: {row['wall']:.1f} s, {row['core']:.1f} core s" for row in rows]

    def _words(self, what: str, name: str, place: Path, *more: object) -> list[str | Path]:
        python = PEERS / "bin" / "python"
        return [python, PROGRAM, what, name, place, json.dumps(self.asked), *map(str, more)]
