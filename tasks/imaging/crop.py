"""Cut a box out of an image or put the image into a larger box."""

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from tasks.errors import BadCase
from tasks.hashing import unsaid
from tasks.imaging.step import Bounds, Image, Parameters, Shape, Step

Voxels = Annotated[int, Field(ge=1, le=8192)]


class CropParameters(Parameters):
    """A central box of at most ``shape``, or the box of all voxels above ``threshold`` or not 0."""

    shape: tuple[Voxels, Voxels, Voxels] | Literal["foreground", "nonzero"]
    threshold: float = 0.0
    margin: int = Field(default=0, ge=0, le=1024)

    @model_validator(mode="after")
    def _foreground_only(self) -> "CropParameters":
        if self.shape != "foreground" and self.threshold != 0.0:
            raise ValueError("threshold goes with shape: foreground only")
        if not isinstance(self.shape, str) and self.margin != 0:
            raise ValueError("margin goes with shape: foreground or nonzero only")
        return self


class PadParameters(Parameters):
    """A central place in a box of at least ``shape``, or of whole multiples of ``multiple_of``.

    ``value`` fills, or the image's minimum.  A network that halves an axis n times needs 2^n.
    """

    shape: tuple[Voxels, Voxels, Voxels] | None = Field(default=None, exclude_if=unsaid)
    multiple_of: tuple[Voxels, Voxels, Voxels] | None = Field(default=None, exclude_if=unsaid)
    value: float | Literal["min"] = "min"

    @model_validator(mode="after")
    def _one_way(self) -> "PadParameters":
        if (self.shape is None) == (self.multiple_of is None):
            raise ValueError("give either shape or multiple_of")
        return self


class PadSquareParameters(Parameters):
    """The shorter of rows and columns is padded on both sides to the longer."""

    value: float | Literal["min"] = "min"


def take_box(array: np.ndarray, start: Shape, shape: Shape, fill: float) -> np.ndarray:
    """Return the box that begins at index ``start``; what lies outside the array is ``fill``."""
    out = np.full(shape, fill, dtype=array.dtype)
    source, target = [], []
    for begin, size, have in zip(start, shape, array.shape, strict=True):
        low, high = max(begin, 0), min(begin + size, have)
        if low >= high:
            return out
        source.append(slice(low, high))
        target.append(slice(low - begin, high - begin))
    out[tuple(target)] = array[tuple(source)]
    return out


def _box(image: Image, start: Shape, shape: Shape, fill: float) -> tuple[Image, dict]:
    trace = {
        "source_shape": list(image.array.shape),
        "start": [int(begin) for begin in start],
        "shape": [int(size) for size in shape],
    }
    return Image(take_box(image.array, start, shape, fill), _move(image.affine, trace)), trace


def _crop(image: Image, params: CropParameters) -> tuple[Image, dict]:
    have = image.array.shape
    if not isinstance(params.shape, str):
        shape = tuple(min(size, wish) for size, wish in zip(have, params.shape, strict=True))
        start = tuple((size - kept) // 2 for size, kept in zip(have, shape, strict=True))
        return _box(image, start, shape, 0)
    nonzero = params.shape == "nonzero"
    inside = image.array != 0 if nonzero else image.array > params.threshold
    start, shape = [], []
    for axis in range(3):
        hit = np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        if hit.size == 0:
            detail = f"no voxel is above {params.threshold:g}: lower the threshold of crop"
            detail = "all voxels are 0: there is nothing to crop to" if nonzero else detail
            raise BadCase("no_foreground", detail)
        low = max(0, int(hit[0]) - params.margin)
        high = min(have[axis], int(hit[-1]) + 1 + params.margin)
        start.append(low)
        shape.append(high - low)
    return _box(image, tuple(start), tuple(shape), 0)


def _pad(image: Image, params: PadParameters) -> tuple[Image, dict]:
    return _centre(image, _padded(params, image.array.shape), params.value)


def _padded(params: PadParameters, have: Shape) -> Shape:
    if params.multiple_of is None:
        return tuple(max(size, least) for size, least in zip(have, params.shape, strict=True))
    pairs = zip(have, params.multiple_of, strict=True)
    return tuple(-(-size // whole) * whole for size, whole in pairs)


def _pad_square(image: Image, params: PadSquareParameters) -> tuple[Image, dict]:
    z, y, x = image.array.shape
    return _centre(image, (z, max(y, x), max(y, x)), params.value)


def _centre(image: Image, wish: Shape, value: float | str) -> tuple[Image, dict]:
    have = image.array.shape
    shape = tuple(max(size, least) for size, least in zip(have, wish, strict=True))
    start = tuple(-((new - size) // 2) for size, new in zip(have, shape, strict=True))
    if value == "min":
        return _box(image, start, shape, image.array.min())
    # An integer image cannot hold -0.5; only then is it turned into float32.
    as_float = image.array.dtype.kind in "iub" and not _holds(image.array.dtype, value)
    array = image.array.astype(np.float32) if as_float else image.array
    return _box(Image(array, image.affine), start, shape, value)


def _holds(dtype: np.dtype, value: float) -> bool:
    limits = np.iinfo(dtype) if dtype.kind in "iu" else None
    return limits is not None and value.is_integer() and limits.min <= value <= limits.max


def _move(affine: np.ndarray, trace: dict) -> np.ndarray:
    step = np.eye(4)
    step[:3, 3] = trace["start"]
    return affine @ step


def _replay(label: np.ndarray, trace: dict) -> np.ndarray:
    return take_box(label, tuple(trace["start"]), tuple(trace["shape"]), 0)


def _invert(array: np.ndarray, trace: dict, linear: bool) -> np.ndarray:
    back = tuple(-begin for begin in trace["start"])
    return take_box(array, back, tuple(trace["source_shape"]), 0)


def _crop_bounds(params: CropParameters, bounds: Bounds) -> Bounds:
    if isinstance(params.shape, str):
        return tuple((1, high) for _, high in bounds)
    pairs = zip(bounds, params.shape, strict=True)
    return tuple((min(low, size), min(high, size)) for (low, high), size in pairs)


def _pad_bounds(params: PadParameters, bounds: Bounds) -> Bounds:
    lows, highs = (_padded(params, sizes) for sizes in zip(*bounds, strict=True))
    return tuple(zip(lows, highs, strict=True))


def _square_bounds(params: PadSquareParameters, bounds: Bounds) -> Bounds:
    z, y, x = bounds
    side = (max(y[0], x[0]), max(y[1], x[1]))
    return (z, side, side)


_GEOMETRY = {"replay": _replay, "invert": _invert, "move": _move}
CROP = Step(
    version=1,
    parameters=CropParameters,
    apply=_crop,
    by_voxels=lambda params: isinstance(params.shape, str),
    bounds=_crop_bounds,
    **_GEOMETRY,
)
PAD = Step(version=1, parameters=PadParameters, apply=_pad, bounds=_pad_bounds, **_GEOMETRY)
PAD_SQUARE = Step(
    version=1,
    parameters=PadSquareParameters,
    apply=_pad_square,
    bounds=_square_bounds,
    **_GEOMETRY,
)

STEPS: Mapping[str, Step] = {"crop": CROP, "pad": PAD, "pad_square": PAD_SQUARE}
