"""Validation AUROC of classifiers on PneumoniaMNIST (28 x 28) and AdrenalMNIST3D (28^3).

    python benchmarks/bench_learning.py [--sets pneumonia,adrenal] [--seeds 1] [--network small_cnn]
        [--epochs N] [--slices attention|max] [--data ../shared/data/labelled]

radloop's own loop (`tasks.learn.train.train_fold`) learns from the published training split and is
judged on the published validation split, which also chooses the best epoch; the test split is not
looked at. Images are z-scored, each by itself. The interval is DeLong's on the logit scale. With
several seeds the line shows the first and the spread of all. Bars: .99 and .86 (Yang et al. 2023
report test AUROCs of .944 to .991 and .718 to .839).
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from tasks.evaluate.delong import auroc_interval
from tasks.learn.dataset import ArrayCases, TrainingCase
from tasks.learn.fold import FoldResult
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.plan import NetworkPlan, plan_network
from tasks.learn.train import train_fold

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "labelled"

SETS = {
    "pneumonia": ("pneumoniamnist_trainval.npz", 0.99),
    "adrenal": ("adrenalmnist3d_trainval.npz", 0.86),
}
"""File, and the validation AUROC aimed at."""

SETTINGS = {
    "pneumonia": {"features": (32, 64, 128), "epochs": 14, "augment": "radiograph", "ema": 0.99},
    # A gland is cut out without its surroundings, so any mirroring is another gland.
    "adrenal": {"features": (16, 32, 64), "epochs": 14, "batch": 16, "ema": 0.98,
                "augment": {"flip": ["z", "y", "x"], "rotate": 15, "scale": 0.15, "shift": 0.05}},
}  # fmt: skip


def read(path: Path) -> tuple[ArrayCases, dict[str, list[TrainingCase]]]:
    """Return the images (z, y, x) and the cases of both sides."""
    images: dict[str, np.ndarray] = {}
    cases: dict[str, list[TrainingCase]] = {}
    with np.load(path) as file:
        for side in ("train", "val"):
            labels = file[f"{side}_labels"].ravel()
            for number, (image, target) in enumerate(
                zip(file[f"{side}_images"].astype(np.float32), labels, strict=True)
            ):
                case_id = f"{side}{number}"
                volume = image if image.ndim == 3 else image[None]
                images[case_id] = (volume - volume.mean()) / max(float(volume.std()), 1e-6)
                # The splits are by patient; which image is whose is not published.
                case = TrainingCase(case_id, case_id, "", target=int(target))
                cases.setdefault(side, []).append(case)
    return ArrayCases(images), cases


def plan_of(name: str, shape: tuple[int, ...], asked: argparse.Namespace) -> NetworkPlan:
    """Return the plan of a set, with what the command line changes."""
    settings = dict(SETTINGS[name]) | {"network": asked.network, "slices": asked.slices}
    if asked.network != "small_cnn":
        del settings["features"]
    if asked.epochs:
        settings["epochs"] = asked.epochs
    candidate = NetworkCandidate(name=name, **settings)
    return plan_network(candidate, task="classification", shape=shape, n_classes=2)


def train(
    plan: NetworkPlan, source: ArrayCases, cases: dict[str, list[TrainingCase]], seed: int
) -> FoldResult:
    """Train once, with a line an epoch."""

    def tell(record: dict) -> None:
        said = f"loss {record['val_loss']:.3f}, AUROC {record['val_auroc']:.4f}"
        print(f"  epoch {record['epoch']}: {said}, {record['seconds']:.0f} s", flush=True)

    sides = [[case.case_id for case in cases[side]] for side in ("train", "val")]
    everyone = [*cases["train"], *cases["val"]]
    with tempfile.TemporaryDirectory() as folder:
        return train_fold(plan, source, everyone, *sides, folder, seed, on_epoch=tell, device="cpu")


def main() -> int:
    """Run the sets; 1 when a bar is missed, 2 without data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--network", default="small_cnn")
    parser.add_argument("--slices", choices=("attention", "max"))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--data", type=Path, default=DATA)
    asked = parser.parse_args()
    if not asked.data.is_dir():
        print(f"no data at {asked.data}; give --data")
        return 2
    missed = False
    for name in asked.sets.split(","):
        file, bar = SETS[name]
        source, cases = read(asked.data / file)
        plan = plan_of(name, next(iter(source.images.values())).shape, asked)
        target = np.array([case.target for case in cases["val"]])
        found, lines = [], []
        for seed in range(asked.seeds):
            began = time.perf_counter()
            result = train(plan, source, cases, seed)
            seconds = time.perf_counter() - began
            value, lo, hi, _ = auroc_interval(target == 1, result.val_probability[:, 1])
            found.append(value)
            lines.append(f"{value:.4f} [{lo:.4f}, {hi:.4f}] in {seconds:.0f} s")
        spread = f", seeds {min(found):.4f} to {max(found):.4f}" if len(found) > 1 else ""
        missed |= found[0] < bar
        print(
            f"{name}: {asked.network}, {len(cases['train'])} to learn from, {len(target)} judged, "
            f"{torch.get_num_threads()} threads: AUROC {lines[0]}{spread}; "
            f"bar {bar}: {'met' if found[0] >= bar else 'MISSED'}",
            flush=True,
        )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
