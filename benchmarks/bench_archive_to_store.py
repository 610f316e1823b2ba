"""One series from the archive's files into a committed part, beside what others make of it.

    python benchmarks/bench_archive_to_store.py [--rounds 3]

120 slices of 512 x 512 with headers as long as a scanner's, in four transfer syntaxes. Ours is the
whole way of a part: file digests compared, geometry certified, Hounsfield units, compressed shards
with checksums, read back, manifest, sync. The others write one file and promise none of it:
dcm2niix without and with gzip, dicom2nifti, SimpleITK, and pydicom with zarr's defaults.

Rounds alternate, so that other load on the machine meets all; the best of each is compared, wall
and core seconds, those of child processes too. The page cache is warm. dcm2niix is timed with its
start, which takes some 5 ms; the libraries without their import. Exit code 1 when a bar is missed.

Memory is kept as a worker keeps it (`flows.runners.ALLOCATOR`), for every peer.

The bar of JPEG lossless was set beside Debian's build of dcm2niix, whose decoder takes seconds for
this series, and is judged beside that one where it is installed (`apt-get install dcm2niix`); the
wheel's decodes in half a second and is printed too. SHA-256 alone, of the files, of the voxels and
of the shard, takes more than half of what dcm2niix -z n takes in all: the bar of raw wall time asks
for two idle cores, and what other load does to it is not radloop's (decision 17).
"""

import argparse
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import bench_decode
import numpy as np
import psutil
import pydicom
import zarr
from ct_archive import SLICES, image_bytes
from series_at_hand import PEERS

from flows.runners import ALLOCATOR
from tasks.archive.sources import FileRef, digest_of
from tasks.archive.volume import read_volume
from tasks.store.read import open_part
from tasks.store.write import Prepared, write_part

SYNTAXES = ("raw", "JPEG lossless", "RLE", "JPEG-LS")

BARS = {
    ("raw", "dcm2niix -z n", "wall"): 0.7,
    ("raw", "dcm2niix -z y", "wall"): 10.0,
    ("JPEG lossless", "Debian dcm2niix -z n", "core"): 8.0,
}
"""Least ratio of seconds, theirs over ours."""

DEBIAN = Path("/usr/bin/dcm2niix")
"""Another build of dcm2niix: without the wheel's decoder of JPEG lossless."""

CASE = "c" * 32

Seconds = tuple[float, float]
"""Wall and core."""

TIMED = """
import sys, time
{begin}
wall, core = time.perf_counter(), time.process_time()
{work}
print(time.perf_counter() - wall, time.process_time() - core)
"""

DICOM2NIFTI = TIMED.format(
    begin="import dicom2nifti",
    work="dicom2nifti.dicom_series_to_nifti(sys.argv[1], sys.argv[2] + '/x.nii.gz')",
)
SIMPLEITK = TIMED.format(
    begin="import SimpleITK as sitk; reader = sitk.ImageSeriesReader()",
    work="reader.SetFileNames(reader.GetGDCMSeriesFileNames(sys.argv[1])); "
    "sitk.WriteImage(reader.Execute(), sys.argv[2] + '/x.nii')",
)


def make_series(folder: Path, name: str, images: list[np.ndarray]) -> None:
    """Write one series."""
    folder.mkdir()
    syntax, encode = bench_decode.ENCODE[name]
    for number, image in enumerate(images, start=1):
        data = image_bytes(1, number, syntax, bytes(encode(image)))
        (folder / f"IM{number:06d}.dcm").write_bytes(data)


def references(folder: Path) -> list[FileRef]:
    """Return what a work order says of the files."""
    found = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        found.append(FileRef(str(path), None, digest_of(data).hex(), len(data)))
    return found


def by_radloop(files: list[FileRef], out: Path) -> Seconds:
    """Write and commit one part."""

    def prepare(_: str) -> Prepared:
        volume = read_volume("dicom", files)
        return Prepared(volume.array, volume.affine, (), volume.certificate, volume.facts)

    children = [one.pid for one in psutil.Process().children()]

    def core() -> float:
        # The number of another process's CPU clock, as clock_getcpuclockid(3) makes it.
        return time.process_time() + sum(time.clock_gettime(~pid << 3 | 2) for pid in children)

    wall, begun = time.perf_counter(), core()
    write_part(str(out), "a" * 32, "image", "b" * 32, [CASE], prepare, dtype="int16")
    return time.perf_counter() - wall, core() - begun


def by_zarr(folder: Path, out: Path) -> Seconds:
    """Read by pydicom, write by zarr, all defaults."""
    wall, core = time.perf_counter(), time.process_time()
    sets = [pydicom.dcmread(path) for path in folder.iterdir()]
    sets.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    volume = np.stack([one.pixel_array.astype(np.int16) for one in sets])
    volume += int(sets[0].RescaleIntercept)
    zarr.create_array(str(out / "x.zarr"), shape=volume.shape, dtype=volume.dtype)[...] = volume
    return time.perf_counter() - wall, time.process_time() - core


