"""Windows: by name, by level and width, or the file's own; linear and sigmoid (PS3.3 C.11.2.1)."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from tasks.errors import BadCase
from tasks.hashing import unsaid
from tasks.imaging.step import Image, Parameters, Step

WINDOWS = {
    "lung": (-600.0, 1500.0),
    "mediastinum": (40.0, 400.0),
    "abdomen": (40.0, 400.0),
    "soft_tissue": (40.0, 400.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
}
"""Level and width in Hounsfield units, as radiologists set them."""

HEADER = "header"
"""Name of the window that the file itself states."""

APPLIED = ("lut", "window")
"""Values of the fact ``voi`` of an image that was read in shown grey values: its window is done."""

NARROWEST = 1e-6
"""A LINEAR window of width 1 is a threshold (PS3.3 C.11.2.1.2.1): a ramp as narrow as this."""

Function = Literal["linear", "linear_exact", "sigmoid"]


class WindowParameters(Parameters):
    """A named window, the file's own (``header``), or level and width in the image's own units.

    ``function`` is that of PS3.3 C.11.2.1.3, linear_exact unless said; ``header`` obeys the file.
    """

    name: (
        Literal["lung", "mediastinum", "abdomen", "soft_tissue", "bone", "brain", "header"] | None
    ) = None
    level: float | None = None
    width: float | None = Field(default=None, gt=0)
    function: Function | None = Field(default=None, exclude_if=unsaid)

    @model_validator(mode="after")
    def _one_way(self) -> "WindowParameters":
        numbers = (self.level is not None) + (self.width is not None)
        if (self.name is None) != (numbers == 2) or numbers == 1:
            raise ValueError("give either name or both level and width")
        if self.name == HEADER and self.function is not None:
            raise ValueError("function goes without name: header, which obeys the file's own")
        if self.function == "linear" and self.width is not None and self.width < 1:
            raise ValueError(f"width {self.width:g} must be at least 1 for function: linear")
        return self


def _window(image: Image, params: WindowParameters) -> tuple[Image, dict]:
    array = image.array.astype(np.float32)
    if params.name == HEADER:
        return Image(_of_header(array, image), image.affine), {}
    level, width = WINDOWS[params.name] if params.name else (params.level, params.width)
    return Image(windowed(array, level, width, params.function or "linear_exact"), image.affine), {}


def windowed(array: np.ndarray, level: float, width: float, function: Function) -> np.ndarray:
    """Map intensities to 0 .. 1.

    Parameters
    ----------
    array : ndarray (z, y, x), float32
    level, width : float
        In the image's units.
    function : {"linear", "linear_exact", "sigmoid"}
        PS3.3 C.11.2.1.2.1 (of whole numbers: half a unit narrower on both sides), C.11.2.1.3.2 and
        C.11.2.1.3.1 (whose ends are approached, never reached).

    Returns
    -------
    ndarray (z, y, x), float32
    """
    if function == "sigmoid":
        # Beyond 20 the sigmoid is 1 in float32, and exp of more could overflow.
        slope = np.clip((array - np.float32(level)) * np.float32(-4 / width), -20, 20)
        return np.float32(1) / (np.float32(1) + np.exp(slope))
    if function == "linear":
        level, width = level - 0.5, max(width - 1, NARROWEST)
    scaled = (array - np.float32(level - width / 2)) / np.float32(width)
    return np.clip(scaled, 0.0, 1.0)


def _of_header(array: np.ndarray, image: Image) -> np.ndarray:
    """Obey the file: its window, or the range of an image that was read through it already."""
    if image.facts.get("voi") in APPLIED:
        low, high = float(array.min()), float(array.max())
        if low == high:
            raise BadCase("constant_image", f"all voxels are {low:g}: there is nothing to show")
        return (array - np.float32(low)) / np.float32(high - low)
    stated = image.facts.get("window")
    if not stated:
        raise BadCase("no_window", "the recipe asks for the file's own window and it states none")
    return windowed(array, stated["level"], stated["width"], stated["function"])


WINDOW = Step(version=1, parameters=WindowParameters, apply=_window)

STEPS: Mapping[str, Step] = {"window": WINDOW}
