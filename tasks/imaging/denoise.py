"""Denoising by the voxels around: median, Gaussian, bilateral.

Every filter says whether it works slice by slice (``dimensions: 2``) or in the volume (3); lengths
are in mm or in voxels, as ``unit`` says.  Slices far thicker than their pixels are best left apart.
"""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Literal

import numpy as np
from pydantic import Field

from tasks.imaging.filters import each_plane, gaussian_blur, lengths_in_voxels
from tasks.imaging.median27 import median_of_27
from tasks.imaging.step import Image, Numbers3, Parameters, Shape, Step

OPENCV_MEDIAN = 5
"""OpenCV takes medians of floats over at most 5 x 5 pixels; larger ones are ITK's."""

ITK_MEDIAN_NS = 13
"""What ITK's median costs a voxel for each one of its neighbourhood, for the plan."""

BILATERAL_REACH = 2.0
"""The bilateral filter looks this many standard deviations far: weights below 0.14 are lost."""

OPENCV_BINS = 4096
"""OpenCV looks the weights of float differences up in this many bins over the image's range ..."""

OPENCV_FINE = 0.1
"""... and interpolates: bins of at most this many sigma_value err by 1e-3 of a weight or less."""


class MedianParameters(Parameters):
    """Voxels along a side of the neighbourhood."""

    size: Literal[3, 5, 7, 9] = 3
    dimensions: Literal[2, 3] = 2


def median(array: np.ndarray, size: int, dimensions: int) -> np.ndarray:
    """Return the median of each voxel's square or cube; equal to scipy's (``nearest``).

    Parameters
    ----------
    array : ndarray (z, y, x)
    size : int, odd
        Voxels a side.
    dimensions : {2, 3}

    Returns
    -------
    ndarray (z, y, x), float32
    """
    if dimensions == 3 and size == 3:
        return median_of_27(array)
    if dimensions == 2 and size <= OPENCV_MEDIAN:
        import cv2

        return each_plane(array, lambda plane: cv2.medianBlur(plane, size))
    import SimpleITK

    half = size // 2
    itk = SimpleITK.MedianImageFilter()
    itk.SetNumberOfThreads(1)
    itk.SetRadius((half, half, half if dimensions == 3 else 0))
    source = SimpleITK.GetImageFromArray(array.astype(np.float32, copy=False))
    return SimpleITK.GetArrayFromImage(itk.Execute(source))


def _median(image: Image, params: MedianParameters) -> tuple[Image, dict]:
    return Image(median(image.array, params.size, params.dimensions), image.affine), {}


class GaussianParameters(Parameters):
    """Standard deviation of the Gaussian, in mm or voxels."""

    sigma: float = Field(gt=0, le=100)
    unit: Literal["mm", "voxels"] = "mm"
    dimensions: Literal[2, 3] = 2


def _gaussian(image: Image, params: GaussianParameters) -> tuple[Image, dict]:
    sigma = lengths_in_voxels(image, params.sigma, params.unit, params.dimensions)
    return Image(gaussian_blur(image.array, sigma), image.affine), {}


class BilateralParameters(Parameters):
    """Standard deviations in space (mm or voxels) and in value (the image's own units)."""

    sigma: float = Field(gt=0, le=20)
    sigma_value: float = Field(gt=0)
    unit: Literal["mm", "voxels"] = "voxels"
    dimensions: Literal[2, 3] = 2


def _bilateral(image: Image, params: BilateralParameters) -> tuple[Image, dict]:
    sigma = lengths_in_voxels(image, params.sigma, params.unit, params.dimensions)
    return Image(bilateral(image.array, sigma, params.sigma_value), image.affine), {}


