"""An archive to training volumes: radloop's commands beside four other ways, in one run.

    python benchmarks/bench_preprocess.py [--series 12] [--only nnunet ...] [--keep FOLDER]

Every way begins at the same DICOM folders (60 slices of 256 x 256, native and JPEG lossless in
turn, headers as long as a scanner's), ends with one float32 volume a series on the same grid, and
does the same: clip HU, scale by stated figures, resample 2 x 0.75 x 0.75 mm to 1.5 x 1 x 1.
nnU-Net resamples by cubic splines, the others linearly, radloop once each. nnU-Net makes masks too,
which it cannot leave out; radloop joins labels, pseudonyms and a split. Two processes each, one
thread a process. The programs run as their makers offer them, with every import and start.

Each way runs undisturbed, then again on what it made; a second time it is killed (SIGKILL to the
process group) at half of that wall time and started again. Core seconds and memory (PSS) are those
of the whole process tree, Prefect's server included; one run each: ratios below 1.4 say little.
Results are compared voxel by voxel with radloop's of the same order.
Exit code 1 when a bar is missed; a peer that fails is shown with its reason.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from preprocess_archive import CLIP, MEAN, STD, WANTED_SHAPE, WANTED_SPACING, Archive, make_archive
from preprocess_radloop import RadloopWay, prepared_home
from series_at_hand import PEERS
from watched import Run, watch

from flows.runners import ONE_THREAD

PROCESSES = 2

PROGRAM = Path(__file__).with_name("preprocess_peers.py")

FASTER_BAR = 1.0
"""nnU-Net's core seconds for each of radloop's, whole commands, start and server counted."""

APART_BAR = 0.1
"""HU, median of the differences to a peer of the same order: what curves at the edges leave."""


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
        """Return the digest of the voxels of every series."""
        run = watch(self._words("digests", self.name, place), place / "read.log", self.env(place))
        if run.code:
            raise OSError(f"{self.title}: its results cannot be read: {run.last[-300:]}")
        return json.loads(run.said.splitlines()[-1])

    def read(self, place: Path, number: int) -> np.ndarray:
        """Return the volume of one series, (z, y, x) as in DICOM."""
        run = watch(self._words("read", self.name, place, number), place / "read.log")
        if run.code:
            raise OSError(f"{self.title}: its result cannot be read: {run.last[-300:]}")
        return np.load(place / "read.npy")

    def notes(self, place: Path, run: Run) -> list[str]:
        """Say what its stages took."""
        rows = [json.loads(line) for line in run.said.splitlines() if line.startswith('{"stage"')]
        return [f"{row['stage']}: {row['wall']:.1f} s, {row['core']:.1f} core s" for row in rows]

    def _words(self, what: str, name: str, place: Path, *more: object) -> list[str | Path]:
        python = PEERS / "bin" / "python"
        return [python, PROGRAM, what, name, place, json.dumps(self.asked), *map(str, more)]


Way = PeerWay | RadloopWay


@dataclass(frozen=True)
class Found:
    """What was measured of one way; runs that were not made are None."""

    way: Way
    calm: Run
    again: Run | None = None
    resumed: Run | None = None
    stored: int = 0
    """Bytes of the results."""
    beside: int = 0
    """Bytes of what was made on the way and is still there."""
    differ: int = 0
    """Results that are not those of the undisturbed run after kill and resumption."""
    notes: tuple[str, ...] = ()
    apart: float | None = None
    """Largest median difference to radloop, HU."""


def size_of(folder: Path) -> int:
    """Return the bytes of every file below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(way: Way, work: Path) -> Found:
    """Run a way undisturbed, again, and killed and resumed."""
    calm, hurt = work / f"{way.name}-calm", work / f"{way.name}-killed"
    try:
        way.begin(calm)
        run = watch(way.command(calm), work / "log", way.env(calm))
        if run.code:
            return Found(way, run)
        notes, stored = tuple(way.notes(calm, run)), size_of(way.stored(calm))
        beside = size_of(calm) - stored
        again = watch(way.command(calm), work / "log", way.env(calm))
        way.begin(hurt)
        watch(way.command(hurt), work / "log", way.env(hurt), kill_after=run.wall / 2)
        resumed = watch(way.command(hurt), work / "log", way.env(hurt))
        one, other = way.digests(calm), way.digests(hurt)
        differ = sum(other.get(name) != digest for name, digest in one.items())
        return Found(way, run, again, resumed, stored, beside, differ, notes)
    finally:
        way.end(calm)
        way.end(hurt)


def differences(found: dict[str, Found], work: Path) -> dict[str, float | str]:
    """Return the largest median difference of each peer to radloop of its order, in HU."""
    apart: dict[str, float | str] = {}
    for name, one in found.items():
        ours = found.get(f"radloop-{one.way.order}")
        if isinstance(one.way, RadloopWay) or one.calm.code or ours is None or ours.calm.code:
            continue
        medians = []
        # The first is stored natively, the second as JPEG lossless.
        for number in (0, 1):
            theirs = one.way.read(work / f"{name}-calm", number)
            radloops = ours.way.read(work / f"{ours.way.name}-calm", number)
            if not theirs.shape == radloops.shape == WANTED_SHAPE:
                apart[name] = f"shapes {theirs.shape} and {radloops.shape}"
                break
            medians.append(float(np.median(np.abs(theirs - radloops))) * STD)
        else:
            apart[name] = max(medians)
    return apart


