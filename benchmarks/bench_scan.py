"""Scan of headers against dicomsdl and pydicom, an unchanged tree, and a whole ingest, in one run.

    python benchmarks/bench_scan.py [--series 16] [--files 120000]

Each reader opens a file, reads its header and gives the same 30 values as plain Python values.
dicomsdl runs in the environment of the peers (`make bench` installs it); passes alternate, so that
other load on the machine meets all of them, and the best of each counts.  One process, one thread,
warm page cache.  Speeds are files per second of core time (user and system), which other load
disturbs less than the clock on the wall; where they differ the wall's stands beside.  The floor is
what nobody can be faster than from Python: open, stat, read 8 kB.
Exit code 1 when a bar is missed; the stretch is an aim.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PEERS = Path(__file__).resolve().parents[1] / ".venv-peers" / "bin" / "python"
PASSES = 5
SCAN_BAR, SCAN_STRETCH = 1.5, 40_000
UNCHANGED_BAR = 150_000

KEYWORDS = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID",
    "AccessionNumber", "Modality", "Manufacturer", "ManufacturerModelName", "InstitutionName",
    "StationName", "StudyDate", "SeriesDate", "PatientName", "PatientSex", "PatientAge",
    "PatientBirthDate", "BodyPartExamined", "SliceThickness", "KVP", "Exposure",
    "ConvolutionKernel", "DeviceSerialNumber", "ContrastBolusAgent", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "PhotometricInterpretation",
)  # fmt: skip


def seconds_of(work: Callable[[], object]) -> float:
    """Return the core time of a call."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def scan_with_radloop(paths: list[str]) -> list:
    """Return the values of the last file."""
    from pydicom.datadict import tag_for_keyword

    from tasks.archive.headers import read_header
    from tasks.archive.scan import Scanner

    scanner, tags = Scanner(), [tag_for_keyword(keyword) for keyword in KEYWORDS]
    for path in paths:
        values = read_header(path, scanner).elements.values
        found = [values(tag) for tag in tags]
    return found


def scan_with_pydicom(paths: list[str]) -> list:
    """As most do it: only the wanted tags, no pixels."""
    from pydicom import dcmread

    for path in paths:
        ds = dcmread(path, stop_before_pixels=True, specific_tags=list(KEYWORDS))
        found = [ds.get(keyword) for keyword in KEYWORDS]
    return found


def scan_with_dicomsdl(paths: list[str]) -> list:
    """The fastest it offers: it stops before the pixels."""
    import dicomsdl

    for path in paths:
        ds = dicomsdl.open_file(path, load_until=0x7FE00000)
        found = [ds.getDataElement(keyword).value() for keyword in KEYWORDS]
    return found


def read_first_bytes(paths: list[str]) -> None:
    """The floor."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fstat(descriptor)
        os.pread(descriptor, 8192, 0)
        os.close(descriptor)


def seconds_of_dicomsdl(folder: Path) -> float:
    """Return the time of one pass in the peers' environment, without the start of Python."""
    if not PEERS.exists():
        sys.exit("dicomsdl is missing: `make bench` installs the peers into .venv-peers.")
    said = subprocess.run(
        [PEERS, __file__, "--peer", folder], check=True, capture_output=True, text=True
    )
    return float(said.stdout)


