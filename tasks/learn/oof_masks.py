"""Masks of a fold's validation side on disk, packed, for what is chosen on them afterwards."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

MASKS_FILE = "masks.npz"

Said = tuple[np.ndarray, np.ndarray, tuple[float, float, float]]
"""Truth and what the network said (z, y, x), and their spacing in mm."""


def write_masks(folder: Path, cases: Iterable[Said]) -> Path:
    """Write the masks of a fold, in the order of its validation cases.

    A mask is little but runs of one value: packed it takes some hundredth of its size.
    """
    arrays: dict[str, np.ndarray] = {}
    for number, (truth, said, spacing) in enumerate(cases):
        arrays |= {f"truth{number}": truth.astype(np.uint8), f"said{number}": said}
        arrays[f"spacing{number}"] = np.array(spacing, np.float64)
    path = folder / MASKS_FILE
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{MASKS_FILE}.{os.getpid()}"
    with beside.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    beside.replace(path)
    return path


def read_masks(folder: Path) -> list[Said]:
    """Return what :func:`write_masks` wrote; never unpickles."""
    with np.load(folder / MASKS_FILE, allow_pickle=False) as kept:
        return [
            (kept[f"truth{i}"], kept[f"said{i}"], tuple(kept[f"spacing{i}"].tolist()))
            for i in range(len(kept.files) // 3)
        ]
