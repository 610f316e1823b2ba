"""radloop's side of bench_preprocess.py: its own commands on a home of their own."""

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
from watched import Run, reap

from flows.home import Home
from flows.settings import Settings
from tasks.archive.catalog import cases
from tasks.archive.commits import all_parts
from tasks.store.read import open_part


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
