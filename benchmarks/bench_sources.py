"""What reading a source voxel costs one core in each format, beside what the plan takes it for.

    python benchmarks/bench_sources.py [--slices 24] [--rounds 5] [--only raw nifti ...]

A made CT of so many slices of 512 x 512 in each transfer syntax and packed in each other format,
from its files to real units as a part reads it (`read_volume`); the decoder child's core seconds
count too. The best of the rounds is shown. Exit code 1 when a source is planned badly: it costs
twice what `tasks.store.sources` says, or less than a third.
"""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import bench_decode
import imagecodecs
import nibabel
import numpy as np
from bench_archive_to_store import make_series, references

from tasks.archive.sources import FileRef
from tasks.archive.volume import read_volume
from tasks.store.sources import voxels_ms

MOST, LEAST = 2.0, 1 / 3
"""Measured over planned cost."""

Images = list[np.ndarray]


def nifti(folder: Path, images: Images) -> None:
    """Write a packed NIfTI file."""
    values = np.stack(images).astype(np.int16).T
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-0.7, -0.7, 1, 1])), folder / "a.nii.gz")


def nrrd(folder: Path, images: Images) -> None:
    """Write a packed NRRD file."""
    head = (
        "NRRD0004\ntype: uint16\ndimension: 3\nspace: LPS\nendian: little\nencoding: gzip\n"
        f"sizes: 512 512 {len(images)}\nspace directions: (0.7,0,0) (0,0.7,0) (0,0,1)\n"
        "space origin: (0,0,0)\n\n"
    )
    packed = imagecodecs.gzip_encode(np.stack(images).tobytes(), level=6)
    (folder / "a.nrrd").write_bytes(head.encode() + packed)


def mha(folder: Path, images: Images) -> None:
    """Write a packed MetaImage file."""
    packed = imagecodecs.zlib_encode(np.stack(images).tobytes(), level=6)
    head = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        f"CompressedData = True\nCompressedDataSize = {len(packed)}\n"
        f"DimSize = 512 512 {len(images)}\nElementSpacing = 0.7 0.7 1\n"
        "ElementType = MET_USHORT\nElementDataFile = LOCAL\n"
    )
    (folder / "a.mha").write_bytes(head.encode() + packed)


def picture(folder: Path, images: Images) -> None:
    """Write one 16-bit PNG, all slices below one another."""
    (folder / "a.png").write_bytes(imagecodecs.png_encode(np.concatenate(images)))


OTHERS: dict[str, Callable[[Path, Images], None]] = {
    "nifti": nifti,
    "nrrd": nrrd,
    "mha": mha,
    "picture": picture,
}


def read_ns(kind: str, files: list[FileRef], rounds: int) -> float:
    """Return the nanoseconds of a core that reading a voxel takes, at best."""
    # The first reading starts the decoder child, whose seconds count from then on.
    voxels = read_volume(kind, files).array.size
    taken = [bench_decode.taken_by(lambda: read_volume(kind, files)) for _ in range(rounds)]
    return 1e9 * min(taken) / voxels


def main() -> int:
    """Print a line a source."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[*bench_decode.ENCODE, *OTHERS])
    asked = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores; ns of a core a source voxel")
    images, bad = bench_decode.slices(asked.slices), 0
    with tempfile.TemporaryDirectory() as work:
        for name in asked.only:
            folder = Path(work) / name
            if name in OTHERS:
                kind, syntax = name, None
                folder.mkdir()
                OTHERS[name](folder, images)
            else:
                kind, syntax = "dicom", bench_decode.ENCODE[name][0]
                make_series(folder, name, images)
            measured = read_ns(kind, references(folder), asked.rounds)
            planned = 1e6 / voxels_ms(kind, syntax)
            good = LEAST <= measured / planned <= MOST
            bad += not good
            mark = "" if good else "  PLANNED BADLY"
            print(f"{name:14} {measured:6.1f}  planned {planned:6.1f}{mark}", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