def by_dcm2niix(folder: Path, out: Path, packed: str, program: Path) -> Seconds:
    """Run dcm2niix."""
    command = [program, "-z", packed, "-f", "x", "-o", out, folder]
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def by_library(program: str, folder: Path, out: Path) -> Seconds:
    """Run a library of the peers' environment, which times itself."""
    command = [PEERS / "bin" / "python", "-W", "ignore", "-c", program, folder, out]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    wall, core = said.splitlines()[-1].split()
    return float(wall), float(core)


def measure(name: str, folder: Path, rounds: int) -> dict[str, Seconds]:
    """Return the least wall and core seconds of each."""
    files, wheel = references(folder), PEERS / "bin" / "dcm2niix"
    ways: dict[str, Callable[[Path], Seconds]] = {
        "radloop": lambda out: by_radloop(files, out),
        "dcm2niix -z n": lambda out: by_dcm2niix(folder, out, "n", wheel),
        "dcm2niix -z y": lambda out: by_dcm2niix(folder, out, "y", wheel),
        "dicom2nifti": lambda out: by_library(DICOM2NIFTI, folder, out),
        "SimpleITK": lambda out: by_library(SIMPLEITK, folder, out),
        "pydicom + zarr": lambda out: by_zarr(folder, out),
    }
    if DEBIAN.exists():
        ways["Debian dcm2niix -z n"] = lambda out: by_dcm2niix(folder, out, "n", DEBIAN)
    taken: dict[str, list[Seconds]] = {way: [] for way in ways}
    # The decoding child and the codecs start before the clock does: a worker starts them once.
    read_volume("dicom", files)
    for _ in range(rounds):
        for way, run in ways.items():
            with tempfile.TemporaryDirectory(dir=folder.parent) as out:
                try:
                    taken[way].append(run(Path(out)))
                except subprocess.CalledProcessError:
                    taken.pop(way)
                    print(f"{name:14} {way:20} cannot read it")
        ways = {way: run for way, run in ways.items() if way in taken}
    return {
        way: (min(wall for wall, _ in found), min(core for _, core in found))
        for way, found in taken.items()
    }


def check(folder: Path, images: list[np.ndarray], work: Path) -> float:
    """Compare the stored voxels with those that were made; return the ratio of compression."""
    by_radloop(references(folder), work)
    part = open_part(str(work), f"parts/{'a' * 32}.zarr")
    # Positions rise with the number of the slice.
    if not np.array_equal(part.read(CASE), np.stack(images).astype(np.int16) - 1024):
        sys.exit("the stored voxels are not those of the series")
    stored = sum(f.stat().st_size for f in work.rglob("*") if f.is_file())
    shutil.rmtree(work)
    return sum(image.nbytes for image in images) / stored


def told(name: str, found: dict[str, Seconds], smaller: float) -> int:
    """Print a line for each way; return how many bars are missed."""
    ours, missed = found.pop("radloop"), 0
    print(f"{name:14} {'radloop':20} {ours[0]:6.2f} s {ours[1]:6.2f} core s, 1 : {smaller:.2f}")
    for way, theirs in found.items():
        ratios = {"wall": theirs[0] / ours[0], "core": theirs[1] / ours[1]}
        line = (
            f"{name:14} {way:20} {theirs[0]:6.2f} s {theirs[1]:6.2f} core s, radloop is "
            f"{ratios['wall']:.2f} times as fast, core {ratios['core']:.2f}"
        )
        for kind, ratio in ratios.items():
            bar = BARS.get((name, way, kind))
            if bar is not None:
                missed += ratio < bar
                line += f"  bar {kind} {bar} {'met' if ratio >= bar else 'MISSED'}"
        print(line)
    return missed


def main() -> int:
    """Print seconds and ratios; end with 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=SYNTAXES, action="append")
    asked = parser.parse_args()
    if not (PEERS / "bin" / "dcm2niix").exists():
        print("the peers are not there: `make bench` installs them; nothing compared")
        return 1
    if not DEBIAN.exists():
        print("Debian's dcm2niix is not installed: the bar of JPEG lossless is not judged")
    images, missed = bench_decode.slices(SLICES), 0
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as place:
        for name in asked.only or SYNTAXES:
            folder = Path(place, name.replace(" ", "_"))
            make_series(folder, name, images)
            smaller = check(folder, images, Path(place, "check"))
            found = measure(name, folder, asked.rounds)
            missed += told(name, found, smaller)
            shutil.rmtree(folder)
    return int(missed > 0)


if __name__ == "__main__":
    if not ALLOCATOR.items() <= os.environ.items():
        # glibc reads them when a process starts.
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ALLOCATOR)
    sys.exit(main())
