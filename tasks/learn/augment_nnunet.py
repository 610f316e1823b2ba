"""nnU-Net's list of random changes, with its order, ranges and probabilities.

``nnUNetTrainer.get_training_transforms`` of nnU-Net v2 (Isensee et al. 2021). Drawn here for one
image, applied to a batch by :mod:`tasks.learn.augment_batch`. A change that nnU-Net makes to each
channel with one half has half its chance here, where an image is one channel.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

ORDER = (
    "noise",
    "blur",
    "gain",
    "contrast_in_range",
    "low_resolution",
    "gamma_of_negative",
    "gamma_same_spread",
)
"""Changes of intensity, in the order in which they are made."""

CHANCE = {
    "noise": 0.1,
    "blur": 0.2 * 0.5,
    "gain": 0.15,
    "contrast_in_range": 0.15,
    "low_resolution": 0.25 * 0.5,
    "gamma_of_negative": 0.1,
    "gamma_same_spread": 0.3,
}

RANGE = {
    # Taken as standard deviation; that nnU-Net's "variance" is used so was not looked up.
    "noise": (0.0, 0.1),
    "blur": (0.5, 1.0),
    "gain": (0.75, 1.25),
    "contrast_in_range": (0.75, 1.25),
    "low_resolution": (0.5, 1.0),
    "gamma_of_negative": (0.7, 1.5),
    "gamma_same_spread": (0.7, 1.5),
}

TURN_CHANCE = SCALE_CHANCE = 0.2
SCALE = (0.7, 1.4)

TURN_VOLUME, TURN_PLANE, TURN_LONG_PLANE = 30.0, 180.0, 15.0
"""Largest rotation in degrees: of a volume about each axis, of a plane, of a plane whose sides
differ by more than `LONG_PLANE`."""

LONG_PLANE = 1.5
FLAT_PATCH = 3.0
"""A patch this many times as long as it is thick is turned and scaled in its plane alone."""


def draw_intensities(rng: np.random.Generator) -> dict[str, Any]:
    """Draw the changes of intensity of one image; those that are not made are absent."""
    params: dict[str, Any] = {"list": "nnunet"}
    for name in ORDER:
        if rng.random() >= CHANCE[name]:
            continue
        low, high = RANGE[name]
        # Half of the exponents brighten and half darken, whatever the ends of the range.
        if name.startswith("gamma"):
            low, high = (low, 1.0) if rng.random() < 0.5 else (1.0, high)
        params[name] = float(rng.uniform(low, high))
    if "noise" in params:
        params["noise_seed"] = int(rng.integers(2**31))
    return params


def draw_linear(
    rng: np.random.Generator, shape: Sequence[int]
) -> tuple[list[tuple[int, int, float]], np.ndarray]:
    """Draw how one sample is turned and scaled.

    Parameters
    ----------
    rng : numpy.random.Generator
    shape : sequence of int
        (z, y, x) of the sample; z is 1 for a plane.

    Returns
    -------
    turns : list of (axis, axis, degrees)
        In the order in which they are made.
    scale : (3,) array
        Factor of each axis.
    """
    flat = max(shape) / shape[0] > FLAT_PATCH
    planes = [(1, 2)] if flat else [(1, 2), (0, 2), (0, 1)]
    most = TURN_VOLUME
    if flat:
        square = max(shape[1:]) / min(shape[1:]) <= LONG_PLANE
        # nnU-Net takes the aspect into account for planes, not for the planes of flat patches.
        most = TURN_PLANE if square or shape[0] > 1 else TURN_LONG_PLANE
    turns, scale = [], np.ones(3)
    if rng.random() < TURN_CHANCE:
        turns = [(a, b, float(rng.uniform(-most, most))) for a, b in planes]
    if rng.random() < SCALE_CHANCE:
        scale[1 if flat else 0 :] = rng.uniform(*SCALE)
    return turns, scale
