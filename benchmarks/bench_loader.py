"""Patches a second of the data set over the store beside MONAI's and TorchIO's on the same volumes.

    python benchmarks/bench_loader.py [--volumes 6] [--seconds 4] [--rounds 3] [--no-training]

Patches of 96^3 of int16 volumes of 120x512x512 with a mask each, ending as float32 image and mask;
no augmentation. Ours and TorchIO's are centred on foreground a third of the time, MONAI's never.
CacheDataset holds every volume as float32, and copies it before it cuts, as is its default; the row
without that copy (``copy_cache=False``) is the bound of what memory gives. PersistentDataset and
TorchIO read files; we read the store and hold nothing. The peers run in a process of their own,
which works only while ours waits.
``alone`` is the loader by itself; ``wait`` is the share of the time a step of 50 ms a patch (a
device's, which leaves the processor free) waits for it. The last rows train a small network on the
CPU, augmentation included, by threads and by processes, and show memory against the number of
cases.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch
from loader_data import (
    READERS,
    SHAPE,
    SMALL,
    memory_slope,
    resident_kb,
    volume,
    write,
    write_for_peers,
)
from peer_process import PEERS, Peers

from tasks.learn.dataset import StoreCases, TrainingCase
from tasks.learn.fold import Fold
from tasks.learn.loader import Loader
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.plan import NetworkPlan, plan_network
from tasks.learn.samples import Samples
from tasks.learn.training import Training

PATCH = (96, 96, 96)
CROPS = 4
"""Patches of one volume that MONAI and TorchIO cut each time they have it, and of our batch."""

STEP_SECONDS = 0.05
"""What a step on a device takes for each patch."""

PEER_NAMES = ("CacheDataset", "CacheDataset uncopied", "PersistentDataset", "TorchIO")

CACHE_BAR = 2.5
"""Least patches for each of CacheDataset's, which holds all of them in memory."""

TORCHIO_BAR = 10.0
"""Least patches for each of TorchIO's."""

SLOPE_BAR = 40.0
"""Most kilobytes of memory that one more case may cost: 40 MB a thousand. A mask has thirty MB."""


def unet(steps: int, augment: str) -> NetworkPlan:
    """Return a plan of a small U-Net over the patches."""
    candidate = NetworkCandidate(
        name="loader", network="unet3d", patch=PATCH, batch=CROPS, features=(4, 8, 16), epochs=1,
        steps_per_epoch=steps, augment=augment,
    )  # fmt: skip
    return plan_network(candidate, task="segmentation", shape=SHAPE, n_classes=2)


def endless(loader: Loader) -> Iterator[torch.Tensor]:
    """Yield the batches of epoch after epoch, converted as a device would convert them."""
    epoch = 0
    while True:
        for batch in loader.batches(epoch, CROPS):
            image, mask = batch.on(torch.device("cpu"))
            yield torch.stack((image[:, 0], mask.to(torch.float32)), 1)
        epoch += 1


def patches(batches: Iterator[torch.Tensor], step: float, seconds: float) -> tuple[float, float]:
    """Return patches a second and the share of the time spent waiting; ``step`` is the work."""
    count, waited, begun = 0, 0.0, time.perf_counter()
    while (now := time.perf_counter()) - begun < seconds:
        batch = next(batches)
        waited += time.perf_counter() - now
        count += len(batch)
        time.sleep(step * len(batch))
    spent = time.perf_counter() - begun
    return count / spent, waited / spent


def loaders(root: Path, cases: list[TrainingCase]) -> dict[str, Loader]:
    """Return our loaders by name."""
    ids = [case.case_id for case in cases]
    samples = Samples(unet(1000, "none"), StoreCases(str(root), cases), ids, {}, 0)
    return {
        "one reader": Loader(samples, readers=0),
        f"{READERS} threads": Loader(samples, readers=READERS),
        f"{READERS} processes": Loader(samples, readers=READERS, processes=True),
    }


