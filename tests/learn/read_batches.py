"""Reads or trains from a store in a process of its own, so that a test can kill it."""

import hashlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from tasks.learn.dataset import StoreCases, TrainingCase
from tasks.learn.loader import Loader
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.plan import NetworkPlan, plan_network
from tasks.learn.samples import Batch, Samples
from tests.learn import small_fold

SEED, EPOCH, BATCH, STEPS = 3, 2, 3, 12
CASES = "cases.json"


def make_store(root: Path) -> list[TrainingCase]:
    """Write a small store of volumes and masks, and the list of its cases beside it."""
    source, cases = small_fold.ball_cases(7, (20, 24, 18))
    stored = small_fold.write_store(root, source, cases)
    (root / CASES).write_text(json.dumps([asdict(case) for case in stored]))
    return stored


def read_cases(root: Path) -> list[TrainingCase]:
    """Return the cases of :func:`make_store`."""
    return [TrainingCase(**fields) for fields in json.loads((root / CASES).read_text())]


def plan(**fields) -> NetworkPlan:
    """Return a plan whose patches are smaller than the volumes."""
    settings = {"batch": BATCH, "steps_per_epoch": STEPS, "features": (4, 8)} | fields
    candidate = NetworkCandidate(name="u", network="unet3d", patch=(8, 16, 8), **settings)
    return plan_network(candidate, task="segmentation", shape=(20, 24, 18), n_classes=2)


def samples(root: Path) -> Samples:
    """Return the samples of the store."""
    cases = read_cases(root)
    ids = [case.case_id for case in cases]
    return Samples(plan(), StoreCases(str(root), cases), ids, {}, SEED)


def digest(batch: Batch) -> str:
    """Return a hash of everything a batch holds."""
    found = hashlib.sha256(batch.image.numpy().tobytes())
    found.update(batch.mask.numpy().tobytes())
    found.update(json.dumps(batch.params).encode())
    return found.hexdigest()


def read(root: str, readers: str, how: str, first: str, pause: str) -> None:
    """Print the digest of each batch from a step on, resting after each."""
    loader = Loader(
        samples(Path(root)),
        readers=int(readers),
        processes=how != "threads",
        start_method=how if how != "threads" else "spawn",
    )
    with loader:
        for batch in loader.batches(EPOCH, BATCH, first=int(first)):
            print(digest(batch), flush=True)
            time.sleep(float(pause))


def train(root: str, out_dir: str, processes: str) -> None:
    """Train a fold from the store, saying each step."""
    import torch

    from tasks.learn import training
    from tasks.learn.train import train_fold

    torch.set_num_threads(1)
    step = training.Training._step

    def said(self, batch, *rest):
        print(len(self.history), flush=True)
        return step(self, batch, *rest)

    training.Training._step = said
    cases = read_cases(Path(root))
    ids = [case.case_id for case in cases]
    train_fold(
        plan(epochs=3), root, cases, ids[:5], ids[5:], out_dir, SEED, device="cpu",
        preload_bytes=0, readers=2, reader_processes=processes == "processes",
    )  # fmt: skip


if __name__ == "__main__":
    {"read": read, "train": train}[sys.argv[1]](*sys.argv[2:])
