"""Ultrasound: compress the range of an echo envelope, and smooth its speckle."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from tasks.errors import BadCase
from tasks.imaging.filters import box_mean
from tasks.imaging.step import Image, Parameters, Step

QUIET_QUANTILE = 0.25
"""Where the speckle's strength is read off: local spreads of tissue with structure lie higher."""


class LeeParameters(Parameters):
    """Voxels along a side of the window, and the noise: its coefficient of variation.

    Of additive noise, ``noise`` is the standard deviation in the image's units.
    """

    size: Literal[3, 5, 7, 9, 11] = 7
    kind: Literal["multiplicative", "additive"] = "multiplicative"
    noise: float | Literal["estimate"] = "estimate"
    dimensions: Literal[2, 3] = 2

    @field_validator("noise")
    @classmethod
    def _positive(cls, noise: float | str) -> float | str:
        if noise != "estimate" and noise <= 0:
            raise ValueError(f"noise {noise:g} must be above 0")
        return noise


def _lee(image: Image, params: LeeParameters) -> tuple[Image, dict]:
    noise = None if params.noise == "estimate" else params.noise
    done = lee(image.array, params.size, params.dimensions, params.kind, noise)
    return Image(done, image.affine), {}


def lee(
    array: np.ndarray,
    size: int,
    dimensions: int,
    kind: Literal["multiplicative", "additive"] = "multiplicative",
    noise: float | None = None,
) -> np.ndarray:
    """Pull each voxel towards its window's mean, the more the less the window varies beyond noise.

    Lee 1980 (IEEE PAMI 2), the linear estimate of least squared error from local statistics:
    mean + k (value - mean), with k the share of the variance that is not noise.  Multiplicative
    noise of mean 1 is speckle before log compression; after it, speckle is nearly additive.

    Parameters
    ----------
    array : ndarray (z, y, x)
    size : int, odd
        Voxels along a side of the window.
    dimensions : {2, 3}
    kind : {"multiplicative", "additive"}
    noise : float, optional
        Coefficient of variation, or standard deviation of additive noise; without it, the lower
        quartile of the local ones.

    Returns
    -------
    ndarray (z, y, x), float32
    """
    values = array.astype(np.float64)
    mean = box_mean(values, size, dimensions)
    variance = np.maximum(box_mean(values * values, size, dimensions) - mean * mean, 0)
    if kind == "additive":
        power = _quiet(variance) if noise is None else noise**2
        of_noise, signal = power, np.maximum(variance - power, 0)
    else:
        power = _quiet(_relative(variance, mean)) if noise is None else noise**2
        signal = np.maximum((variance + mean * mean) / (1 + power) - mean * mean, 0)
        of_noise = mean * mean * power
    whole = signal + of_noise
    share = np.divide(signal, whole, out=np.zeros_like(signal), where=whole > 0)
    return (mean + share * (values - mean)).astype(np.float32)


def _relative(variance: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return variance over squared mean where something echoes."""
    inside = mean > 0
    return variance[inside] / (mean[inside] * mean[inside])


def _quiet(spread: np.ndarray) -> float:
    """Return the lower quartile of the spreads that are not 0: flat black is no tissue."""
    seen = spread[spread > 0]
    return float(np.quantile(seen, QUIET_QUANTILE)) if seen.size else 0.0


class LogCompressParameters(Parameters):
    """Decibels below the image's maximum that are shown; what is fainter becomes 0."""

    dynamic_range_db: float = Field(default=60.0, ge=10, le=120)


def _log_compress(image: Image, params: LogCompressParameters) -> tuple[Image, dict]:
    """Map an envelope to 0 .. 1 by 20 log10(value / maximum) over the dynamic range.

    For raw envelopes only: what a scanner stores for readers is compressed already.
    """
    array = image.array.astype(np.float32)
    low, high = float(array.min()), float(array.max())
    if low < 0:
        raise BadCase("negative_values", f"an envelope has no value of {low:g}: 0 is the least")
    if high == 0:
        raise BadCase("constant_image", "all voxels are 0: there is no echo to compress")
    floor = 10 ** (-params.dynamic_range_db / 20)
    decibels = 20 * np.log10(np.maximum(array / np.float32(high), np.float32(floor)))
    scaled = decibels / np.float32(params.dynamic_range_db) + np.float32(1)
    return Image(np.clip(scaled, 0.0, 1.0), image.affine), {}


LEE = Step(version=1, parameters=LeeParameters, apply=_lee, voxel_ns=lambda params: 60, copies=8)
LOG_COMPRESS = Step(version=1, parameters=LogCompressParameters, apply=_log_compress)

STEPS: Mapping[str, Step] = {"lee": LEE, "log_compress": LOG_COMPRESS}
