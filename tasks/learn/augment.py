"""Random changes of training images: drawn in one function, applied in another, so all replay.

``draw_params`` holds every random decision and returns a JSON-able record a sample;
:func:`tasks.learn.augment_batch.apply` is a pure function of those records and the images.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.hashing import says_nothing
from tasks.learn.augment_nnunet import draw_intensities, draw_linear

AXES = "zyx"
"""Array axes in order; flips are named by them."""


class AugmentConfig(BaseModel):
    """How far training images may be changed; 0 or empty means never.

    Geometry (flip, rotate, scale, shift) changes the mask too. Intensities are meant for images
    of mean 0 and standard deviation 1, which the recipe's ``normalise`` step makes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip: tuple[str, ...] = ()
    """Axes (``z``, ``y``, ``x``) each mirrored with probability one half."""
    rotate: float = Field(0.0, ge=0, le=180)
    """Largest rotation, degrees; in the image plane, and about every axis of a volume."""
    scale: float = Field(0.0, ge=0, lt=1)
    """Largest relative change of size."""
    shift: float = Field(0.0, ge=0, le=0.5)
    """Largest translation as a fraction of the axis."""
    noise: float = Field(0.0, ge=0)
    """Largest standard deviation of added Gaussian noise."""
    gamma: float = Field(0.0, ge=0, lt=1)
    """Largest absolute logarithm (base e) of the exponent."""
    brightness: float = Field(0.0, ge=0)
    """Largest offset."""
    contrast: float = Field(0.0, ge=0, lt=1)
    """Largest relative change of contrast about the mean."""
    blur: float = Field(0.0, ge=0, le=5)
    """Largest Gaussian sigma, pixels."""
    cutout: float = Field(0.0, ge=0, lt=1)
    """Side of the erased box as a fraction of each axis."""
    probability: float = Field(0.5, gt=0, le=1)
    """Chance that each change but a flip is made to a sample."""
    nnunet: bool = False
    """Whether everything but the flips follows nnU-Net's list (`tasks.learn.augment_nnunet`)."""
    quarter_turns: bool = Field(False, exclude_if=says_nothing)
    """Whether images as high as wide are turned by 0, 90, 180 or 270 degrees in their plane."""

    @model_validator(mode="after")
    def _list_has_its_own_strengths(self) -> Self:
        given = self.model_fields_set - {"flip", "nnunet"}
        said = sorted(n for n in given if getattr(self, n) != type(self).model_fields[n].default)
        if self.nnunet and said:
            raise ValueError(f"nnunet has strengths of its own; leave {said[0]} out")
        return self


PRESETS: dict[str, AugmentConfig] = {
    "none": AugmentConfig(),
    # A mirrored chest puts the heart on the wrong side, so radiographs are not flipped.
    "radiograph": AugmentConfig(
        rotate=10, scale=0.12, shift=0.08, noise=0.1, gamma=0.25, brightness=0.2, contrast=0.2
    ),
    # Structures are told apart by where they lie: mirroring front to back or top to bottom cost
    # 3 points of Dice on anterior and posterior hippocampus at equal length of training.
    "volume": AugmentConfig(
        flip=("x",), rotate=15, scale=0.15, shift=0.05, noise=0.1, gamma=0.2, brightness=0.1,
        contrast=0.15,
    ),
    "strong": AugmentConfig(
        flip=("z", "y", "x"), rotate=30, scale=0.3, shift=0.1, noise=0.2, gamma=0.4,
        brightness=0.25, contrast=0.25, blur=1.0, cutout=0.2,
    ),
    "nnunet": AugmentConfig(flip=("z", "y", "x"), nnunet=True),
    # A box stays tight when it is mirrored, turned by a quarter or scaled; other turns loosen it.
    "detection": AugmentConfig(
        flip=("z", "y", "x"), quarter_turns=True, scale=0.4, noise=0.1, gamma=0.3, brightness=0.1,
        contrast=0.25, probability=0.3,
    ),
    "detection2d": AugmentConfig(
        flip=("x",), scale=0.4, shift=0.05, noise=0.1, gamma=0.3, brightness=0.2, contrast=0.25,
        probability=0.3,
    ),
}  # fmt: skip
"""Named mixtures; a scenario may also list its own."""

_DEFAULT_STRENGTH = PRESETS["strong"]


def parse_augment(value: str | Sequence[Any] | Mapping[str, Any] | AugmentConfig) -> AugmentConfig:
    """Return the configuration a scenario's ``augment`` means.

    Parameters
    ----------
    value : str, list or mapping
        A preset's name; a list of changes, each a name (at the strength of preset ``strong``) or
        ``{name: strength}``; or the fields of :class:`AugmentConfig`, which change those of a
        ``preset`` where one is named beside them.

    Raises
    ------
    ValueError
        If a preset or change is not known; the message names those that are.
    """
    if isinstance(value, AugmentConfig):
        return value
    if isinstance(value, str):
        if value not in PRESETS:
            raise ValueError(f"no augmentation preset {value!r}; there are {', '.join(PRESETS)}")
        return PRESETS[value]
    fields = dict(value) if isinstance(value, Mapping) else _fields_of_list(value)
    if (preset := fields.pop("preset", None)) is not None:
        fields = parse_augment(str(preset)).model_dump() | fields
    config = AugmentConfig.model_validate(fields)
    if wrong := [axis for axis in config.flip if axis not in AXES]:
        raise ValueError(f"flip axis {wrong[0]!r} is none of z, y, x")
    return config


