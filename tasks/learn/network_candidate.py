"""One network of a scenario: what to train and how, as far as the scenario says; no torch."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tasks.hashing import says_nothing
from tasks.learn.augment import AugmentConfig, parse_augment
from tasks.learn.detector_plan import Size
from tasks.learn.space import Span
from tasks.learn.zoo import (
    NETWORKS,
    misfit,
)

MOST_SEEDS = 10
"""Each costs a training of all folds, and a standard deviation of more is hardly surer."""


class NetworkCandidate(BaseModel):
    """One network of a scenario; what is left out takes the default of its ``network``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    kind: Literal["network"] = "network"
    network: str = "small_cnn"
    """One of `NETWORKS` or ``module:function``."""
    slices: Literal["attention", "max"] | None = None
    """2-D network over the slices of a volume, and how the slices become one answer (2.5-D)."""
    stem: Literal["auto", "small", "full"] = "auto"
    """First layers of a `TRUNKS` network; ``auto`` is small for small images without weights."""
    weights: str | None = None
    """File to start from: safetensors or a torch state dict, see :mod:`tasks.learn.weights`."""
    weights_sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """Of that file; where it is given, another file is refused."""
    freeze: bool = False
    """Train the head alone on top of the weights."""
    epochs: int | None = Field(None, ge=1)
    batch: int | None = Field(None, ge=1)
    steps_per_epoch: int | None = Field(None, ge=1)
    """Batches an epoch; by default one pass over the training cases, 250 of nnU-Net's networks."""
    lr: float | None = Field(None, gt=0)
    optimizer: Literal["adamw", "sgd"] | None = None
    """``adamw`` unless said; ``sgd`` of nnU-Net's networks."""
    schedule: Literal["one_cycle", "cosine", "poly"] | None = None
    """``one_cycle`` unless said; ``poly`` of nnU-Net's networks."""
    weight_decay: float | None = Field(None, ge=0)
    monitor: Literal["loss", "auroc", "dice", "ap", "mae"] | None = None
    """What of the validation side judges a trial of a search; the curves show it with the loss."""
    augment: AugmentConfig | None = None
    """Preset name, list of changes or mapping, see :func:`tasks.learn.augment.parse_augment`."""
    features: tuple[int, ...] | None = None
    """Channels of each level. Those of nnU-Net's networks are planned; fewer give fewer levels."""
    deep_supervision: bool = True
    """Whether nnU-Net's networks are also judged at their coarser stages while they train."""
    accumulate: int = Field(1, ge=1)
    """Batches whose gradients are summed up before a step."""
    dropout: float | None = Field(None, ge=0, lt=1)
    loss: Literal["smooth_l1", "mse"] | None = Field(None, exclude_if=says_nothing)
    """What training of a number makes small, in standardised units; ``smooth_l1`` unless said."""
    class_weights: bool = True
    """Weight classes by inverse frequency in the cross-entropy of a classifier."""
    foreground: float = Field(0.33, ge=0, le=1)
    """Share of a batch whose patch must hold foreground, when images are larger than a patch."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay a step of the averaged weights that are validated and kept; 0 keeps the plain ones."""
    patch: tuple[int, int, int] | None = None
    """(z, y, x) of a training sample; planned from the images when left out."""
    gpu_memory_gb: float = Field(8.0, gt=0)
    """Memory the plan may use; smaller makes smaller patches and batches."""
    flip_tta: tuple[str, ...] = ()
    """Axes over whose mirrorings predictions are averaged."""
    modality_dropout: float = Field(0.0, ge=0, lt=1, exclude_if=says_nothing)
    """Probability with which a training sample loses a channel that the cohort lets be missing."""
    backbone: Literal["small", "resnet18", "resnet50"] | None = Field(None, exclude_if=says_nothing)
    """Of a detector; ``small`` unless said, for a CPU. No weights are fetched."""
    anchors: tuple[Size, ...] | None = Field(None, min_length=1, exclude_if=says_nothing)
    """Boxes (z, y, x) in voxels a detector starts from; made of the training boxes if left out."""
    max_findings: int | None = Field(None, ge=1, exclude_if=says_nothing)
    """Most findings a detector tells of an image; 100 unless said."""
    second_look: bool = Field(False, exclude_if=says_nothing)
    """Whether retinanet3d judges each finding again, cut out of the image."""
    hard_negatives: bool = Field(False, exclude_if=says_nothing)
    """Whether retinanet3d learns from the hardest negatives alone, as MONAI's LUNA16 recipe does;
    else by focal loss from all anchors."""
    seed: int = Field(0, ge=0)
    seeds: int = Field(1, ge=1, le=MOST_SEEDS, exclude_if=lambda value: value == 1)
    """From how many seeds its folds are trained: ``seed`` and those after it. The first is the
    candidate; the further ones tell how far its figure moves with the seed alone."""
    options: dict[str, Any] = {}
    """Keywords for a ``module:function`` network."""
    search: dict[str, list[Any] | Span] = {}
    """Settings of `SEARCHABLE` to choose, each a list or a span; searched fold by fold."""
    max_trials: int = Field(20, ge=1)
    """Trials of one fold's search."""

    @model_validator(mode="before")
    @classmethod
    def _no_patience(cls, said: Any) -> Any:
        """Refuse what scenarios of before could say; where they said nothing, so does this."""
        if not isinstance(said, dict) or "patience" not in said:
            return said
        if said["patience"] is not None:
            raise ValueError(
                "patience: no epoch is chosen, a network is its last one; remove patience and set "
                "epochs to the length of training wanted"
            )
        return {name: value for name, value in said.items() if name != "patience"}

    @field_validator("augment", mode="before")
    @classmethod
    def _augment(cls, value: Any) -> Any:
        return value if value is None else parse_augment(value)

    @field_validator("network")
    @classmethod
    def _network(cls, value: str) -> str:
        if value not in NETWORKS and not all(value.partition(":")):
            raise ValueError(
                f"network {value!r} is none of {', '.join(NETWORKS)} and not module:function"
            )
        return value

    @model_validator(mode="after")
    def _fit_the_network(self) -> Self:
        if wrong := misfit(self):
            raise ValueError(wrong)
        return self
