"""The hippocampus' folds as radloop and nnU-Net train them, and the records that are kept of it.

What bench_hippocampus.py compares: `trained` returns a record, or trains for it.  Images are
z-scored, each by itself; folds are nnU-Net's; masks of both are measured by radloop's Dice.
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
KEPT = HERE / "results" / "hippocampus"
PEERS = HERE.parent / ".venv-peers" / "bin" / "python"

FOLDS = 5

MEMORY_GB = 0.5
"""What both planners are given."""

NETWORK = {"network": "unet3d", "gpu_memory_gb": MEMORY_GB, "flip_tta": ["x"]}
"""radloop's candidate, that of the scenario `hippocampus`; `epochs` comes from the budget."""


@dataclass(frozen=True)
class Trained:
    """One fold of one program."""

    program: str
    minutes: float
    """Core minutes granted to all folds together."""
    fold: int
    seed: int
    dice: dict[str, list[float]]
    """By case: anterior and posterior."""
    core_seconds: float
    wall_seconds: float
    samples: int
    code: str
    candidate: dict | None = None
    """radloop's, as it was trained."""

    @property
    def taken(self) -> bool:
        """Whether the script trains it so still; radloop's records of before name no candidate."""
        settings = {n: v for n, v in (self.candidate or {}).items() if n != "epochs"}
        return self.program != "radloop" or settings == NETWORK


def cases(data: Path) -> list[str]:
    """Return the names of all cases, sorted."""
    return sorted(file.name.removesuffix(".nii.gz") for file in (data / "imagesTr").iterdir())


def sides(names: Sequence[str], fold: int) -> tuple[list[str], list[str]]:
    """Return the two sides of a fold as nnU-Net splits."""
    from sklearn.model_selection import KFold

    splits = list(KFold(FOLDS, shuffle=True, random_state=12345).split(names))
    return tuple([names[i] for i in side] for side in splits[fold])


def read(file: Path):
    """Return the voxels of a NIfTI file, (z, y, x)."""
    import nibabel
    import numpy as np

    return np.asarray(nibabel.load(file).dataobj).T


def by_radloop(data: Path, fold: int, seed: int, seconds: float, place: Path) -> dict:
    """Train a fold for so many core seconds and return the record."""
    import numpy as np

    from tasks.learn.dataset import ArrayCases, TrainingCase
    from tasks.learn.network_candidate import NetworkCandidate
    from tasks.learn.plan import plan_network
    from tasks.learn.train import train_fold

    images, masks = {}, {}
    for name in (names := cases(data)):
        image = read(data / "imagesTr" / f"{name}.nii.gz").astype(np.float32)
        images[name] = (image - image.mean()) / image.std()
        masks[name] = read(data / "labelsTr" / f"{name}.nii.gz").astype(np.uint8)
    source, everyone = ArrayCases(images, masks), [TrainingCase(n, n, "") for n in names]
    learnt, judged = sides(names, fold)
    shape = tuple(np.median([images[n].shape for n in learnt], axis=0))

    def fit(settings: dict, out: Path, tell=None):
        candidate = NetworkCandidate(name="radloop", **settings)
        plan = plan_network(
            candidate, task="segmentation", shape=shape, n_classes=3, n_cases=len(learnt)
        )
        return plan, train_fold(plan, source, everyone, learnt, judged, out, seed,
                                on_epoch=tell, device="cpu")  # fmt: skip

    asked = place / "candidate.json"
    if not asked.exists():  # a run that goes on keeps what it was given
        place.mkdir(parents=True, exist_ok=True)
        asked.write_text(json.dumps(NETWORK | {"epochs": affordable(fit, seconds)}))
    settings = json.loads(asked.read_text())
    begun, wall = time.process_time(), time.perf_counter()
    plan, result = fit(settings, place)
    return {
        "candidate": settings,
        "dice": {n: d.tolist() for n, d in zip(result.val_ids, result.val_dice, strict=True)},
        "core_seconds": time.process_time() - begun,
        "wall_seconds": time.perf_counter() - wall,
        "samples": plan.epochs * max(1, len(learnt) // plan.batch) * plan.batch,
    }


def affordable(fit: Callable, seconds: float) -> int:
    """Return how many epochs fit into so many core seconds, with their looks at the other side."""
    from tasks.learn.plan import LOOKS

    told: list[tuple[float, dict]] = []
    with tempfile.TemporaryDirectory() as folder:
        fit(
            NETWORK | {"epochs": 2},
            Path(folder),
            lambda record: told.append((time.process_time(), record)),
        )
    (begun, _), (ended, record) = told
    both = ended - begun
    train = both * record["train_seconds"] / record["seconds"]
    # Of a few epochs each is looked at, of many `LOOKS`: whichever lets more fit is the true one.
    return max(1, int(seconds / both), int((seconds - LOOKS * (both - train)) / train))


def by_nnunet(data: Path, fold: int, seed: int, seconds: float, place: Path) -> dict:
    """Train a fold of nnU-Net in the peers' environment and return the record."""
    import numpy as np

    from tasks.evaluate.config import MaskConfig
    from tasks.evaluate.segmentation import mask_figures

    work, peer = KEPT / "nnunet", HERE / "hippocampus_peer.py"
    if not (work / "ready").exists():
        _peer(peer, "prepare", work, data, MEMORY_GB)
        (work / "ready").touch()
    _peer(peer, "train", work, fold, seed, seconds, place)
    record = json.loads((place / "record.json").read_text())
    dice = {}
    for name in sides(cases(data), fold)[1]:
        truth = read(data / "labelsTr" / f"{name}.nii.gz")
        said = read(place / "validation" / f"{name}.nii.gz")
        figures = mask_figures(truth, np.asarray(said), (1.0, 1.0, 1.0), 2, MaskConfig())
        dice[name] = [float(value) for value in figures.dice]
    return {
        "dice": dice,
        "core_seconds": record["core_seconds"],
        "wall_seconds": record["wall_seconds"],
        "samples": record["batches"] * record["batch"],
    }


def _peer(*words: object) -> None:
    done = subprocess.run([PEERS, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"nnU-Net ended with {done.returncode}:\n{done.stderr[-2000:]}")


PROGRAMS = {"radloop": by_radloop, "nnunet": by_nnunet}


def trained(program: str, minutes: float, fold: int, seed: int, data: Path) -> Trained:
    """Return what was trained before, or train it now."""
    name = f"{program}-{minutes:g}-{fold}-{seed}"
    file = KEPT / f"{name}.json"
    if not file.exists() or not read_record(file).taken:
        record = PROGRAMS[program](data, fold, seed, minutes * 60 / FOLDS, KEPT / name)
        record |= {"program": program, "minutes": minutes, "fold": fold, "seed": seed}
        record["code"] = _commit()
        beside = file.with_suffix(".part")
        beside.write_text(json.dumps(record))
        beside.replace(file)
    return read_record(file)


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=HERE, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip() or "unknown"


def read_record(file: Path) -> Trained:
    """Return what a file tells of a training."""
    return Trained(**json.loads(file.read_text()))


def there() -> Iterator[Trained]:
    """Yield everything that was trained as the script trains it."""
    records = map(read_record, sorted(KEPT.glob("*-*-*-*.json")))
    return (record for record in records if record.taken)
