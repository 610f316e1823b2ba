"""Intensity steps: clip, percentile clip, CLAHE, gamma, unsharp masking."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from tasks.errors import BadCase
from tasks.imaging.filters import gaussian_blur, lengths_in_voxels
from tasks.imaging.step import Image, Parameters, Step

CLAHE_LEVELS = 255
"""OpenCV's CLAHE clips a 256-bin histogram; with 65,536 bins small tiles hold < 1 pixel a bin."""


class ClipParameters(Parameters):
    """Limits in the image's own units."""

    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> "ClipParameters":
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        return self


def _clip(image: Image, params: ClipParameters) -> tuple[Image, dict]:
    array = image.array.astype(np.float32)
    return Image(np.clip(array, np.float32(params.low), np.float32(params.high)), image.affine), {}


class PercentileClipParameters(Parameters):
    """Percentiles of the image itself."""

    low: float = Field(default=0.5, ge=0, lt=100)
    high: float = Field(default=99.5, gt=0, le=100)

    @model_validator(mode="after")
    def _ordered(self) -> "PercentileClipParameters":
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        return self


def _percentile_clip(image: Image, params: PercentileClipParameters) -> tuple[Image, dict]:
    # "nearest" returns values the image holds, so integers stay integers.
    low, high = np.percentile(image.array, (params.low, params.high), method="nearest")
    return Image(np.clip(image.array, low, high), image.affine), {}


class ClaheParameters(Parameters):
    """Contrast limit (multiple of a flat histogram) and tiles along each side of a slice."""

    clip_limit: float = Field(default=2.0, gt=0)
    tiles: int = Field(default=8, ge=1, le=64)


def _clahe(image: Image, params: ClaheParameters) -> tuple[Image, dict]:
    """Equalise every slice (Zuiderveld 1994), 256 levels, the image's own range kept.

    Meant for radiographs; on CT it destroys the meaning of Hounsfield units (see `advice`).
    """
    import cv2

    array = image.array.astype(np.float32)
    low, high = float(array.min()), float(array.max())
    if low == high:
        raise BadCase("constant_image", f"all voxels are {low:g}: contrast cannot be enhanced")
    if not np.isfinite(high - low):
        # Levels are whole numbers: what is none would become one, and nobody could tell.
        raise BadCase("not_finite", "some voxels are not finite: clahe has no range to work in")
    levels = np.rint((array - low) * (CLAHE_LEVELS / (high - low))).astype(np.uint8)
    clahe = cv2.createCLAHE(params.clip_limit, (params.tiles, params.tiles))
    equal = np.stack([clahe.apply(np.ascontiguousarray(plane)) for plane in levels])
    scaled = equal.astype(np.float32) * np.float32((high - low) / CLAHE_LEVELS) + np.float32(low)
    return Image(scaled, image.affine), {}


class GammaParameters(Parameters):
    """Exponent: below 1 brightens, above 1 darkens the middle of the range."""

    gamma: float = Field(gt=0, le=10)


def _gamma(image: Image, params: GammaParameters) -> tuple[Image, dict]:
    """Raise the image, scaled from its own range to 0 .. 1, to a power; the range is kept."""
    array = image.array.astype(np.float32)
    low, high = float(array.min()), float(array.max())
    if low == high:
        raise BadCase("constant_image", f"all voxels are {low:g}: contrast cannot be changed")
    share = (array - np.float32(low)) / np.float32(high - low)
    np.power(share, np.float32(params.gamma), out=share)
    return Image(share * np.float32(high - low) + np.float32(low), image.affine), {}


class UnsharpParameters(Parameters):
    """Share of the detail that is added again, and the Gaussian that says what detail is."""

    amount: float = Field(default=1.0, gt=0, le=10)
    sigma: float = Field(default=1.0, gt=0, le=100)
    unit: Literal["mm", "voxels"] = "voxels"
    dimensions: Literal[2, 3] = 2


def _unsharp(image: Image, params: UnsharpParameters) -> tuple[Image, dict]:
    """Add to the image what a Gaussian takes out of it; edges overshoot, and noise rises too."""
    sigma = lengths_in_voxels(image, params.sigma, params.unit, params.dimensions)
    array = image.array.astype(np.float32)
    detail = array - gaussian_blur(array, sigma)
    return Image(array + np.float32(params.amount) * detail, image.affine), {}


CLIP = Step(version=1, parameters=ClipParameters, apply=_clip)
PERCENTILE_CLIP = Step(version=1, parameters=PercentileClipParameters, apply=_percentile_clip)
CLAHE = Step(version=1, parameters=ClaheParameters, apply=_clahe)
GAMMA = Step(version=1, parameters=GammaParameters, apply=_gamma)
UNSHARP = Step(version=1, parameters=UnsharpParameters, apply=_unsharp)

STEPS: Mapping[str, Step] = {
    "clip": CLIP,
    "percentile_clip": PERCENTILE_CLIP,
    "clahe": CLAHE,
    "gamma": GAMMA,
    "unsharp": UNSHARP,
}
