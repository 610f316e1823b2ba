"""Denoising by the patches that look alike: non-local means."""

from collections.abc import Mapping
from itertools import product
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from tasks.imaging.filters import noise_sigma
from tasks.imaging.step import Image, Parameters, Shape, Step

SLAB = 8
"""Slices of a volume worked on at once, which bounds memory."""


class NonLocalMeansParameters(Parameters):
    """Sides of patches and reach of the search in voxels, noise in the image's units.

    ``strength`` times ``sigma`` is the difference of patches that still counts.
    """

    sigma: float | Literal["estimate"] = "estimate"
    strength: float = Field(default=1.0, gt=0, le=10)
    patch: Literal[3, 5, 7, 9] = 5
    reach: int = Field(default=6, ge=1, le=20)
    dimensions: Literal[2, 3] = 2

    @field_validator("sigma")
    @classmethod
    def _positive(cls, sigma: float | str) -> float | str:
        if sigma != "estimate" and sigma <= 0:
            raise ValueError(f"sigma {sigma:g} must be above 0")
        return sigma


def _non_local_means(image: Image, params: NonLocalMeansParameters) -> tuple[Image, dict]:
    array = image.array.astype(np.float32, copy=False)
    sigma = noise_sigma(array) if params.sigma == "estimate" else params.sigma
    if sigma == 0:
        return Image(array, image.affine), {}
    done = non_local_means(
        array, sigma, params.strength * sigma, params.patch, params.reach, params.dimensions
    )
    return Image(done, image.affine), {}


def non_local_means(
    array: np.ndarray, sigma: float, h: float, patch: int, reach: int, dimensions: int
) -> np.ndarray:
    """Average the voxels within reach, weighted by how alike the patches around them are.

    Buades, Coll and Morel 2005 (CVPR) with flat patches, as Darbon et al. 2008 (ISBI): the weight
    is exp(-max(d2 - 2 sigma^2, 0) / h^2), d2 the mean squared difference of two patches.  The
    image is mirrored at its edges.

    Parameters
    ----------
    array : ndarray (z, y, x)
    sigma, h : float
        The noise and the strength, in the image's units.
    patch : int, odd
        Voxels along a side of a patch.
    reach : int
        Voxels searched to each side.
    dimensions : {2, 3}

    Returns
    -------
    ndarray (z, y, x), float32
    """
    deep = dimensions == 3 and array.shape[0] > 1
    half = patch // 2
    far = (reach if deep else 0, reach, reach)
    margin = (half if deep else 0, half, half)
    width = [(a + b, a + b) for a, b in zip(far, margin, strict=True)]
    array = array.astype(np.float32, copy=False)
    padded = np.pad(array, width, mode="reflect")
    out = np.empty_like(array)
    slab = SLAB if deep else 1
    for begin in range(0, array.shape[0], slab):
        end = min(begin + slab, array.shape[0])
        block = padded[begin : end + 2 * width[0][0]]
        out[begin:end] = _core(block, far, margin, np.float32(2 * sigma**2), np.float32(h**-2))
    return out


def _core(
    block: np.ndarray, far: Shape, margin: Shape, floor: np.float32, sharpness: np.float32
) -> np.ndarray:
    """Return the means of a block's voxels that are at least far + margin from its sides."""
    core = tuple(size - 2 * (a + b) for size, a, b in zip(block.shape, far, margin, strict=True))
    start = tuple(a + b for a, b in zip(far, margin, strict=True))
    total = block[_window(start, core)].copy()
    weights = np.ones_like(total)
    for offset in product(*(range(-reach, reach + 1) for reach in far)):
        # A pair of patches is compared once, and counts for the voxels at both ends.
        if offset <= (0, 0, 0):
            continue
        low = tuple(at + min(0, -step) for at, step in zip(start, offset, strict=True))
        size = tuple(n + abs(step) for n, step in zip(core, offset, strict=True))
        alike = _patch_distance(block, low, size, offset, margin)
        alike -= floor
        np.maximum(alike, 0, out=alike)
        alike *= -sharpness
        np.exp(alike, out=alike)
        for sign in (1, -1):
            # Forwards the pair begins in the core; backwards it ends there.
            first = [at - (step if sign < 0 else 0) for at, step in zip(start, offset, strict=True)]
            own = alike[_window([at - by for at, by in zip(first, low, strict=True)], core)]
            partner = [at + sign * step for at, step in zip(start, offset, strict=True)]
            weights += own
            total += own * block[_window(partner, core)]
    total /= weights
    return total


def _patch_distance(
    block: np.ndarray, low: Shape, size: Shape, offset: Shape, margin: Shape
) -> np.ndarray:
    """Return the mean squared difference of the patches around each voxel and its partner."""
    import cv2

    begin = [at - by for at, by in zip(low, margin, strict=True)]
    extent = [n + 2 * by for n, by in zip(size, margin, strict=True)]
    shifted = [at + step for at, step in zip(begin, offset, strict=True)]
    difference = block[_window(begin, extent)] - block[_window(shifted, extent)]
    difference *= difference
    side = 2 * margin[1] + 1
    inner = (slice(margin[1], -margin[1]), slice(margin[2], -margin[2]))
    planes = np.stack([cv2.blur(plane, (side, side))[inner] for plane in difference])
    if not margin[0]:
        return planes
    total = planes[: size[0]].copy()
    for step in range(1, side):
        total += planes[step : step + size[0]]
    total /= side
    return total


def _window(start: Shape | list[int], size: Shape | list[int]) -> tuple[slice, ...]:
    return tuple(slice(at, at + n) for at, n in zip(start, size, strict=True))


def _voxel_ns(params: NonLocalMeansParameters) -> int:
    return (3 if params.dimensions == 2 else 7) * (2 * params.reach + 1) ** params.dimensions


NON_LOCAL_MEANS = Step(
    version=1,
    parameters=NonLocalMeansParameters,
    apply=_non_local_means,
    voxel_ns=_voxel_ns,
    copies=2,
)

STEPS: Mapping[str, Step] = {"non_local_means": NON_LOCAL_MEANS}
