"""The plan of a network: a scenario's candidate made definite for given images.

Light to import: no torch. The shape of MONAI's residual U-Net comes from
:mod:`tasks.learn.topology`, that of nnU-Net's networks from :mod:`tasks.learn.nnunet`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.hashing import says_nothing
from tasks.learn.augment import AugmentConfig, parse_augment
from tasks.learn.detector_plan import DetectorPlan, Size, plan_detector
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.nnunet import plan_shape
from tasks.learn.plan_checks import check_branches, check_fit
from tasks.learn.topology import MAX_BATCH, plan_batch, plan_unet
from tasks.learn.zoo import (
    BATCH_2D,
    BATCH_3D,
    COMMON,
    DEFAULTS,
    DETECTORS,
    JOINED,
    NNUNETS,
    OF_WHOLE_IMAGES,
    TRUNKS,
    UNETS,
    least_size,
    stem_of,
)


class NetworkPlan(BaseModel):
    """Everything needed to build and train a network: a candidate made definite by the images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str
    task: Literal["classification", "segmentation", "detection", "regression"]
    dims: Literal[2, 3]
    in_channels: int = 1
    n_classes: int
    """Outputs: classes, background included for a segmentation alone, or its regions."""
    regions: tuple[tuple[int, ...], ...] = Field(default=(), exclude_if=says_nothing)
    """Label values of each region of a segmentation, whose outputs are then its regions."""
    patch: tuple[int, int, int]
    """(z, y, x) the network is trained on; the whole image for a classifier."""
    droppable: tuple[int, ...] = Field(default=(), exclude_if=says_nothing)
    """Channels that `modality_dropout` takes from training samples."""
    modality_dropout: float = Field(default=0.0, exclude_if=says_nothing)
    channels: tuple[int, ...]
    strides: tuple[tuple[int, int, int], ...]
    """Halvings (z, y, x) between consecutive levels."""
    kernels: tuple[tuple[int, int, int], ...] = ()
    """Sides (z, y, x) of the convolutions of each level, of nnU-Net's networks."""
    deep_supervision: bool = False
    res_units: int = 2
    plain_head: bool = Field(default=False, exclude_if=says_nothing)
    """Whether nothing normalises the maps of the classes themselves, of MONAI's U-Net; False in
    plans of before."""
    batch_norm: bool = Field(default=False, exclude_if=says_nothing)
    """Whether maps of volumes are normalised over the batch, of the small network; False in plans
    of before and where the batch is too small for it: each image is then normalised by itself."""
    dropout: float
    batch: int
    accumulate: int = 1
    epochs: int
    steps_per_epoch: int | None
    lr: float
    optimizer: Literal["adamw", "sgd"]
    schedule: Literal["one_cycle", "cosine", "poly"]
    weight_decay: float
    monitor: Literal["loss", "auroc", "dice", "ap", "mae"]
    loss: Literal["smooth_l1", "mse"] | None = Field(None, exclude_if=says_nothing)
    """Of a regression."""
    augment: AugmentConfig
    class_weights: bool
    foreground: float
    ema: float
    flip_tta: tuple[str, ...]
    seed: int
    options: dict[str, Any] = {}
    slices: Literal["attention", "max"] | None = None
    stem: Literal["small", "full"] = "full"
    weights_sha256: str | None = None
    """Of the file that training started from."""
    freeze: bool = False
    detector: DetectorPlan | None = Field(None, exclude_if=says_nothing)
    """Levels and anchors, of a detection."""

    @model_validator(mode="before")
    @classmethod
    def _of_before(cls, said: Any) -> Any:
        """Leave out the patience of plans of before: it ended a training and shapes no network."""
        if isinstance(said, dict):
            said = {name: value for name, value in said.items() if name != "patience"}
        return said

    @property
    def divisor(self) -> tuple[int, int, int]:
        """Number (z, y, x) of which every input size must be a multiple."""
        return tuple(math.prod(s[axis] for s in self.strides) for axis in range(3))

    def looks(self, epoch: int) -> bool:
        """Whether the validation side is asked after an epoch, numbered from 1; see `LOOKS`."""

        def share(number: int) -> int:
            return (number - 1) * (LOOKS - 1) // max(1, self.epochs - 1)

        return epoch == 1 or share(epoch) > share(epoch - 1)

    def watched(self, record: Mapping[str, Any]) -> float:
        """Return what an epoch's record says of `monitor`, turned so that higher is better."""
        value = record[f"val_{self.monitor}"]
        return -value if self.monitor in _ERRORS else value


