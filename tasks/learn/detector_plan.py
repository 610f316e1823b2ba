"""Shape of a detector: its levels and its anchors, from the images and the boxes to be found.

Light to import: no torch. Sizes are (z, y, x) voxels of the prepared images; z is 1 of a picture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tasks.hashing import says_nothing
from tasks.learn.boxes import boxes_on, rows_of
from tasks.learn.topology import plan_batch, plan_unet

if TYPE_CHECKING:
    from tasks.learn.job import JobCase
    from tasks.learn.network_candidate import NetworkCandidate

Size = tuple[float, float, float]

LEVELS = 3
"""Maps of different coarseness that are asked for boxes; anchors double from one to the next."""

SHAPES = 3
"""Anchors at each place of a map (the LUNA16 recipe of MONAI's tutorial)."""

SMALL = 0.1
"""Quantile of the boxes' sizes that the anchors of the finest map are made for."""

STEPS_ACROSS = 1.5
"""Steps of the finest map that its boxes are at least wide, as means over the axes (6 x 6 x 3.4
voxels, a nodule of 4 mm, at steps of 4 x 4 x 2 in the LUNA16 recipe)."""

LAST_FINEST = 2
"""The finest map is at most halved this often after the first halving."""

RESNET_STAGES = {
    "resnet18": (64, 64, 128, 256, 512),
    "resnet50": (64, 256, 512, 1024, 2048),
}
"""Channels after the first convolution and after each of the four layers."""

PYRAMID_CHANNELS = {"small": 48, "resnet18": 128, "resnet50": 256}
"""Channels of the maps that are asked for boxes; multiples of 8, as group normalisation wants."""

HEAD_CONVS = 4
"""Convolutions of a head before its answer (Lin et al. 2017)."""

SMALL_VOLUME = {"pyramid_channels": 32, "head_convs": 2}
"""Of the small backbone in volumes: the heads look at every place of the finest map and take nine
tenths of a step, which this makes five times shorter."""


class DetectorPlan(BaseModel):
    """What of a `NetworkPlan` only detectors have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: Literal["small", "resnet18", "resnet50"]
    levels: tuple[int, ...]
    """Stages of the backbone, from 0, whose maps are asked for boxes, finest first."""
    pyramid_channels: int
    head_convs: int = Field(HEAD_CONVS, exclude_if=lambda value: value == HEAD_CONVS)
    """Convolutions of each head of a volume before its answer."""
    anchors: tuple[Size, ...]
    """Boxes at each place of the finest map; twice as large on the next one, and so on."""
    least_score: float = 0.02
    """Findings with a lower score are not told (the LUNA16 recipe)."""
    overlap: float = 0.22
    """Of two findings with more intersection over union one is left (the LUNA16 recipe)."""
    max_findings: int = 100
    """Most findings of one image."""
    second_look: bool = Field(False, exclude_if=says_nothing)
    """Whether a small network judges each finding again (`tasks.learn.second_look`)."""
    hard_negatives: bool = Field(True, exclude_if=bool)
    """Whether a volume's classes are learnt from the hardest negatives alone, not by focal loss
    from all anchors. Plans of before do not say it and did."""


@dataclass(frozen=True)
class DetectorShape:
    """What the images and boxes decide."""

    patch: tuple[int, int, int]
    strides: tuple[tuple[int, int, int], ...]
    channels: tuple[int, ...]
    batch: int
    detector: DetectorPlan


def plan_detector(
    candidate: "NetworkCandidate",
    shape: Sequence[int],
    spacing: Sequence[float],
    sizes: Sequence[Size],
    features: Sequence[int],
    *,
    batch: int | None,
    gb: float,
    n_cases: int | None,
) -> DetectorShape:
    """Return levels, anchors, patch and batch of a detector.

    A picture is trained on whole, a volume in patches that fit the memory, by the rules of the
    U-Net (`tasks.learn.topology`) with one halving more: the first convolution halves too.

    Parameters
    ----------
    candidate : NetworkCandidate
    shape : sequence of int
        (z, y, x) of the typical image.
    spacing : sequence of float
        mm (z, y, x).
    sizes : sequence of (z, y, x)
        Of the boxes of the training cases; not needed where the candidate says its anchors.
    features : sequence of int
        Channels of the stages of the small backbone.
    batch : int, optional
        As the candidate says it.
    gb : float
        Memory.
    n_cases : int, optional

    Raises
    ------
    ValueError
        If there are neither boxes nor anchors, or an image is too small to be halved.
    """
    dims = 2 if shape[0] == 1 else 3
    backbone = candidate.backbone or "small"
    wide = tuple(features) if backbone == "small" else RESNET_STAGES[backbone]
    wanted = candidate.patch or (tuple(shape) if dims == 2 else None)
    # One halving more than a U-Net of these features: its first level is at full size.
    patch, strides, _ = plan_unet(wanted, tuple(shape), spacing, (*wide, wide[-1]), dims, gb)
    if backbone != "small":
        strides = _of_resnet(strides, dims)
        patch = tuple(
            -(-n // d) * d for n, d in zip(patch, _steps(strides, len(strides) - 1), strict=True)
        )
    if not strides:
        raise ValueError(f"{candidate.name}: images of {tuple(shape)} are too small for a detector")
    channels = wide[: len(strides)]
    finest = _finest(strides, sizes or candidate.anchors or (), backbone)
    levels = tuple(range(finest, min(finest + LEVELS, len(strides))))
    anchors = candidate.anchors or fit_anchors(sizes, len(levels))
    detector = DetectorPlan(
        backbone=backbone,
        levels=levels,
        anchors=anchors,
        max_findings=candidate.max_findings or DetectorPlan.model_fields["max_findings"].default,
        second_look=bool(candidate.second_look),
        hard_negatives=candidate.hard_negatives or candidate.network != "retinanet3d",
        **_width(backbone, dims),
    )
    many = batch or plan_batch(patch, tuple(shape), strides, channels, dims, gb, n_cases)
    return DetectorShape(patch, strides, channels, many, detector)


def fit_anchors(sizes: Sequence[Size], levels: int) -> tuple[Size, ...]:
    """Return the anchors of the finest map that stand for boxes of these sizes.

    Each box is halved until it would fit the finest map, and the logarithms of what is left are
    gathered around at most `SHAPES` means (k-means, seeded).

    Raises
    ------
    ValueError
        If there is no box.
    """
    from scipy.cluster.vq import kmeans2

    if not len(sizes):
        raise ValueError(
            "no box to be found is known yet, so no anchors; preprocess labels first or say anchors"
        )
    logs = np.log2(np.asarray(sizes, float))
    mean = _mean_log(logs)
    level = np.clip(np.round(mean - np.quantile(mean, SMALL)), 0, levels - 1)
    moving = ~np.isclose(logs, 0).all(0)
    reduced = np.where(moving, logs - level[:, None], logs)
    many = min(SHAPES, len(np.unique(np.round(reduced, 3), axis=0)))
    centres, _ = kmeans2(reduced, many, seed=0, minit="++", missing="warn")
    found = sorted({tuple(np.round(2.0**row, 1).tolist()) for row in centres}, key=math.prod)
    return tuple(found)


def _width(backbone: str, dims: int) -> dict[str, int]:
    """Return how wide the pyramid is and how deep its heads are."""
    if backbone == "small" and dims == 3:
        return SMALL_VOLUME
    return {"pyramid_channels": PYRAMID_CHANNELS[backbone]}


def _finest(strides: Sequence[Sequence[int]], sizes: Sequence[Size], backbone: str) -> int:
    """Return the coarsest stage whose steps a small box is still wide enough for."""
    # The first layer of a ResNet begins after its pooling.
    first = 0 if backbone == "small" else 1
    if not len(sizes):
        return min(first, len(strides) - 1)
    logs = _mean_log(np.log2(np.asarray(sizes, float)))
    small = 2.0 ** np.quantile(logs, SMALL)
    # One coarser map is left where there is one.
    last = min(LAST_FINEST, max(first, len(strides) - 2))
    fits = [i for i in range(first, last + 1)
            if small >= STEPS_ACROSS * _mean_step(strides, i)]  # fmt: skip
    return max(fits, default=min(first, last))


def _mean_log(logs: np.ndarray) -> np.ndarray:
    """Return the mean over the axes along which boxes have an extent."""
    moving = ~np.isclose(logs, 0).all(0)
    return logs[:, moving].mean(1) if moving.any() else logs.mean(1)


def _steps(strides: Sequence[Sequence[int]], stage: int) -> tuple[int, ...]:
    return tuple(math.prod(s[axis] for s in strides[: stage + 1]) for axis in range(3))


def _mean_step(strides: Sequence[Sequence[int]], stage: int) -> float:
    """Return the mean step over the axes that are halved at all."""
    steps = [n for n in _steps(strides, stage) if n > 1]
    return math.prod(steps) ** (1 / len(steps)) if steps else 1.0


def _of_resnet(strides: Sequence[Sequence[int]], dims: int) -> tuple[tuple[int, int, int], ...]:
    """Return the halvings of a ResNet: the first as planned, the others of every axis."""
    every = (1, 2, 2) if dims == 2 else (2, 2, 2)
    return (tuple(strides[0]) if strides else every, *[every] * 4)


def box_sizes(store_root: str, cases: Sequence["JobCase"]) -> tuple[Size, ...]:
    """Return the sizes in voxels of the boxes of cases on their prepared grids.

    Irrelevant boxes are left out: nothing is trained to find them.
    """
    from tasks.store.read import open_part

    found: list[Size] = []
    for case in cases:
        rows = rows_of(case.boxes)
        rows = rows[rows[:, 13] == 0]
        if len(rows):
            part = open_part(store_root, case.part_path, case.part_digest)
            low, high = boxes_on(rows, part.info(case.case_id).affine).swapaxes(0, 1)
            found += [tuple(size) for size in np.round(high - low, 2).tolist()]
    return tuple(found)