def measure(asked: argparse.Namespace, folder: Path, root: Path, cases: list, places: dict) -> dict:
    """Return (patches a second alone, share waited) by name, medians of rounds taken in turn."""
    peers = Peers("loader_peers.py")
    extra = {}
    for name in PEER_NAMES:
        extra[name] = peers.ask(
            do="open", peer=name, patch=PATCH, crops=CROPS, folder=str(folder), **places
        )
    before = resident_kb()
    ours = loaders(root, cases)
    running = {name: endless(loader) for name, loader in ours.items()}
    for batches in running.values():
        next(batches)
    extra["radloop"] = (resident_kb() - before) / 1e3
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(asked.rounds):
        for name, batches in running.items():
            alone, _ = patches(batches, 0.0, asked.seconds)
            _, waited = patches(batches, STEP_SECONDS, asked.seconds)
            found.setdefault(name, []).append((alone, waited))
        for name in PEER_NAMES:
            order = {"do": "read", "peer": name, "seconds": asked.seconds}
            alone, _ = peers.ask(step=0.0, **order)
            _, waited = peers.ask(step=STEP_SECONDS, **order)
            found.setdefault(name, []).append((alone, waited))
    peers.close()
    for loader in ours.values():
        loader.close()
    print(f"memory {'radloop':20s} {extra.pop('radloop'):8.0f} MB more in our process")
    for name, megabytes in extra.items():
        print(f"memory {name:20s} {megabytes:8.0f} MB more in the peers' process")
    return {name: tuple(map(median, zip(*rows, strict=True))) for name, rows in found.items()}


def train_rows(root: Path, cases: list[TrainingCase]) -> None:
    """Print patches a second of an epoch of training on the CPU, by threads and by processes."""
    ids = tuple(case.case_id for case in cases)
    plan, source = unet(4, "volume"), StoreCases(str(root), cases)
    samples = Samples(plan, source, ids, {}, 0)
    fold = Fold(plan, source, {}, ids, ids, 0)
    for processes in (False, True):
        training = Training(fold, torch.device("cpu"), plan.batch)
        with Loader(samples, readers=READERS, processes=processes) as loader:
            next(loader.batches(0, plan.batch))
            epoch = training.train_epoch(loader)
        who = "processes" if processes else "threads"
        print(
            f"train  {READERS} {who:20s} {epoch['samples_a_second']:7.2f} patches/s, augmented, "
            f"data wait {epoch['data_wait']:.1%}",
            flush=True,
        )


def main() -> int:
    """Print the tables and say which bars are missed; 1 when any is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volumes", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-training", action="store_true")
    asked = parser.parse_args()
    if not PEERS.exists():
        print("the peers are not installed: run `make bench`, which makes .venv-peers")
        return 1
    torch.set_num_threads(1)
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {os.cpu_count()} cores, Python {sys.version.split()[0]}")
    print(f"{asked.volumes} volumes of {SHAPE} int16, patches of {PATCH}, warm")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        slope = memory_slope(folder)
        print(f"memory {slope:.1f} kB more for each more case of {SMALL}", flush=True)
        volumes = {f"{number:032x}": volume(number) for number in range(asked.volumes)}
        root = folder / "store"
        cases, places = write(root, volumes), write_for_peers(folder, volumes)
        del volumes
        found = measure(asked, folder, root, cases, places)
        best = max(found[n][0] for n in found if n not in PEER_NAMES)
        for title, (alone, waited) in found.items():
            ratio = f"({best / alone:5.2f})"
            print(f"load   {title:22s} {alone:7.1f} patches/s {ratio}, wait {waited:.1%}")
        print("       in brackets: patches our fastest gives for each one of this row")
        if not asked.no_training:
            train_rows(root, cases)
    bars = {
        "patches to CacheDataset's": (best / found["CacheDataset"][0], CACHE_BAR, True),
        "patches to TorchIO's": (best / found["TorchIO"][0], TORCHIO_BAR, True),
        "kB of memory a case": (slope, SLOPE_BAR, False),
    }
    missed = 0
    for title, (value, bar, least) in bars.items():
        good = value >= bar if least else value <= bar
        missed += not good
        words = "at least" if least else "at most"
        print(f"bar    {title}: {value:.2f}, {words} {bar:g}: {'ok' if good else 'MISSED'}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
