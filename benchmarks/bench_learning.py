"""Validation AUROC of classifiers on PneumoniaMNIST (28 x 28) and AdrenalMNIST3D (28^3).

    python benchmarks/bench_learning.py [--sets pneumonia,adrenal] [--seeds 1] [--network small_cnn]
        [--epochs N] [--lr X] [--slices attention|max] [--choose] [--data ../shared/data/labelled]

radloop's own loop (`tasks.learn.train.train_fold`) learns from the published training split and is
judged on the published validation split, which chooses nothing: the last epoch is kept. The test
split is not looked at. Images are z-scored, each by itself; masks are 0 and 1. The interval is
DeLong's on the logit scale. With several seeds the line shows the first and the spread of all.
Bars: .99 and .86 (Yang et al. 2023 report test AUROCs of .944 to .991 and .718 to .839).
``--choose`` compares budgets and learning rates (`CHOICES`) on the training split alone: a fifth of
it, by class, is judged by what the others teach.  What was trained is kept below
benchmarks/results/learning, by the digest of the code, so a run that was stopped goes on.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np
import torch
from run_all import HERE, ROOT, digest_of_code

from tasks.evaluate.delong import auroc_interval
from tasks.learn.dataset import ArrayCases, TrainingCase
from tasks.learn.fold import FoldResult
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.plan import NetworkPlan, plan_network
from tasks.learn.train import train_fold

DATA = ROOT.parent / "shared" / "data" / "labelled"
KEPT = HERE / "results" / "learning"

SETS = {
    "pneumonia": ("pneumoniamnist_trainval.npz", 0.99),
    "adrenal": ("adrenalmnist3d_trainval.npz", 0.86),
}
"""File, and the validation AUROC aimed at."""

SETTINGS = {
    "pneumonia": {"features": (32, 64, 128), "epochs": 14, "augment": "radiograph", "ema": 0.99},
    # A gland is cut out without its surroundings, so any mirroring is another gland.
    # How thick it is, is what counts: no change of size.
    "adrenal": {"features": (16, 32, 64), "epochs": 24, "batch": 16, "ema": 0.98,
                "augment": {"flip": ["z", "y", "x"]}},
}  # fmt: skip

TURNED = {"flip": ["z", "y", "x"], "rotate": 15, "shift": 0.05}

CHOICES = {
    "pneumonia": ({"lr": 2e-3, "epochs": 14},),
    "adrenal": (
        {"lr": 2e-3, "epochs": 24},
        {"lr": 2e-3, "epochs": 24, "augment": TURNED},
        {"lr": 5e-3, "epochs": 24},
    ),
}
"""What ``--choose`` tries."""


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
                images[case_id] = graded(image if image.ndim == 3 else image[None])
                # The splits are by patient; which image is whose is not published.
                case = TrainingCase(case_id, case_id, "", target=int(target))
                cases.setdefault(side, []).append(case)
    return ArrayCases(images), cases


def graded(image: np.ndarray) -> np.ndarray:
    """Return a mask as 0 and 1, any other image z-scored."""
    if set(np.unique(image)) <= {0.0, 255.0}:
        return image / 255
    return (image - image.mean()) / max(float(image.std()), 1e-6)


def plan_of(name: str, shape: tuple[int, ...], asked: dict[str, object]) -> NetworkPlan:
    """Return the plan of a set, with what is asked otherwise."""
    settings = dict(SETTINGS[name])
    if asked.get("network", "small_cnn") != "small_cnn":
        del settings["features"]
    candidate = NetworkCandidate(name=name, **settings | asked)
    return plan_network(candidate, task="classification", shape=shape, n_classes=2)


def train(
    plan: NetworkPlan,
    source: ArrayCases,
    cases: list[TrainingCase],
    sides: list[list[str]],
    seed: int,
) -> FoldResult:
    """Train once, or go on where a run of this code was stopped; a line for each look."""

    def tell(record: dict) -> None:
        if plan.looks(record["epoch"]):
            said = f"loss {record['val_loss']:.3f}, AUROC {record['val_auroc']:.4f}"
            print(f"  epoch {record['epoch']}: {said}, {record['seconds']:.0f} s", flush=True)

    words = "\0".join((digest_of_code(ROOT), plan.model_dump_json(), str(seed), *sides[1]))
    folder = KEPT / hashlib.sha256(words.encode()).hexdigest()[:12]
    return train_fold(plan, source, cases, *sides, folder, seed, on_epoch=tell, device="cpu")


def area(cases: list[TrainingCase], result: FoldResult) -> tuple[float, str]:
    """Return the AUROC of the judged side, and in words with its interval."""
    target = {case.case_id: case.target for case in cases}
    ill = np.array([target[case_id] == 1 for case_id in result.val_ids])
    value, lo, hi, _ = auroc_interval(ill, result.val_probability[:, 1])
    return value, f"AUROC {value:.4f} [{lo:.4f}, {hi:.4f}]"


def choose(name: str, source: ArrayCases, cases: list[TrainingCase], asked: dict) -> None:
    """Compare what `CHOICES` says of a set on a fifth of its training side."""
    from sklearn.model_selection import StratifiedKFold

    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    split = next(folds.split(cases, [case.target for case in cases]))
    sides = [[cases[i].case_id for i in side] for side in split]
    for one in CHOICES[name]:
        shape = next(iter(source.images.values())).shape
        result = train(plan_of(name, shape, asked | one), source, cases, sides, 0)
        print(
            f"{name}: {one}, {len(sides[0])} to learn from, {len(sides[1])} of the training side "
            f"judged: {area(cases, result)[1]}, {result.seconds:.0f} s",
            flush=True,
        )


def judge(name: str, source: ArrayCases, cases: dict, asked: dict, seeds: int) -> bool:
    """Train on the training side, print the figure of the other; whether the bar is met."""
    everyone = [*cases["train"], *cases["val"]]
    sides = [[case.case_id for case in cases[side]] for side in ("train", "val")]
    plan, bar = plan_of(name, next(iter(source.images.values())).shape, asked), SETS[name][1]
    results = [train(plan, source, everyone, sides, seed) for seed in range(seeds)]
    values, words = zip(*(area(everyone, result) for result in results), strict=True)
    spread = f", seeds {min(values):.4f} to {max(values):.4f}" if seeds > 1 else ""
    print(
        f"{name}: {words[0]}{spread}, {len(sides[1])} judged, {len(sides[0])} learnt from, "
        f"{plan.network}, {plan.epochs} epochs, rate {plan.lr:g}, {results[0].seconds:.0f} s of "
        f"{torch.get_num_threads()} threads; bar {bar}: {'met' if values[0] >= bar else 'MISSED'}",
        flush=True,
    )
    return values[0] >= bar


def main() -> int:
    """Run the sets; 1 when a bar is missed, 2 without data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--network")
    parser.add_argument("--slices", choices=("attention", "max"))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--choose", action="store_true", help="on the training side alone")
    parser.add_argument("--data", type=Path, default=DATA)
    words = parser.parse_args()
    if not words.data.is_dir():
        print(f"no data at {words.data}; give --data")
        return 2
    said = {name: getattr(words, name) for name in ("network", "slices", "epochs", "lr")}
    asked = {name: value for name, value in said.items() if value is not None}
    met = True
    for name in words.sets.split(","):
        source, cases = read(words.data / SETS[name][0])
        if words.choose:
            choose(name, source, cases["train"], asked)
        else:
            met &= judge(name, source, cases, asked, words.seeds)
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
