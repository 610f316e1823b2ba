"""Measure a region: numbers that travel in the trace, the image left as it is.

A step like any other, so that its settings and its version are part of the recipe's id, new
images are measured by the very recipe a model was trained with, and the numbers of a stored case
lie in its part.  It measures the image as it is at this point of the recipe: after resampling and
segmenting, before intensities are clipped or normalised.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from tasks.imaging.radiomics.discretise import MOST_LEVELS, Binning, discretise
from tasks.imaging.radiomics.families import FAMILIES, Choices
from tasks.imaging.radiomics.region import region_of
from tasks.imaging.step import FEATURES, Image, Parameters, Step, named

FamilyName = Literal["intensity", "histogram", "shape", "glcm", "hog", "lbp", "mirp"]
Aggregation = Literal[
    "2d_averaged",
    "2d_slice_merged",
    "2.5d_direction_merged",
    "2.5d_merged",
    "3d_averaged",
    "3d_merged",
]

WHOLE = "image"
"""What the region is called when no mask is named."""

REGION = 0.5
"""Share of an image's voxels that a named region is planned as; a lung's is less."""

SIGNIFICANT_DIGITS = 12
"""Kept of each number: beyond, libraries and CPUs differ, and no clinical figure has more."""


class FeaturesParameters(Parameters):
    """What is measured, where, and in which bins.

    ``mask`` names a mask that an earlier step made; without it the whole image is the region.
    Grey levels are a fixed number of ``bins`` or of fixed ``bin_width`` from the lower end of
    ``resegment``.  ``glcm`` lists ways to put directions together.  Columns are called
    ``name_family_number``; ``name`` is the mask's unless given.
    """

    families: tuple[FamilyName, ...] = Field(min_length=1)
    mask: str | None = None
    label: int | None = Field(default=None, ge=1, le=255)
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")] | None = None
    bins: int | None = Field(default=None, ge=2, le=MOST_LEVELS)
    bin_width: float | None = Field(default=None, gt=0)
    resegment: tuple[float, float] | None = None
    glcm: tuple[Aggregation, ...] = Field(default=("3d_merged",), min_length=1)
    hog_cells: int = Field(default=4, ge=1, le=11)

    @model_validator(mode="after")
    def _fits(self) -> "FeaturesParameters":
        for what, given in (("families", self.families), ("glcm", self.glcm)):
            if len(set(given)) < len(given):
                raise ValueError(f"{what} names one of them twice: {', '.join(given)}")
        if self.resegment is not None and self.resegment[0] >= self.resegment[1]:
            low, high = self.resegment
            raise ValueError(f"resegment from {low:g} to {high:g} is no range: give low and high")
        if self.mask is None and (self.label is not None or "shape" in self.families):
            raise ValueError("label and family shape need a mask: the image itself has no shape")
        self._binning_fits()
        return self

    def _binning_fits(self) -> None:
        binned = [family for family in self.families if FAMILIES[family].binned]
        ways = (self.bins is not None) + (self.bin_width is not None)
        if binned and ways != 1:
            raise ValueError(f"family {binned[0]} needs grey levels: give either bins or bin_width")
        if not binned and ways:
            raise ValueError("bins and bin_width go with histogram, glcm, lbp and mirp only")
        if self.bin_width is not None and self.resegment is None:
            # IBSI advises against it: the first bin would begin elsewhere in every image.
            raise ValueError("bin_width needs resegment: the first bin begins at its lower end")

    @property
    def region(self) -> str:
        """How columns of this step begin."""
        return self.name or self.mask or WHOLE

    @property
    def choices(self) -> Choices:
        """What the families are told."""
        return Choices(glcm=self.glcm, hog_cells=self.hog_cells)


def codes(params: FeaturesParameters) -> dict[str, str]:
    """Return the columns of a step in order, each with its IBSI code or an empty text."""
    return {
        f"{params.region}_{family}_{name}": code
        for family in params.families
        for name, code in FAMILIES[family].codes(params.choices).items()
    }


def _names(params: FeaturesParameters) -> tuple[str, ...]:
    return tuple(codes(params))


def _measure(image: Image, params: FeaturesParameters) -> tuple[Image, dict]:
    region = region_of(image, params.mask, params.label, params.resegment)
    levels, count = None, 0
    if any(FAMILIES[family].binned for family in params.families):
        start = None if params.resegment is None else params.resegment[0]
        levels, count = discretise(region, Binning(params.bins, params.bin_width, start))
    found = {}
    for family in params.families:
        numbers = FAMILIES[family].numbers(region, levels, count, params.choices)
        for name, number in numbers.items():
            found[f"{params.region}_{family}_{name}"] = _kept(number)
    return Image(image.array, image.affine), {FEATURES: found}


def _kept(number: float) -> float | None:
    """Return a number as it is stored: None for one that the region does not have."""
    if not math.isfinite(number):
        return None
    return float(np.format_float_scientific(number, SIGNIFICANT_DIGITS - 1, unique=False))


def _voxel_ns(params: FeaturesParameters) -> int:
    ways = {"glcm": len(params.glcm)}
    whole = sum(FAMILIES[family].voxel_ns * ways.get(family, 1) for family in params.families)
    return whole if params.mask is None else int(REGION * whole)


MEASURE = Step(
    version=1,
    parameters=FeaturesParameters,
    apply=_measure,
    voxel_ns=_voxel_ns,
    features=_names,
    needs=named,
)

STEPS: Mapping[str, Step] = {"features": MEASURE}
