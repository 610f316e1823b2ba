"""Change the grid: to a spacing in millimetres or to a shape.

Voxels are boxes that fill the field of view, so the corners of the field stay where they are: an
image of n voxels brought to m has voxels n/m times as large, exactly.

``order: cubic`` and ``masks: onehot`` follow nnU-Net (Isensee et al., Nat. Methods 18, 2021; its
``default_resampling.py``): images by cubic B-splines held to the range of the source, masks by the
largest share, and of thick slices the nearest, each resized in its plane.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from tasks.cohort.fingerprint import Fingerprint
from tasks.errors import BadCase
from tasks.imaging.spline import resize_cubic
from tasks.imaging.step import UNBOUNDED, Bounds, Image, Parameters, Shape, Step

Millimetres = Annotated[float, Field(gt=0, le=100)]
Voxels = Annotated[int, Field(ge=1, le=8192)]

LARGEST_GROWTH = 64
"""More voxels than this for each source voxel means a wrong spacing in a header, not a wish."""

ANISOTROPIC = 3.0
"""Voxels more than this many times as long as wide are thick slices: nnU-Net's limit. A smooth
curve from one such slice to the next would invent anatomy."""


def _choice(default: str) -> Any:
    """Return a field left out of a recipe at its default: one from before it keeps its id."""
    return Field(default=default, exclude_if=lambda value: value == default)


class ResampleParameters(Parameters):
    """Spacing (z, y, x) in mm, or ``median``: that of the training cases; how to interpolate.

    ``auto`` is nnU-Net's spacing: the median, but thick slices become thinner, see
    `tasks.cohort.fingerprint.target_spacing`.
    ``thick_axis`` goes with ``order: cubic`` and says what is done along the axis of thick slices.
    """

    spacing: tuple[Millimetres, Millimetres, Millimetres] | Literal["median", "auto"]
    order: Literal["linear", "cubic"] = _choice("linear")
    thick_axis: Literal["nearest", "linear", "cubic"] = _choice("nearest")
    masks: Literal["nearest", "onehot"] = _choice("nearest")

    @model_validator(mode="after")
    def _cubic_only(self) -> "ResampleParameters":
        if self.thick_axis != "nearest" and self.order != "cubic":
            raise ValueError("thick_axis goes with order: cubic only")
        return self


class ResizeParameters(Parameters):
    """Shape (z, y, x) in voxels."""

    shape: tuple[Voxels, Voxels, Voxels]


def resize_linear(array: np.ndarray, shape: Shape) -> np.ndarray:
    """Resize linearly between voxel centres, edges repeated.

    Two passes of OpenCV, in plane and then along z, equal to trilinear interpolation.  A single
    image that shrinks is averaged over the area of each new pixel, so that nothing aliases;
    volumes are not smoothed before (as nnU-Net does not).

    Parameters
    ----------
    array : ndarray (z, y, x)
    shape : tuple of int
        (z, y, x) wanted.

    Returns
    -------
    ndarray of float32, ``shape``
    """
    import cv2

    array = np.ascontiguousarray(array, dtype=np.float32)
    z, y, x = array.shape
    if (y, x) != shape[1:]:
        shrinks = z == 1 and shape[1] <= y and shape[2] <= x
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        planes = np.empty((z, shape[1], shape[2]), np.float32)
        for index in range(z):
            cv2.resize(array[index], shape[:0:-1], dst=planes[index], interpolation=how)
        array = planes
    if z != shape[0]:
        flat = array.reshape(z, -1)
        size = (flat.shape[1], shape[0])
        array = cv2.resize(flat, size, interpolation=cv2.INTER_LINEAR).reshape(shape)
    return array


def resize_nearest(array: np.ndarray, shape: Shape) -> np.ndarray:
    """Resize by taking the voxel whose box holds the new centre; values and type are kept."""
    # (2k + 1) n // (2 m) is floor((k + 1/2) n / m) in integers, free of rounding.
    picks = [
        (2 * np.arange(new) + 1) * old // (2 * new)
        for old, new in zip(array.shape, shape, strict=True)
    ]
    return np.ascontiguousarray(array[np.ix_(*picks)])


def resize_onehot(label: np.ndarray, shape: Shape) -> np.ndarray:
    """Give each voxel the label that has the largest share of it, each resized linearly.

    Borders are smoother than those of `resize_nearest`, and no label is made that was not there.
    Of equal shares the higher label wins, as in nnU-Net; where several labels meet and none has
    one half, nnU-Net leaves background.

    Parameters
    ----------
    label : ndarray (z, y, x) of integers or bool
    shape : tuple of int
        (z, y, x) wanted.

    Returns
    -------
    ndarray of the type of ``label``, ``shape``
    """
    lowest, *others = np.unique(label)
    # What the others leave over is the share of the lowest label: it needs no pass of its own.
    left, best = np.ones(shape, np.float32), np.zeros(shape, np.float32)
    out = np.full(shape, lowest, label.dtype)
    for value in others:
        share = resize_linear(label == value, shape)
        left -= share
        wins = (share > 0) & (share >= best)
        out[wins], best[wins] = value, share[wins]
    out[left > best] = lowest
    return out


def thick_axis(spacing: Sequence[float], wished: Sequence[float]) -> int | None:
    """Return the axis of thick slices by nnU-Net's rule, or None.

    Parameters
    ----------
    spacing, wished : sequence of float
        (z, y, x) in mm of the image and of the result; the first that is anisotropic decides.
        Two axes equally long are rods, not slices.
    """
    for sizes in (spacing, wished):
        if max(sizes) > ANISOTROPIC * min(sizes):
            longest = [axis for axis in range(3) if sizes[axis] == max(sizes)]
            return longest[0] if len(longest) == 1 else None
    return None


Resize = Callable[[np.ndarray, Shape], np.ndarray]


def _by_trace(
    array: np.ndarray, shape: Shape, trace: dict, way: Resize, between: Resize
) -> np.ndarray:
    """Resize one ``way``; where slices are thick, in their planes, then the nearest of them."""
    axis = trace.get("thick")
    if axis is None:
        return way(array, shape)
    flat = tuple(array.shape[i] if i == axis else shape[i] for i in range(3))
    along = resize_nearest if trace["through"] == "nearest" else between
    return along(way(array, flat), shape)


def _linear(array: np.ndarray, shape: Shape, trace: dict) -> np.ndarray:
    return _by_trace(array, shape, trace, resize_linear, resize_linear)


def _cubic(array: np.ndarray, shape: Shape, trace: dict) -> np.ndarray:
    """Resize by splines, thick slices each held to its own range, else all voxels to theirs."""
    across = tuple(axis for axis in range(3) if axis != trace.get("thick"))

    def in_range(array: np.ndarray, shape: Shape) -> np.ndarray:
        low, high = (end(axis=across, keepdims=True) for end in (array.min, array.max))
        return np.clip(resize_cubic(array, shape), np.float32(low), np.float32(high))

    return _by_trace(array, shape, trace, in_range, resize_linear)


def _label(array: np.ndarray, shape: Shape, trace: dict) -> np.ndarray:
    if "masks" not in trace:
        return resize_nearest(array, shape)
    return _by_trace(array, shape, trace, resize_onehot, resize_onehot)


def _to_shape(image: Image, shape: Shape) -> tuple[Image, dict]:
    trace = {"source_shape": list(image.array.shape), "shape": list(shape)}
    return Image(resize_linear(image.array, shape), _move(image.affine, trace)), trace


def _resample(image: Image, params: ResampleParameters) -> tuple[Image, dict]:
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    source = image.array.shape
    shape = tuple(
        max(1, round(size * old / new))
        for size, old, new in zip(source, spacing.tolist(), params.spacing, strict=True)
    )
    if np.prod(shape, dtype=float) > LARGEST_GROWTH * np.prod(source, dtype=float):
        detail = (
            f"spacing {np.round(spacing, 3).tolist()} mm to {list(params.spacing)} mm makes more "
            f"than {LARGEST_GROWTH} voxels of each: check the source spacing or the recipe"
        )
        raise BadCase("resample_too_large", detail)
    trace = _trace(params, source, shape, spacing)
    resized = _cubic if params.order == "cubic" else _linear
    return Image(resized(image.array, shape, trace), _move(image.affine, trace)), trace


def _trace(params: ResampleParameters, source: Shape, shape: Shape, spacing: np.ndarray) -> dict:
    trace: dict = {"source_shape": list(source), "shape": list(shape)}
    if params.order == "cubic" and params.thick_axis != "cubic":
        axis = thick_axis(spacing.tolist(), params.spacing)
        trace |= {} if axis is None else {"thick": axis, "through": params.thick_axis}
    return trace if params.masks == "nearest" else {**trace, "masks": params.masks}


def _resize(image: Image, params: ResizeParameters) -> tuple[Image, dict]:
    return _to_shape(image, params.shape)


def _move(affine: np.ndarray, trace: dict) -> np.ndarray:
    scale = np.divide(trace["source_shape"], trace["shape"])
    step = np.eye(4)
    step[:3, :3] = np.diag(scale)
    step[:3, 3] = (scale - 1) / 2
    return affine @ step


def _replay(label: np.ndarray, trace: dict) -> np.ndarray:
    return _label(label, tuple(trace["shape"]), trace)


def _invert(array: np.ndarray, trace: dict, linear: bool) -> np.ndarray:
    source = tuple(trace["source_shape"])
    return _linear(array, source, trace) if linear else _label(array, source, trace)


def _needs_fit(params: ResampleParameters) -> bool:
    return isinstance(params.spacing, str)


def _fit(params: ResampleParameters, fingerprint: Fingerprint) -> ResampleParameters:
    auto = params.spacing == "auto"
    spacing = fingerprint.target_spacing if auto else fingerprint.median_spacing
    return params.model_copy(update={"spacing": tuple(float(mm) for mm in spacing)})


def _any_shape(params: ResampleParameters, bounds: Bounds) -> Bounds:
    return ((1, UNBOUNDED),) * 3


def _this_shape(params: ResizeParameters, bounds: Bounds) -> Bounds:
    return tuple((size, size) for size in params.shape)


RESAMPLE = Step(
    version=1,
    parameters=ResampleParameters,
    apply=_resample,
    replay=_replay,
    invert=_invert,
    move=_move,
    needs_fit=_needs_fit,
    fit=_fit,
    bounds=_any_shape,
)
RESIZE = Step(
    version=1,
    parameters=ResizeParameters,
    apply=_resize,
    replay=_replay,
    invert=_invert,
    move=_move,
    bounds=_this_shape,
)

STEPS: Mapping[str, Step] = {"resample": RESAMPLE, "resize": RESIZE}