def _fields_of_list(items: Sequence[Any]) -> dict[str, Any]:
    known = AugmentConfig.model_fields
    fields: dict[str, Any] = {}
    for item in items:
        pairs = item.items() if isinstance(item, Mapping) else [(item, None)]
        for name, strength in pairs:
            if name not in known:
                raise ValueError(f"no augmentation {name!r}; there are {', '.join(known)}")
            fields[name] = getattr(_DEFAULT_STRENGTH, name) if strength is None else strength
    return fields


def draw_params(
    rng: np.random.Generator, config: AugmentConfig, shape: Sequence[int]
) -> dict[str, Any]:
    """Draw what is done to one sample.

    Parameters
    ----------
    rng : numpy.random.Generator
        The only source of randomness.
    config : AugmentConfig
    shape : sequence of int
        (z, y, x) of the sample; an axis of length 1 is neither flipped, turned nor moved.

    Returns
    -------
    dict
        JSON-able; changes that are not made are absent. ``affine`` is 3x4 and maps output to
        input positions in voxels from the centre, order (z, y, x).
    """
    params: dict[str, Any] = {}
    moving = np.array([n > 1 for n in shape])
    linear, shift = _draw_affine(rng, config, np.asarray(shape), moving)
    if not (np.allclose(linear, np.eye(3)) and not shift.any()):
        params["affine"] = np.column_stack([linear, shift]).tolist()
    if config.nnunet:
        return params | draw_intensities(rng)
    for name in ("noise", "blur"):
        if getattr(config, name) and rng.random() < config.probability:
            params[name] = float(rng.uniform(0, getattr(config, name)))
    if "noise" in params:
        params["noise_seed"] = int(rng.integers(2**31))
    for name in ("gamma", "contrast"):
        if getattr(config, name) and rng.random() < config.probability:
            params[name] = float(np.exp(rng.uniform(-1, 1) * getattr(config, name)))
    if config.brightness and rng.random() < config.probability:
        params["brightness"] = float(rng.uniform(-1, 1) * config.brightness)
    if config.cutout and rng.random() < config.probability:
        size = np.maximum(1, np.round(np.asarray(shape) * config.cutout)).astype(int)
        start = [int(rng.integers(0, n - s + 1)) for n, s in zip(shape, size, strict=True)]
        params["cutout"] = [start, [int(a + s) for a, s in zip(start, size, strict=True)]]
    return params


def _draw_affine(
    rng: np.random.Generator, config: AugmentConfig, shape: np.ndarray, moving: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    linear = _draw_exact(rng, config, shape, moving)
    shift = np.zeros(3)
    if config.nnunet:
        turns, scale = draw_linear(rng, shape)
        for a, b, degrees in turns:
            linear = linear @ _rotation(a, b, np.radians(degrees))
        # A larger picture reads from nearer places.
        return linear @ np.diag(1 / scale), shift
    if config.rotate and rng.random() < config.probability:
        # A plane turns only when both its axes have an extent: an image turns about z alone.
        for a, b in ((1, 2), (0, 2), (0, 1)):
            if moving[a] and moving[b]:
                linear = linear @ _rotation(a, b, np.radians(rng.uniform(-1, 1) * config.rotate))
    if config.scale and rng.random() < config.probability:
        factor = np.exp(rng.uniform(-1, 1) * np.log1p(config.scale))
        linear = linear @ np.diag(np.where(moving, factor, 1.0))
    if config.shift and rng.random() < config.probability:
        shift = rng.uniform(-1, 1, 3) * config.shift * shape * moving
    return linear, shift


def _draw_exact(
    rng: np.random.Generator, config: AugmentConfig, shape: np.ndarray, moving: np.ndarray
) -> np.ndarray:
    """Draw mirrorings and quarter turns, which move voxels onto voxels."""
    linear = np.eye(3)
    for axis in range(3):
        if AXES[axis] in config.flip and moving[axis] and rng.random() < 0.5:
            linear[axis, axis] = -1.0
    if config.quarter_turns and moving[1:].all() and shape[1] == shape[2]:
        linear = linear @ np.round(_rotation(1, 2, np.pi / 2 * int(rng.integers(4))))
    return linear


def _rotation(a: int, b: int, angle: float) -> np.ndarray:
    matrix = np.eye(3)
    matrix[a, a] = matrix[b, b] = np.cos(angle)
    matrix[a, b], matrix[b, a] = -np.sin(angle), np.sin(angle)
    return matrix
