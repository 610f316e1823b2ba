"""One small fold made in code, also run as a program so that a test can kill it."""

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from tasks.hashing import digest_json
from tasks.learn.dataset import ArrayCases, TrainingCase
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.plan import NetworkPlan, plan_network
from tasks.store.write import Prepared, write_part

SIZE = 24


def bright_square_cases(n: int, seed: int = 0) -> tuple[ArrayCases, list[TrainingCase]]:
    """Return images of noise; those of class 1 hold a brighter square somewhere."""
    rng = np.random.default_rng(seed)
    images, cases = {}, []
    for i in range(n):
        image = rng.normal(size=(1, SIZE, SIZE)).astype(np.float32)
        if i % 2:
            y, x = rng.integers(2, SIZE - 10, 2)
            image[0, y : y + 8, x : x + 8] += 2.5
        case_id = f"{seed:016x}{i:016x}"
        images[case_id] = image
        cases.append(TrainingCase(case_id, f"patient{i}", "part", target=i % 2))
    return ArrayCases(images), cases


def ball_cases(n: int, shape: tuple[int, int, int], seed: int = 0) -> tuple[ArrayCases, list]:
    """Return noisy volumes with a bright ball (class 1) whose mask is known."""
    rng = np.random.default_rng(seed)
    images, labels, cases = {}, {}, []
    grid = np.indices(shape)
    for i in range(n):
        centre = [rng.integers(min(4, s // 2), max(s - 4, s // 2 + 1)) for s in shape]
        inside = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= 4**2
        case_id = f"{seed:016x}{i:016x}"
        images[case_id] = (rng.normal(size=shape) * 0.3 + 2 * inside).astype(np.float32)
        labels[case_id] = inside.astype(np.uint8)
        cases.append(TrainingCase(case_id, f"patient{i}", "part", label_part_path="label"))
    return ArrayCases(images, labels), cases


def write_store(root, source, cases, *, fixed_shape=None, affine=None):
    """Write the cases as an image part and, where there are masks, a label part."""
    ids = [case.case_id for case in cases]
    recipe = digest_json("recipe")

    grid = np.eye(4) if affine is None else affine

    def prepared(arrays):
        return lambda case_id: Prepared(arrays[case_id], grid, (), {}, {})

    image = write_part(
        str(root), digest_json("image"), "image", recipe, ids, prepared(source.images),
        fixed_shape=fixed_shape, dtype="float32",
    )  # fmt: skip
    label = None
    if source.labels:
        label = write_part(
            str(root), digest_json("label"), "label", recipe, ids, prepared(source.labels),
            fixed_shape=fixed_shape, dtype="uint8", label_set_id=digest_json("labels"),
        )  # fmt: skip
    label_place = (label.path, label.digest) if label else (None, None)
    return [
        replace(
            case,
            part_path=image.path,
            part_digest=image.digest,
            label_part_path=label_place[0],
            label_part_digest=label_place[1],
        )
        for case in cases
    ]


def classifier_plan(**fields) -> NetworkPlan:
    """Return a plan that trains in a second."""
    settings = {"epochs": 4, "batch": 8, "features": (4, 8), "ema": 0.9} | fields
    candidate = NetworkCandidate(name="tiny", **settings)
    return plan_network(candidate, task="classification", shape=(1, SIZE, SIZE), n_classes=2)


def main(out_dir: str, pause: str) -> None:
    """Train the fold, resting after every epoch so that a kill finds it between two."""
    import torch

    from tasks.learn.train import train_fold

    torch.set_num_threads(1)
    source, cases = bright_square_cases(40)
    ids = [case.case_id for case in cases]

    def rest(record: dict) -> None:
        print(record["epoch"], flush=True)
        time.sleep(float(pause))

    train_fold(
        classifier_plan(), source, cases, ids[:28], ids[28:], Path(out_dir), 7,
        on_epoch=rest, device="cpu",
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