LOOKS = 25
"""Most epochs after which the validation side is asked, evenly, the first and the last among them.
Its figures are curves alone, and to ask of whole volumes may take longer than to train an epoch."""

_ERRORS = ("loss", "mae")
"""What is watched and better when it is lower."""


def plan_network(
    candidate: NetworkCandidate,
    *,
    task: str,
    shape: Sequence[int],
    n_classes: int,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    n_cases: int | None = None,
    gpu_memory_gb: float | None = None,
    in_channels: int = 1,
    droppable: Sequence[int] = (),
    box_sizes: Sequence[Size] = (),
    regions: Sequence[Sequence[int]] = (),
) -> NetworkPlan:
    """Make a candidate definite for images of a shape.

    Parameters
    ----------
    candidate : NetworkCandidate
    task : str
        ``classification``, ``segmentation``, ``detection`` or ``regression``.
    shape : sequence of int
        (z, y, x): the fixed shape the recipe ends in, else the median training shape.
    n_classes : int
        Outputs: classes, background included for a segmentation, or its regions.
    spacing : sequence of float
        Millimetres (z, y, x) after the recipe.
    n_cases : int, optional
        Training cases; limits the batch to 5 % of all voxels.
    gpu_memory_gb : float, optional
        Overrides the candidate's.
    in_channels : int
        Channels of the prepared images.
    droppable : sequence of int
        Those of them that a case may lack.
    box_sizes : sequence of (z, y, x)
        Of the training boxes of a detection, in voxels; anchors are made of them.
    regions : sequence of sequences of int
        Label values of each region of a segmentation.

    Raises
    ------
    ValueError
        If network and task do not fit each other.
    """
    shape = tuple(int(n) for n in shape)
    check_fit(candidate.network, task, shape)
    settings = _settings(candidate, task)
    gb = gpu_memory_gb or candidate.gpu_memory_gb
    kernels: tuple[tuple[int, int, int], ...] = ()
    if candidate.network == "unet2d":
        shape = (1, shape[1], shape[2])
    dims = 2 if shape[0] == 1 or candidate.network.endswith("2d") else 3
    features = tuple(settings["features"] or ())
    if candidate.slices and dims == 2:
        raise ValueError(f"{candidate.name}: slices need volumes, the images have one slice")
    detector = None
    if candidate.network in DETECTORS:
        planned = plan_detector(
            candidate, shape, spacing, box_sizes, features, batch=settings["batch"], gb=gb,
            n_cases=n_cases,
        )  # fmt: skip
        patch, strides, channels = planned.patch, planned.strides, planned.channels
        batch, detector = planned.batch, planned.detector
        preset = "detection2d" if dims == 2 else "detection"
        settings["augment"] = settings["augment"] or preset
    elif candidate.network in NNUNETS:
        planned = plan_shape(
            shape, spacing, n_classes, dims=dims, gb=gb, n_cases=n_cases, patch=candidate.patch,
            features=settings["features"], residual=candidate.network.startswith("resenc"),
        )  # fmt: skip
        patch, strides, kernels = (getattr(planned.topology, n) for n in _SHAPE)
        channels = planned.features
        # nnU-Net fills the memory with planes; an epoch of small images would be a step or two.
        batch = settings["batch"] or min(MAX_BATCH, planned.batch)
    elif candidate.network in TRUNKS:
        patch, channels, strides = shape, (), ()
        batch = settings["batch"] or (BATCH_2D if dims == 2 else BATCH_3D)
        settings["augment"] = settings["augment"] or ("radiograph" if dims == 2 else "volume")
        flat, stem = dims == 2 or bool(candidate.slices), stem_of(candidate, shape)
        least = least_size(candidate.network, 2 if flat else 3, stem)
        if min(shape[1:] if flat else shape) < least:
            raise ValueError(
                f"{candidate.name}: {candidate.network} needs at least {least} along every axis, "
                f"the images are {shape}; resample them, say slices, or use resnet18"
            )
        if batch < 2 and not candidate.freeze:
            raise ValueError(f"{candidate.name}: batch statistics need a batch of at least 2")
    elif task in OF_WHOLE_IMAGES:
        # Each block halves every axis, so the shortest one says how many there can be.
        first = 1 if candidate.slices else 3 - dims
        blocks = max(1, int(math.log2(min(n for n in shape[first:]))))
        channels = features[:blocks]
        patch, strides = shape, tuple((2,) * 3 for _ in channels)
        batch = settings["batch"]
        settings["augment"] = settings["augment"] or ("radiograph" if dims == 2 else "volume")
        if candidate.network == JOINED:
            check_branches(candidate.name, in_channels, channels)
    else:
        patch, strides, channels = plan_unet(candidate.patch, shape, spacing, features, dims, gb)
        batch = settings["batch"] or plan_batch(patch, shape, strides, channels, dims, gb, n_cases)
    return NetworkPlan(
        network=candidate.network, task=task, dims=dims, in_channels=in_channels,
        n_classes=n_classes, regions=tuple(map(tuple, regions)), patch=patch,
        droppable=tuple(droppable) if candidate.modality_dropout else (),
        modality_dropout=candidate.modality_dropout if droppable else 0.0,
        channels=channels, strides=strides, kernels=kernels, dropout=settings["dropout"],
        deep_supervision=candidate.deep_supervision and candidate.network in NNUNETS,
        plain_head=candidate.network in UNETS,
        batch_norm=candidate.network == "small_cnn" and dims == 3 and batch >= BATCH_OF_NORM,
        batch=batch, accumulate=candidate.accumulate,
        epochs=settings["epochs"], steps_per_epoch=settings["steps_per_epoch"], lr=settings["lr"],
        optimizer=settings["optimizer"], schedule=settings["schedule"],
        weight_decay=settings["weight_decay"], monitor=settings["monitor"],
        loss=_loss(candidate, task),
        augment=parse_augment(settings["augment"]),
        class_weights=candidate.class_weights, foreground=candidate.foreground,
        ema=candidate.ema, flip_tta=candidate.flip_tta, seed=candidate.seed,
        options=candidate.options, slices=candidate.slices, stem=stem_of(candidate, shape),
        weights_sha256=candidate.weights_sha256, freeze=candidate.freeze, detector=detector,
    )  # fmt: skip


BATCH_OF_NORM = 8
"""Volumes over which mean and variance of a map can be taken."""

_SHAPE = ("patch", "strides", "kernels")

_MEASURED = {
    "classification": "auroc",
    "segmentation": "dice",
    "detection": "ap",
    "regression": "mae",
}
"""What is measured after each epoch, beside the loss."""


def _settings(candidate: NetworkCandidate, task: str) -> dict[str, Any]:
    kin = "unet3d" if task == "segmentation" else "small_cnn"
    settings = COMMON | DEFAULTS.get(candidate.network, DEFAULTS[kin])
    for name in settings:
        if (value := getattr(candidate, name)) is not None:
            settings[name] = value
    allowed = ("loss", _MEASURED[task])
    if settings["monitor"] not in allowed:
        raise ValueError(
            f"{candidate.name}: monitor {settings['monitor']!r} is not measured in a {task}; "
            f"use {' or '.join(allowed)}"
        )
    return settings


def _loss(candidate: NetworkCandidate, task: str) -> Literal["smooth_l1", "mse"] | None:
    if task == "regression":
        return candidate.loss or "smooth_l1"
    if candidate.loss:
        raise ValueError(f"{candidate.name}: loss is of a regression; remove it for a {task}")
    return None