HEAD = (
    f"{'':26}{'series/s':>9}{'core s':>8}{'wall':>7}{'peak':>7}{'result':>8}{'beside':>8}"
    f"{'resume':>8}{'differ':>7}{'again':>7}\n"
    f"{'':26}{'a core':>9}{'a GB':>8}{'s':>7}{'MB':>7}{'MB':>8}{'MB':>8}{'s':>8}{'':>7}{'s':>7}"
    "  a result is"
)


def row(one: Found, archive: Archive) -> str:
    """Return a line of the table."""
    title = f"{one.way.title:26}"
    if one.calm.code:
        reason = one.calm.last.splitlines()[-1:] or ["it said nothing"]
        return f"{title}FAILED ({one.calm.code}): {reason[0][:160]}"
    run = one.calm
    return (
        f"{title}{archive.series / run.core:9.2f}{run.core / archive.bytes * 1e9:8.0f}"
        f"{run.wall:7.1f}{run.peak / 1e6:7.0f}{one.stored / 1e6:8.1f}{one.beside / 1e6:8.1f}"
        f"{one.resumed.wall:8.1f}{one.differ:7}{one.again.wall:7.1f}  {one.way.holds}"
    )


def judge(found: dict[str, Found], apart: dict[str, float | str]) -> int:
    """Print the bars; return how many are missed."""
    missed = 0
    for name, how in apart.items():
        met = isinstance(how, float) and how <= APART_BAR
        missed += not met
        said = f"{how:.3g} HU" if isinstance(how, float) else how
        print(
            f"bar    {found[name].way.title}: largest median difference to radloop {said}, at most "
            f"{APART_BAR:g}: {'met' if met else 'MISSED'}"
        )
    for one in found.values():
        if isinstance(one.way, RadloopWay):
            wrong = one.calm.code or one.again.code or one.resumed.code or one.differ
            missed += bool(wrong)
            print(
                f"bar    {one.way.title}: parts that differ after a kill {one.differ}, at most 0: "
                f"{'MISSED' if wrong else 'met'}"
            )
    ours, theirs = found.get("radloop-cubic"), found.get("nnunet")
    if ours and theirs and not (ours.calm.code or theirs.calm.code):
        ratio = theirs.calm.core / ours.calm.core
        missed += ratio < FASTER_BAR
        print(
            f"bar    nnU-Net's core seconds to radloop's: {ratio:.2f}, at least {FASTER_BAR:g}: "
            f"{'met' if ratio >= FASTER_BAR else 'MISSED'}"
        )
    return missed


def ways_for(archive: Archive, work: Path) -> list[Way]:
    """Return every way, radloop first."""
    asked = {
        "archive": str(archive.folder),
        "mask": str(work / "mask.nii"),
        "spacing": WANTED_SPACING,
        "shape": WANTED_SHAPE,
        "clip": CLIP,
        "mean": MEAN,
        "std": STD,
        "processes": PROCESSES,
    }
    plans = "preprocessed/Dataset001_Made/nnUNetPlans_3d_fullres"
    plain = "float32, neither compressed nor checksummed"
    home = prepared_home(work / "prepared")
    return [
        RadloopWay("cubic", archive, home, PROCESSES),
        RadloopWay("linear", archive, home, PROCESSES),
        PeerWay("nnunet", "nnU-Net 2, cubic", "cubic", plans,
                "float32 and mask, compressed, no checksum", asked),
        PeerWay("monai", "MONAI, linear", "linear", "result", f"{plain} (pickled)", asked),
        PeerWay("simpleitk", "SimpleITK script, linear", "linear", "result", plain, asked),
        PeerWay("torchio", "TorchIO, linear", "linear", "result", plain, asked),
    ]  # fmt: skip


def compare(archive: Archive, work: Path, only: list[str]) -> int:
    """Measure all ways and print; return how many bars are missed."""
    ways = [way for way in ways_for(archive, work) if not only or way.name in only]
    peers = [way for way in ways if isinstance(way, PeerWay)]
    if peers:
        words = [PEERS / "bin" / "python", PROGRAM, "mask", work / "mask.nii"]
        made = watch([*words, json.dumps(peers[0].asked)], work / "log")
        if made.code:
            raise SystemExit(f"no mask for nnU-Net: {made.last}")
    found: dict[str, Found] = {}
    print(HEAD, flush=True)
    for way in ways:
        found[way.name] = measure(way, work)
        print(row(found[way.name], archive), flush=True)
    print("series/s, core s, wall, peak: the undisturbed run; beside: made on the way and still "
          "there (NIfTI, catalog)\nresume: from the kill at half the wall to the end; differ: "
          "results unlike the undisturbed ones; again: nothing changed")  # fmt: skip
    for one in found.values():
        for note in one.notes:
            print(f"of it  {one.way.title:26} {note}")
    return judge(found, differences(found, work))


def main() -> int:
    """Make the archive, run every way, print the table; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=12)
    parser.add_argument("--only", nargs="*", default=[], help="names of ways, e.g. radloop-cubic")
    parser.add_argument("--keep", type=Path, help="work here and leave everything")
    asked = parser.parse_args()
    if not (PEERS / "bin" / "dcm2niix").exists():
        print("the peers are not there: `make bench` installs them; nothing compared")
        return 1
    work = asked.keep.resolve() if asked.keep else Path(tempfile.mkdtemp())
    try:
        archive = make_archive(work / "archive", asked.series)
        print(
            f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
            f"{archive.series} series, {archive.bytes / 1e6:.0f} MB of DICOM, warm"
        )
        return int(compare(archive, work, asked.only) > 0)
    finally:
        if not asked.keep:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
