"""Split what touches in a mask: nodules, nodes, cells, two bones of a joint."""

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from tasks.errors import BadCase
from tasks.imaging.masks.components import label
from tasks.imaging.masks.grid import box_of, spacing_mm
from tasks.imaging.masks.names import MaskName
from tasks.imaging.step import Image, Parameters, Step, named, need_mask, own_name

MOST_PARTS = 255
"""A mask holds uint8."""

APART_MM = 5.0
"""Middles nearer than this belong to one part."""


def split(mask: np.ndarray, spacing: tuple[float, float, float], apart_mm: float) -> np.ndarray:
    """Number the parts of a mask, split where they touch.

    The negative distance to the background is flooded from its minima (Meyer 1991; Vincent and
    Soille 1991, IEEE PAMI 13(6):583-598).  A minimum is a voxel whose distance is the largest of
    a box of ``apart_mm`` around it; voxels of it that touch are one.

    Parameters
    ----------
    mask : ndarray (z, y, x)
        Not 0 inside.
    spacing : tuple of float
        (z, y, x) in mm.
    apart_mm : float

    Returns
    -------
    ndarray of int32
        0 outside, 1..n in the order in which a scan of the array meets the middles.
    """
    import edt
    from scipy.ndimage import maximum_filter
    from skimage.segmentation import watershed

    inside = np.ascontiguousarray(mask != 0)
    # Distances to the edge of the image do not count: a part cut by it is not thinner for that.
    depth = edt.edt(inside, anisotropy=spacing, black_border=False, parallel=1)
    window = tuple(2 * max(1, int(apart_mm / step)) + 1 for step in spacing)
    peaks = inside & (depth == maximum_filter(depth, window))
    markers, _ = label(peaks)
    return watershed(-depth, markers.astype(np.int32), mask=inside)


class WatershedParameters(Parameters):
    """Which mask, and how far the middles of two parts are at least apart (mm)."""

    mask: MaskName
    apart_mm: float = Field(default=APART_MM, gt=0, le=200)
    name: MaskName = "parts"


def _watershed(image: Image, params: WatershedParameters) -> tuple[Image, dict]:
    source = need_mask(image, params.mask)
    parts = np.zeros(source.shape, np.uint8)
    box = box_of(source, (1, 1, 1))
    if box is None:
        raise BadCase("empty_mask", f"mask {params.mask!r} is empty: there is nothing to split")
    found = split(source[box], spacing_mm(image.affine), params.apart_mm)
    if found.max() > MOST_PARTS:
        detail = f"mask {params.mask!r} falls into {found.max()} parts and {MOST_PARTS} fit a mask"
        raise BadCase("too_many_parts", detail)
    parts[box] = found
    return Image(image.array, image.affine, {params.name: parts}), {}


WATERSHED = Step(
    version=1,
    parameters=WatershedParameters,
    apply=_watershed,
    voxel_ns=lambda params: 100,
    marks=own_name,
    needs=named,
)

STEPS: Mapping[str, Step] = {"watershed": WATERSHED}
