"""Change the grid: to a spacing in millimetres or to a shape.

Voxels are boxes that fill the field of view, so the corners of the field stay where they are: an
image of n voxels brought to m has voxels n/m times as large, exactly.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from tasks.cohort.fingerprint import Fingerprint
from tasks.errors import BadCase
from tasks.imaging.step import UNBOUNDED, Bounds, Image, Parameters, Shape, Step

Millimetres = Annotated[float, Field(gt=0, le=100)]
Voxels = Annotated[int, Field(ge=1, le=8192)]

LARGEST_GROWTH = 64
"""More voxels than this for each source voxel means a wrong spacing in a header, not a wish."""


class ResampleParameters(Parameters):
    """Spacing (z, y, x) in mm, or ``median``: that of the training cases."""

    spacing: tuple[Millimetres, Millimetres, Millimetres] | Literal["median"]


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
    return _to_shape(image, shape)


def _resize(image: Image, params: ResizeParameters) -> tuple[Image, dict]:
    return _to_shape(image, params.shape)


def _move(affine: np.ndarray, trace: dict) -> np.ndarray:
    scale = np.divide(trace["source_shape"], trace["shape"])
    step = np.eye(4)
    step[:3, :3] = np.diag(scale)
    step[:3, 3] = (scale - 1) / 2
    return affine @ step


def _replay(label: np.ndarray, trace: dict) -> np.ndarray:
    return resize_nearest(label, tuple(trace["shape"]))


def _invert(array: np.ndarray, trace: dict, linear: bool) -> np.ndarray:
    source = tuple(trace["source_shape"])
    return resize_linear(array, source) if linear else resize_nearest(array, source)


def _needs_fit(params: ResampleParameters) -> bool:
    return params.spacing == "median"


def _fit(params: ResampleParameters, fingerprint: Fingerprint) -> ResampleParameters:
    return ResampleParameters(spacing=tuple(float(mm) for mm in fingerprint.median_spacing))


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
