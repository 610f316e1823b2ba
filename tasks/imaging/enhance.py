"""Intensity steps: window, clip, percentile clip, CLAHE."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from tasks.errors import BadCase
from tasks.imaging.step import Image, Parameters, Step

WINDOWS = {
    "lung": (-600.0, 1500.0),
    "mediastinum": (40.0, 400.0),
    "abdomen": (40.0, 400.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
}
"""Level and width in Hounsfield units, as radiologists set them."""

CLAHE_LEVELS = 255
"""OpenCV's CLAHE clips a 256-bin histogram; with 65,536 bins small tiles hold < 1 pixel a bin."""


class WindowParameters(Parameters):
    """A named window, or its level and width in the image's own units."""

    name: Literal["lung", "mediastinum", "abdomen", "bone", "brain"] | None = None
    level: float | None = None
    width: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_way(self) -> "WindowParameters":
        numbers = (self.level is not None) + (self.width is not None)
        if (self.name is None) != (numbers == 2) or numbers == 1:
            raise ValueError("give either name or both level and width")
        return self


def _window(image: Image, params: WindowParameters) -> tuple[Image, dict]:
    level, width = WINDOWS[params.name] if params.name else (params.level, params.width)
    scaled = (image.array.astype(np.float32) - np.float32(level - width / 2)) / np.float32(width)
    return Image(np.clip(scaled, 0.0, 1.0), image.affine), {}


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

    Meant for radiographs; on CT it destroys the meaning of Hounsfield units.
    """
    import cv2

    array = image.array.astype(np.float32)
    low, high = float(array.min()), float(array.max())
    if low == high:
        raise BadCase("constant_image", f"all voxels are {low:g}: contrast cannot be enhanced")
    levels = np.rint((array - low) * (CLAHE_LEVELS / (high - low))).astype(np.uint8)
    clahe = cv2.createCLAHE(params.clip_limit, (params.tiles, params.tiles))
    equal = np.stack([clahe.apply(np.ascontiguousarray(plane)) for plane in levels])
    scaled = equal.astype(np.float32) * np.float32((high - low) / CLAHE_LEVELS) + np.float32(low)
    return Image(scaled, image.affine), {}


WINDOW = Step(version=1, parameters=WindowParameters, apply=_window)
CLIP = Step(version=1, parameters=ClipParameters, apply=_clip)
PERCENTILE_CLIP = Step(version=1, parameters=PercentileClipParameters, apply=_percentile_clip)
CLAHE = Step(version=1, parameters=ClaheParameters, apply=_clahe)

STEPS: Mapping[str, Step] = {
    "window": WINDOW,
    "clip": CLIP,
    "percentile_clip": PERCENTILE_CLIP,
    "clahe": CLAHE,
}