def bilateral(array: np.ndarray, sigma: Numbers3, sigma_value: float) -> np.ndarray:
    """Average voxels that are near both in space and in value.

    Tomasi and Manduchi 1998, ICCV: Gaussian weights in space and value, over the ellipsoid of
    `BILATERAL_REACH` standard deviations, at least one voxel far.  Square pixels of single slices
    are left to OpenCV where its table of weights is fine enough.

    Parameters
    ----------
    array : ndarray (z, y, x)
    sigma : three floats
        In voxels along z, y and x; 0 along z for single slices.
    sigma_value : float
        In the image's units.

    Returns
    -------
    ndarray (z, y, x), float32
    """
    array = array.astype(np.float32, copy=False)
    reach = tuple(max(1, round(BILATERAL_REACH * one)) if one else 0 for one in sigma)
    bin_width = float(np.ptp(array)) / OPENCV_BINS
    if sigma[0] or sigma[1] != sigma[2] or bin_width > OPENCV_FINE * sigma_value:
        return _bilateral_of_pairs(array, sigma, sigma_value, reach)
    import cv2

    size, edge = 2 * reach[1] + 1, cv2.BORDER_REPLICATE
    return each_plane(
        array,
        lambda plane: cv2.bilateralFilter(plane, size, sigma_value, sigma[1], borderType=edge),
    )


def _bilateral_of_pairs(
    array: np.ndarray, sigma: Numbers3, sigma_value: float, reach: Shape
) -> np.ndarray:
    """Visit each pair of voxels once: its weight is the same seen from either end.

    Plane by plane, so that what is worked on stays in the processor's cache.
    """
    padded = np.pad(array, [(far, far) for far in reach], mode="edge")
    total, weights = np.zeros_like(padded), np.ones_like(padded)
    sharpness = np.float32(-0.5 / sigma_value**2)
    for z, offset in product(range(padded.shape[0]), tuple(_half_ball(reach))):
        if z + offset[0] >= padded.shape[0]:
            continue
        here, there = _overlap(padded.shape, offset)
        ours, theirs = (z, *here), (z + offset[0], *there)
        steps = (step / one for step, one in zip(offset, sigma, strict=True) if one)
        nearness = np.float32(np.exp(-0.5 * sum(step**2 for step in steps)))
        difference = padded[theirs] - padded[ours]
        weight = difference * difference
        weight *= sharpness
        np.exp(weight, out=weight)
        weight *= nearness
        weights[ours] += weight
        weights[theirs] += weight
        weight *= difference
        total[ours] += weight
        total[theirs] -= weight
    total /= weights
    total += padded
    inner = tuple(slice(far, size - far) for far, size in zip(reach, padded.shape, strict=True))
    return np.ascontiguousarray(total[inner])


def _half_ball(reach: Shape) -> Iterator[Shape]:
    """Give one of each two opposite offsets inside the ellipsoid."""
    for offset in product(*(range(-far, far + 1) for far in reach)):
        square = sum((step / far) ** 2 for step, far in zip(offset, reach, strict=True) if far)
        if offset > (0, 0, 0) and square <= 1:
            yield offset


def _overlap(shape: Shape, offset: Shape) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return where voxels with a partner at the offset lie in a plane, and where the partners."""
    here, there = [], []
    for size, step in zip(shape[1:], offset[1:], strict=True):
        here.append(slice(max(0, -step), size - max(0, step)))
        there.append(slice(max(0, step), size - max(0, -step)))
    return tuple(here), tuple(there)


def _median_ns(params: MedianParameters) -> int:
    if params.dimensions == 3 and params.size == 3:
        return 50
    if params.dimensions == 2 and params.size <= OPENCV_MEDIAN:
        return 5
    return ITK_MEDIAN_NS * params.size**params.dimensions


def _bilateral_ns(params: BilateralParameters) -> int:
    # In mm the reach is not known yet: voxels of 1 mm are assumed.
    far = max(1, round(BILATERAL_REACH * params.sigma))
    return (2 * far + 1) ** params.dimensions


MEDIAN = Step(version=1, parameters=MedianParameters, apply=_median, voxel_ns=_median_ns, copies=2)
GAUSSIAN = Step(version=1, parameters=GaussianParameters, apply=_gaussian)
BILATERAL = Step(
    version=1, parameters=BilateralParameters, apply=_bilateral, voxel_ns=_bilateral_ns, copies=2
)

STEPS: Mapping[str, Step] = {"median": MEDIAN, "gaussian": GAUSSIAN, "bilateral": BILATERAL}
