"""Connected components of a mask, the largest of them, and holes in three dimensions."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from tasks.errors import BadCase
from tasks.imaging.masks.names import MaskName
from tasks.imaging.masks.planes import fill as fill_planes
from tasks.imaging.step import Image, Parameters, Step, named, need_mask, own_name

FACES = 6
"""Voxels touch through faces; through edges too would let one noisy voxel join two organs."""


COUNTED_AT_ONCE = 1 << 20
"""Voxels; bincount makes 8 bytes of each, which would not stay in the cache."""


def label(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the connected components of a mask.

    Parameters
    ----------
    mask : ndarray (z, y, x), bool or uint8

    Returns
    -------
    labels : ndarray (z, y, x), unsigned
        0 outside, 1..n in the order in which a scan of the array meets them.
    sizes : ndarray (n + 1,)
        Voxels of each; entry 0 is 0.
    """
    import cc3d

    labels, count = cc3d.connected_components(
        np.ascontiguousarray(mask), connectivity=FACES, binary_image=True, return_N=True
    )
    flat = labels.ravel(order="K")
    sizes = np.zeros(count + 1, np.int64)
    for begin in range(0, flat.size, COUNTED_AT_ONCE):
        sizes += np.bincount(flat[begin : begin + COUNTED_AT_ONCE], minlength=count + 1)
    sizes[0] = 0
    return labels, sizes


def largest(mask: np.ndarray, count: int = 1) -> np.ndarray:
    """Return the ``count`` largest components, uint8; of equal ones the first in scan order."""
    labels, sizes = label(mask)
    if count == 1:
        # Of equal ones argmax takes the first; comparing is faster than looking up.
        return (labels == max(1, int(sizes.argmax()))).view(np.uint8)
    # A stable sort keeps the scan order among equals.
    order = np.argsort(-sizes, kind="stable")[:count]
    keep = np.zeros(sizes.size, np.uint8)
    keep[order] = sizes[order] > 0
    return keep[labels]


def fill(mask: np.ndarray) -> np.ndarray:
    """Fill cavities that no path of 6-neighbours joins to the edge of the array, uint8.

    Equal to `scipy.ndimage.binary_fill_holes`.  Numbering the background is faster, also than the
    package fill_voids, whose 2.1.2 fills some background that does reach the edge.
    """
    # In a frame of background all that is outside is one component, that of the corner.
    labels, _ = label(np.pad(np.asarray(mask) == 0, 1, constant_values=True))
    return (labels != labels[0, 0, 0])[1:-1, 1:-1, 1:-1].astype(np.uint8)


class LargestComponentsParameters(Parameters):
    """The ``count`` largest parts of an earlier mask, or of all voxels above ``threshold``."""

    mask: MaskName | None = None
    threshold: float | None = None
    count: int = Field(default=1, ge=1, le=255)
    name: MaskName = "largest"

    @model_validator(mode="after")
    def _one_source(self) -> "LargestComponentsParameters":
        if (self.mask is None) == (self.threshold is None):
            raise ValueError("give either mask or threshold")
        return self


def _largest_components(image: Image, params: LargestComponentsParameters) -> tuple[Image, dict]:
    if params.mask is not None:
        source = need_mask(image, params.mask) != 0
    else:
        source = image.array > params.threshold
    if not source.any():
        raise BadCase("empty_mask", "largest_components found no voxel to choose from")
    return Image(image.array, image.affine, {params.name: largest(source, params.count)}), {}


class FillParameters(Parameters):
    """Close the holes of an earlier mask, in the whole volume or slice by slice.

    ``name`` is the mask itself unless given: it is replaced.
    """

    mask: MaskName
    by: Literal["volume", "slice"] = "volume"
    name: MaskName | None = None


def _fill(image: Image, params: FillParameters) -> tuple[Image, dict]:
    source = (need_mask(image, params.mask) != 0).view(np.uint8)
    filled = fill(source) if params.by == "volume" else fill_planes(source)
    return Image(image.array, image.affine, {params.name or params.mask: filled}), {}


def _filled_name(params: FillParameters) -> tuple[str, ...]:
    return (params.name or params.mask,)


LARGEST_COMPONENTS = Step(
    version=1,
    parameters=LargestComponentsParameters,
    apply=_largest_components,
    marks=own_name,
    needs=named,
)
FILL = Step(version=1, parameters=FillParameters, apply=_fill, marks=_filled_name, needs=named)

STEPS: Mapping[str, Step] = {"largest_components": LARGEST_COMPONENTS, "fill": FILL}
