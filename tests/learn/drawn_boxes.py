"""Drawn squares and cubes with their boxes, also run as a program so that a test can kill it."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tasks.learn.boxes import boxes_of_instances, world_of
from tasks.learn.dataset import ArrayCases, TrainingCase
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.plan import NetworkPlan, plan_network

PICTURE, VOLUME = (1, 64, 64), (24, 32, 32)

AFFINE = np.array(
    [[0.0, 0.0, 0.7, -50.0], [0.0, -0.7, 0.0, 31.0], [2.0, 0.0, 0.0, 9.0], [0.0, 0.0, 0.0, 1.0]]
)
"""Axes turned and mirrored, sides of 2, .7 and .7 mm: what forgets the grid is seen."""


def drawn_cases(
    n: int, shape: tuple[int, int, int], *, classes: int = 1, empty: int = 4, seed: int = 0
) -> tuple[ArrayCases, list[TrainingCase]]:
    """Return images of noise with bright boxes in them, every so many-th without.

    Class 0 is bright, class 1 dark.
    """
    rng = np.random.default_rng(seed)
    images, labels, affines, cases = {}, {}, {}, []
    for i in range(n):
        image = (rng.normal(size=shape) * 0.3).astype(np.float32)
        mask, kinds = np.zeros(shape, np.uint16), []
        for _ in range(0 if i % empty == empty - 1 else 1 + i % 2):
            size = [1 if s == 1 else int(rng.integers(7, 13)) for s in shape]
            start = [int(rng.integers(0, s - a + 1)) for s, a in zip(shape, size, strict=True)]
            place = tuple(slice(a, a + b) for a, b in zip(start, size, strict=True))
            around = tuple(slice(max(0, p.start - 2), p.stop + 2) for p in place)
            if mask[around].any():
                continue
            kind = int(rng.integers(classes))
            image[place] += 2.0 if kind == 0 else -2.0
            mask[place] = len(kinds) + 1
            kinds.append(kind)
        case_id = f"{seed:016x}{i:016x}"
        images[case_id], labels[case_id], affines[case_id] = image, mask, AFFINE
        cases.append(labelled(case_id, boxes_of_instances(mask)[1], kinds, AFFINE))
    return ArrayCases(images, labels, affines=affines), cases


def labelled(
    case_id: str, box: np.ndarray, kinds: Sequence[int], affine: np.ndarray
) -> TrainingCase:
    """Return a case with boxes (b, 2, 3) of a grid told as places in the patient."""
    centre, edges = world_of(box, affine)
    rows = np.column_stack([kinds, centre, edges.reshape(-1, 9), np.zeros(len(kinds))])
    boxes = tuple(tuple(row) for row in rows.tolist())
    return TrainingCase(case_id, case_id, "part", label_part_path="label", boxes=boxes)


def detector_plan(network: str, **fields) -> NetworkPlan:
    """Return a plan that trains in seconds."""
    shape = VOLUME if network == "retinanet3d" else PICTURE
    classes = fields.pop("n_classes", 1)
    settings = {
        "epochs": 2, "batch": 4, "features": (8, 16, 24), "augment": "none", "patch": shape,
    } | fields  # fmt: skip
    size = (1.0, 9.0, 9.0) if shape[0] == 1 else (9.0, 9.0, 9.0)
    return plan_network(
        NetworkCandidate(name="tiny", network=network, **settings),
        task="detection", shape=shape, n_classes=classes, box_sizes=[size],
    )  # fmt: skip


def main(out_dir: str, pause: str) -> None:
    """Train a fold, resting after every epoch so that a kill finds it between two."""
    import torch

    from tasks.learn.train import train_fold

    torch.set_num_threads(1)
    source, cases = drawn_cases(16, PICTURE)
    ids = [case.case_id for case in cases]

    def rest(record: dict) -> None:
        print(record["epoch"], flush=True)
        time.sleep(float(pause))

    train_fold(
        detector_plan("retinanet2d", augment="detection2d"), source, cases, ids[:12], ids[12:],
        Path(out_dir), 7, on_epoch=rest, device="cpu",
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
