"""Write and random-read speed of a part beside other stores on the same voxels in the same run.

    python benchmarks/bench_store.py [--volumes 6] [--seconds 0.4] [--rounds 5]

Our write is the whole protocol (staging, digests, read back, manifest, sync, rename); the peers
promise none of it. Our reads check every chunk's checksum; nnU-Net's blosc2 has none. The peers run
in a process of their own (`make bench` makes its environment) which works only while ours waits;
both sit on the same core. Speeds are per second of processor time, so that other load on the
machine meets nobody; medians of the rounds, which alternate. The page cache is warm.
"""

import argparse
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from peer_process import PEERS, Peers
from scipy.ndimage import gaussian_filter

from tasks.store.read import open_part
from tasks.store.write import Prepared, write_part

SHAPE = (160, 320, 320)
BOXES = {
    "64^3": (64, 64, 64),
    "96^3": (96, 96, 96),
    "128^3": (128, 128, 128),
    "slice": (1, 320, 320),
    "volume": SHAPE,
}
READERS = ("nnU-Net blosc2", "zarr-python 64^3", "TensorStore", "zarrs", "zarr-python")
WRITERS = ("nnU-Net blosc2", "zarr-python 64^3")

NNUNET_BAR = 0.8
"""Least patches of 96^3 for each of nnU-Net's; 1 is the aim."""

ZARR_BAR = 4.0
"""Least patches of 96^3 for each that zarr-python reads out of shards with inner chunks of 64^3."""

WRITE_BAR = 200.0
"""Least megabytes of voxels written in a second of one core, all of the protocol counted."""


def volume(seed: int) -> np.ndarray:
    """Return int16 noise as correlated as that of a CT, on air, (z, y, x)."""
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.normal(0, 60, SHAPE).astype(np.float32), (0, 1, 1))
    y, x = np.indices(SHAPE[1:])
    body = ((y - 160) / 120) ** 2 + ((x - 160) / 150) ** 2 < 1
    return np.where(body, noise + 40, -1000).astype(np.int16)


def write_ours(root: Path, volumes: dict[str, np.ndarray]) -> tuple[float, str]:
    """Write one committed part; return seconds of processor time and its path."""
    begun = time.process_time()
    record = write_part(
        str(root),
        "a" * 32,
        "image",
        "b" * 32,
        list(volumes),
        lambda case_id: Prepared(volumes[case_id], np.eye(4), (), {}, {}),
        dtype="int16",
    )
    return time.process_time() - begun, record.path


def boxes_a_second(read: Callable, names: list[str], box: tuple, spent: float) -> float:
    """Return random boxes read in a second of processor time."""
    rng, count, begun = np.random.default_rng(1), 0, time.process_time()
    while time.process_time() - begun < spent:
        start = [int(rng.integers(0, n - edge + 1)) for n, edge in zip(SHAPE, box, strict=True)]
        stop = [low + edge for low, edge in zip(start, box, strict=True)]
        read(names[int(rng.integers(len(names)))], start, stop)
        count += 1
    return count / (time.process_time() - begun)


def size_of(folder: Path) -> int:
    """Return the bytes of every file below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(asked: argparse.Namespace, work: Path, peers: Peers) -> tuple[dict, dict, dict]:
    """Return megabytes written, boxes read and compression, by name."""
    volumes = {f"{number:032x}": volume(number) for number in range(asked.volumes)}
    paths = [str(work / f"{name}.npy") for name in volumes]
    for path, array in zip(paths, volumes.values(), strict=True):
        np.save(path, array)
    peers.ask(do="load", paths=paths)
    megabytes = sum(array.nbytes for array in volumes.values()) / 1e6
    written: dict[str, list[float]] = {name: [] for name in ("radloop", *WRITERS)}
    for _ in range(asked.rounds):
        shutil.rmtree(work / "ours", ignore_errors=True)
        spent, path = write_ours(work / "ours", volumes)
        written["radloop"].append(megabytes / spent)
        for name in WRITERS:
            shutil.rmtree(work / name, ignore_errors=True)
            spent = peers.ask(do="write", folder=str(work), peer=name)
            written[name].append(megabytes / spent)
    part = open_part(str(work / "ours"), path)
    where = {"folder": str(work), "part": str(work / "ours" / path), "names": list(volumes)}
    wrong = peers.ask(do="open", **where)
    if wrong:
        raise RuntimeError(f"other voxels from {', '.join(wrong)}: nothing here can be compared")
    read = {(name, box): [] for box in BOXES for name in ("radloop", *READERS)}
    for _ in range(asked.rounds):
        for title, box in BOXES.items():
            speed = boxes_a_second(part.read_patch, list(volumes), box, asked.seconds)
            read["radloop", title].append(speed)
            for name in READERS:
                found = peers.ask(do="read", peer=name, box=box, seconds=asked.seconds)
                read[name, title].append(found)
    smaller = {
        name: megabytes * 1e6 / size_of(work / ("ours" if name == "radloop" else name))
        for name in written
    }
    return (
        {name: median(speeds) for name, speeds in written.items()},
        {key: median(speeds) for key, speeds in read.items()},
        smaller,
    )


def main() -> int:
    """Print the tables and say which bars are missed; 1 when any is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volumes", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=0.4)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    if not PEERS.exists():
        print("the peers are not installed: run `make bench`, which makes .venv-peers")
        return 1
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    peers = Peers("store_peers.py")
    with tempfile.TemporaryDirectory() as folder:
        written, read, smaller = measure(asked, Path(folder), peers)
    peers.close()
    print(
        f"{platform.processor() or platform.machine()}, one core, Python {sys.version.split()[0]}"
    )
    print(f"{asked.volumes} volumes of {SHAPE} int16, warm, medians of {asked.rounds} rounds")
    for name, speed in written.items():
        print(f"write  {name:18s} {speed:7.0f} MB/s  1 : {smaller[name]:.2f}")
    print(f"read   {'boxes/s':18s}" + "".join(f"{title:>14s}" for title in BOXES))
    for name in ("radloop", *READERS):
        cells = [
            f"{read[name, box]:7.0f} ({read['radloop', box] / read[name, box]:4.2f})"
            for box in BOXES
        ]
        print(f"read   {name:18s}" + "".join(f"{cell:>14s}" for cell in cells))
    print("       in brackets: boxes radloop reads for each one of this row")
    bars = {
        "96^3 patches to nnU-Net's": (
            read["radloop", "96^3"] / read["nnU-Net blosc2", "96^3"],
            NNUNET_BAR,
        ),
        "96^3 patches to zarr-python's at 64^3": (
            read["radloop", "96^3"] / read["zarr-python 64^3", "96^3"],
            ZARR_BAR,
        ),
        "MB/s written a core": (written["radloop"], WRITE_BAR),
    }
    for title, (found, bar) in bars.items():
        print(
            f"bar    {title}: {found:.2f}, at least {bar:g}: {'ok' if found >= bar else 'MISSED'}"
        )
    return int(any(found < bar for found, bar in bars.values()))


if __name__ == "__main__":
    sys.exit(main())