def bench_headers(folder: Path, paths: list[str]) -> bool:
    """Print files a second of each reader."""
    few = paths[: len(paths) // 8]
    best: dict[str, float] = {}
    for _ in range(PASSES):
        for name, taken in (
            ("floor", seconds_of(lambda: read_first_bytes(paths)) / len(paths)),
            ("radloop", seconds_of(lambda: scan_with_radloop(paths)) / len(paths)),
            ("dicomsdl", seconds_of_dicomsdl(folder) / len(paths)),
            ("pydicom", seconds_of(lambda: scan_with_pydicom(few)) / len(few)),
        ):
            best[name] = min(best.get(name, taken), taken)
    for name, taken in best.items():
        ratio = taken / best["radloop"]
        print(f"scan       {name:10s} {1 / taken:9.0f} files/s  radloop is {ratio:5.2f} times that")
    met = best["dicomsdl"] / best["radloop"] >= SCAN_BAR
    fast = "met" if 1 / best["radloop"] >= SCAN_STRETCH else "missed"
    print(
        f"           bar {SCAN_BAR} times dicomsdl: {'met' if met else 'MISSED'}; stretch "
        f"{SCAN_STRETCH} files/s: {fast}"
    )
    return met


def bench_ingest(folder: Path, home: Path, count: int, size: int) -> None:
    """Print files a second of an ingest into a fresh catalog and vault, and of the next one."""
    ingest_folder(folder, Path(home, "warm"))
    for name in ("first", "again"):
        begun = time.perf_counter()
        core = seconds_of(lambda: ingest_folder(folder, home))
        wall = time.perf_counter() - begun
        read = f", {count * size / 1e6 / wall:.0f} MB/s with digests of all bytes"
        print(
            f"ingest     {name:10s} {count / core:9.0f} files/s of a core, {count / wall:.0f} by "
            f"the clock{read if name == 'first' else ''}"
        )


def ingest_folder(folder: Path, home: Path) -> object:
    """Take a folder in and return the report."""
    from tasks.archive.catalog import open_catalog
    from tasks.archive.intake import ingest
    from tasks.archive.pseudonyms import Pseudonymiser
    from tasks.archive.sources import resolve_source
    from tasks.archive.vault import open_vault, project_key

    home.mkdir(exist_ok=True)
    catalog = open_catalog(f"sqlite:///{home}/catalog.db")
    vault = open_vault(f"sqlite:///{home}/vault.db")
    names = Pseudonymiser(project_key(vault))
    report = ingest(resolve_source(str(folder)), catalog, vault, names)
    catalog.dispose()
    vault.dispose()
    return report


def bench_unchanged(folder: Path, home: Path, count: int) -> bool:
    """Print files a second of an ingest that finds nothing new among many small files."""
    for number in range(count):
        place = folder / f"{number // 120:05d}"
        if number % 120 == 0:
            place.mkdir(parents=True)
        (place / f"IM{number % 120:06d}.txt").write_bytes(b"not an image")
    ingest_folder(folder, home)
    core, wall = [], []
    for _ in range(PASSES):
        begun, work = time.perf_counter(), time.process_time()
        report = ingest_folder(folder, home)
        core.append(time.process_time() - work)
        wall.append(time.perf_counter() - begun)
        if report.unchanged != count:
            sys.exit(f"{report.unchanged} of {count} files were unchanged: the run says nothing.")
    floor = min(seconds_of(lambda: list_and_stat(folder)) for _ in range(PASSES))
    speed = count / min(core)
    met = speed >= UNCHANGED_BAR
    print(
        f"unchanged  radloop    {speed:9.0f} files/s of a core, {count / min(wall):.0f} by the "
        f"clock, {min(core) / floor:.2f} times the floor  bar {UNCHANGED_BAR}: "
        f"{'met' if met else 'MISSED'}"
    )
    return met


def list_and_stat(folder: Path) -> None:
    """The floor of a walk: list and stat, and nothing else."""
    for place in os.scandir(folder):
        with os.scandir(place) as listing:
            for child in listing:
                child.stat(follow_symlinks=False)


def main() -> int:
    """Print the machine, speeds and ratios; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=16)
    parser.add_argument("--files", type=int, default=120_000)
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peer:
        paths = sorted(map(str, asked.peer.rglob("*.dcm")))
        print(seconds_of(lambda: scan_with_dicomsdl(paths)))
        return 0
    from ct_archive import PIXEL_BYTES, make_archive

    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, warm")
    with tempfile.TemporaryDirectory() as folder:
        archive, many = Path(folder, "ct"), Path(folder, "many")
        homes = [Path(folder, name) for name in ("home-ct", "home-many")]
        for home in homes:
            home.mkdir()
        paths = make_archive(archive, asked.series)
        scanned = bench_headers(archive, paths)
        bench_ingest(archive, homes[0], len(paths), PIXEL_BYTES)
        unchanged = bench_unchanged(many, homes[1], asked.files)
    return int(not (scanned and unchanged))


if __name__ == "__main__":
    sys.exit(main())
