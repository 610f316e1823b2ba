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
from preprocess_ways import PROGRAM, PeerWay, RadloopWay, WayFailed, prepared_home
from series_at_hand import PEERS
from watched import Run, watch

PROCESSES = 2

FASTER_BAR = 1.0
"""nnU-Net's core seconds for each of radloop's, whole commands, start and server counted."""

APART_BAR = 0.1
"""HU, median of the differences to a peer of the same order: what curves at the edges leave."""


Way = PeerWay | RadloopWay


@dataclass(frozen=True)
class Found:
    """What was measured of one way."""

    way: Way
    calm: Run
    again: Run
    resumed: Run
    stored: int
    """Bytes of the results."""
    beside: int
    """Bytes of what was made on the way and is still there."""
    differ: int
    """Results that are not those of the undisturbed run after kill and resumption."""
    notes: tuple[str, ...]


def size_of(folder: Path) -> int:
    """Return the bytes of every file below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def ended(way: Way, place: Path, log: Path) -> Run:
    """Run a way to its end; WayFailed when that is not a good one."""
    run = watch(way.command(place), log, way.env(place))
    if run.code:
        raise WayFailed(f"ended with {run.code}: {run.last[-200:]}")
    return run


def measure(way: Way, work: Path) -> Found:
    """Run a way undisturbed, again, and killed and resumed."""
    calm, hurt, log = work / f"{way.name}-calm", work / f"{way.name}-killed", work / "log"
    try:
        way.begin(calm)
        run = ended(way, calm, log)
        notes, stored = way.notes(calm, run), size_of(way.stored(calm))
        beside = size_of(calm) - stored
        again = ended(way, calm, log)
        way.begin(hurt)
        killed = watch(way.command(hurt), log, way.env(hurt), kill_after=run.wall / 2)
        if killed.code == 0:
            notes.append("it ended before the kill: resume is a run on what was finished")
        resumed = ended(way, hurt, log)
        one, other = way.digests(calm), way.digests(hurt)
        differ = sum(not digest or other.get(name) != digest for name, digest in one.items())
        return Found(way, run, again, resumed, stored, beside, differ, tuple(notes))
    finally:
        way.end(calm)
        way.end(hurt)


def apart(one: Found, ours: Found, work: Path) -> str | float:
    """Return the largest median difference of a peer to radloop in HU, or why there is none."""
    medians = []
    # The first is stored natively, the second as JPEG lossless.
    for number in (0, 1):
        radloops = ours.way.read(work / f"{ours.way.name}-calm", number)
        try:
            theirs = one.way.read(work / f"{one.way.name}-calm", number)
        except WayFailed as error:
            return str(error)
        if not theirs.shape == radloops.shape == WANTED_SHAPE:
            return f"shapes {theirs.shape} and {radloops.shape}, not {WANTED_SHAPE}"
        medians.append(float(np.median(np.abs(theirs - radloops))) * STD)
    return max(medians)


HEAD = (
    f"{'':26}{'series/s':>9}{'core s':>8}{'wall':>7}{'peak':>7}{'result':>8}{'beside':>8}"
    f"{'resume':>8}{'differ':>7}{'again':>7}\n"
    f"{'':26}{'a core':>9}{'a GB':>8}{'s':>7}{'MB':>7}{'MB':>8}{'MB':>8}{'s':>8}{'':>7}{'s':>7}"
    "  a result is"
)
FOOT = """\
series/s, core s, wall, peak: the undisturbed run; beside: made on the way and still there
resume: from the kill at half the wall to the end; differ: results unlike the undisturbed ones
again: nothing changed"""


def row(one: Found, archive: Archive) -> str:
    """Return a line of the table."""
    run = one.calm
    return (
        f"{one.way.title:26}{archive.series / run.core:9.2f}{run.core / archive.bytes * 1e9:8.0f}"
        f"{run.wall:7.1f}{run.peak / 1e6:7.0f}{one.stored / 1e6:8.1f}{one.beside / 1e6:8.1f}"
        f"{one.resumed.wall:8.1f}{one.differ:7}{one.again.wall:7.1f}  {one.way.holds}"
    )


def judge(found: dict[str, Found], work: Path) -> int:
    """Compare the results, print the bars; return how many are missed."""
    verdicts = []
    for one in found.values():
        ours = found.get(f"radloop-{one.way.order}")
        if isinstance(one.way, RadloopWay):
            said = f"parts that differ after a kill {one.differ}, at most 0"
            verdicts.append((f"{one.way.title}: {said}", not one.differ))
        elif ours:
            how = apart(one, ours, work)
            met = isinstance(how, float) and how <= APART_BAR
            said = f"{how:.2g} HU" if isinstance(how, float) else how
            said = f"largest median difference to radloop {said}, at most {APART_BAR:g}"
            verdicts.append((f"{one.way.title}: {said}", met))
    if {"radloop-cubic", "nnunet"} <= set(found):
        ratio = found["nnunet"].calm.core / found["radloop-cubic"].calm.core
        said = f"nnU-Net's core seconds to radloop's: {ratio:.2f}, at least {FASTER_BAR:g}"
        verdicts.append((said, ratio >= FASTER_BAR))
    for said, met in verdicts:
        print(f"bar    {said}: {'met' if met else 'MISSED'}")
    return sum(not met for _, met in verdicts)


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
    failed = 0
    print(HEAD, flush=True)
    for way in ways:
        try:
            found[way.name] = measure(way, work)
            print(row(found[way.name], archive), flush=True)
        except WayFailed as error:
            failed += isinstance(way, RadloopWay)
            print(f"{way.title:26}FAILED: {' '.join(str(error).split())}", flush=True)
    print(FOOT)
    for one in found.values():
        for note in one.notes:
            print(f"of it  {one.way.title:26} {note}")
    return failed + judge(found, work)


def main() -> int:
    """Make the archive, run every way, print the table; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=12)
    parser.add_argument("--only", nargs="*", default=[], help="names of ways, e.g. radloop-cubic")
    parser.add_argument("--keep", type=Path, help="work here and leave everything")
    asked = parser.parse_args()
    if asked.series < 2:
        parser.error(f"--series {asked.series}: it takes 2, one of each transfer syntax")
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
