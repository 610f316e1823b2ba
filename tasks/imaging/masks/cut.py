"""Use a mask on the image: cut to its box, or blank what lies outside."""

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import Field

from tasks.errors import BadCase
from tasks.imaging.crop import CROP, take_box
from tasks.imaging.masks.grid import box_of, spacing_mm
from tasks.imaging.masks.names import MaskName
from tasks.imaging.step import Bounds, Image, Parameters, Step, named, need_mask


class CropToMaskParameters(Parameters):
    """The box of a mask, wider by ``margin_mm`` on each side, as far as the image reaches."""

    mask: MaskName
    margin_mm: float = Field(default=0.0, ge=0, le=500)


def _crop_to_mask(image: Image, params: CropToMaskParameters) -> tuple[Image, dict]:
    mask = need_mask(image, params.mask)
    # A margin that ends inside a voxel takes the whole voxel.
    margin = tuple(math.ceil(params.margin_mm / step - 1e-9) for step in spacing_mm(image.affine))
    box = box_of(mask, margin)
    if box is None:
        raise BadCase("empty_mask", f"mask {params.mask!r} is empty: there is nothing to crop to")
    start = tuple(side.start for side in box)
    shape = tuple(side.stop - side.start for side in box)
    trace = {
        "source_shape": list(image.array.shape),
        "start": list(start),
        "shape": list(shape),
    }
    return Image(take_box(image.array, start, shape, 0), CROP.move(image.affine, trace)), trace


def _bounds(params: CropToMaskParameters, bounds: Bounds) -> Bounds:
    return tuple((1, high) for _, high in bounds)


class ApplyMaskParameters(Parameters):
    """What voxels outside the mask become: a value, or the image's minimum."""

    mask: MaskName
    outside: float | Literal["min"] = "min"


def _apply_mask(image: Image, params: ApplyMaskParameters) -> tuple[Image, dict]:
    inside = need_mask(image, params.mask) != 0
    array = image.array
    if params.outside == "min":
        return Image(np.where(inside, array, array.min()), image.affine), {}
    if array.dtype.kind in "iu" and not _holds(array.dtype, params.outside):
        # An integer image cannot hold -0.5; only then is it turned into float32.
        array = array.astype(np.float32)
    return Image(np.where(inside, array, array.dtype.type(params.outside)), image.affine), {}


def _holds(dtype: np.dtype, value: float) -> bool:
    limits = np.iinfo(dtype)
    return value.is_integer() and limits.min <= value <= limits.max


CROP_TO_MASK = Step(
    version=1,
    parameters=CropToMaskParameters,
    apply=_crop_to_mask,
    replay=CROP.replay,
    invert=CROP.invert,
    move=CROP.move,
    bounds=_bounds,
    needs=named,
)
APPLY_MASK = Step(version=1, parameters=ApplyMaskParameters, apply=_apply_mask, needs=named)

STEPS: Mapping[str, Step] = {"crop_to_mask": CROP_TO_MASK, "apply_mask": APPLY_MASK}
