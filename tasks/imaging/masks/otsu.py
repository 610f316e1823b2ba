"""Otsu's thresholds: one, or several, from the histogram of the image."""

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from tasks.errors import BadCase
from tasks.imaging.masks.names import MaskName
from tasks.imaging.step import Image, Parameters, Step, own_name

FLOAT_BINS = 256
"""Bins of an image of floats, and of several thresholds: what scikit-image uses."""

WIDEST_COUNT = 1 << 16
"""Integers that span more values than this are counted in bins like floats."""


def histogram(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count grey values: every integer on its own, floats in 256 bins.

    Returns
    -------
    counts : ndarray (n,), int64
    centres : ndarray (n,), float64
        In the image's units.

    Raises
    ------
    BadCase
        ``constant_image`` when all voxels are equal.
    """
    low, high = array.min(), array.max()
    if low == high:
        raise BadCase("constant_image", f"all voxels are {float(low):g}: no threshold parts them")
    if array.dtype.kind in "iu" and int(high) - int(low) < WIDEST_COUNT:
        size = int(high) - int(low) + 1
        counts = np.zeros(size, np.int64)
        for plane in array:
            # A plane at a time: bincount wants 64-bit indices.
            counts += np.bincount(plane.ravel().astype(np.int64) - int(low), minlength=size)
        return counts, np.arange(size) + float(low)
    return _binned(array, FLOAT_BINS)


def _binned(array: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    counts, edges = np.histogram(array, bins)
    return counts, (edges[:-1] + edges[1:]) / 2


def otsu_threshold(array: np.ndarray) -> float:
    """Return the grey value that best parts an image in two: the upper class lies above it.

    Between-class variance is maximised (Otsu 1979, IEEE Trans. SMC 9(1):62-66) over the counts of
    `histogram`; equal to `skimage.filters.threshold_otsu`.
    """
    counts, centres = histogram(array)
    counts = counts.astype(np.float64)
    below = np.cumsum(counts)
    above = below[-1] - below + counts
    weighted = counts * centres
    mean_below = np.cumsum(weighted) / np.maximum(below, 1)
    mean_above = np.cumsum(weighted[::-1])[::-1] / np.maximum(above, 1)
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return float(centres[int(np.argmax(between))])


def multi_otsu_thresholds(array: np.ndarray, classes: int) -> list[float]:
    """Return the ``classes - 1`` grey values that best part an image, ascending.

    Liao, Chen and Chung 2001 (J. Inf. Sci. Eng. 17(5):713-727), on 256 bins; the figures are those
    of `skimage.filters.threshold_multiotsu`, which does the search.

    Raises
    ------
    BadCase
        ``constant_image`` when there are fewer grey values than classes.
    """
    from skimage.filters import threshold_multiotsu

    counts, centres = histogram(array)
    present = int(np.count_nonzero(counts))
    if present < classes:
        detail = f"the image has {present} grey values: they cannot be parted in {classes} classes"
        raise BadCase("constant_image", detail)
    if counts.size > FLOAT_BINS:
        counts, centres = _rebinned(counts, centres)
    return [float(value) for value in threshold_multiotsu(hist=(counts, centres), classes=classes)]


def _rebinned(counts: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gather single grey values in 256 bins, as `numpy.histogram` of the image would."""
    binned, edges = np.histogram(centres, FLOAT_BINS, weights=counts)
    return binned.astype(np.int64), (edges[:-1] + edges[1:]) / 2


class OtsuParameters(Parameters):
    """Voxels above Otsu's threshold, or those not above it when ``dark``."""

    dark: bool = False
    name: MaskName = "otsu"


def _otsu(image: Image, params: OtsuParameters) -> tuple[Image, dict]:
    bright = image.array > otsu_threshold(image.array)
    mask = (bright != params.dark).view(np.uint8)
    return Image(image.array, image.affine, {params.name: mask}), {}


class MultiOtsuParameters(Parameters):
    """Number of classes; the mask holds 0 for the darkest to ``classes - 1`` for the brightest."""

    classes: int = Field(default=3, ge=2, le=5)
    name: MaskName = "classes"


def _multi_otsu(image: Image, params: MultiOtsuParameters) -> tuple[Image, dict]:
    mask = np.zeros(image.array.shape, np.uint8)
    for threshold in multi_otsu_thresholds(image.array, params.classes):
        mask += image.array > threshold
    return Image(image.array, image.affine, {params.name: mask}), {}


OTSU = Step(version=1, parameters=OtsuParameters, apply=_otsu, marks=own_name)
MULTI_OTSU = Step(version=1, parameters=MultiOtsuParameters, apply=_multi_otsu, marks=own_name)

STEPS: Mapping[str, Step] = {"otsu": OTSU, "multi_otsu": MULTI_OTSU}
