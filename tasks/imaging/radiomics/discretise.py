"""Grey levels 1 to n: a fixed number of bins or a fixed bin size (IBSI section 2.7)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tasks.errors import BadCase
from tasks.imaging.radiomics.region import Region

MOST_LEVELS = 512
"""A co-occurrence matrix holds the square of this: 2 MB a direction, and noise beyond."""


@dataclass(frozen=True)
class Binning:
    """Either a fixed number of bins or a fixed bin size.

    Parameters
    ----------
    number : int, optional
        Bins between the region's own smallest and largest intensity (IBSI code K15C).
    width : float, optional
        Size of a bin in the image's own units (IBSI code Q3RU).
    start : float, optional
        Lower edge of the first bin of a fixed size, by IBSI the lower bound of re-segmentation;
        the region's smallest intensity without one.
    """

    number: int | None = None
    width: float | None = None
    start: float | None = None


def discretise(region: Region, binning: Binning) -> tuple[np.ndarray, int]:
    """Put the counted intensities of a region into bins.

    Returns
    -------
    ndarray (z, y, x), int16
        Grey levels from 1; 0 where no intensity counts.
    int
        Number of grey levels: the bins of a fixed number, else the largest level that occurs.

    Raises
    ------
    BadCase
        ``too_many_levels`` when the bin size makes more than `MOST_LEVELS`.
    """
    values = region.values
    low, high = float(values.min()), float(values.max())
    level_of = (
        _fixed_number(binning, low, high) if binning.number else _fixed_size(binning, low, high)
    )
    levels = np.zeros(region.array.shape, dtype=np.int16)
    # A slice at a time: float64 copies of the whole region would be four times the image.
    for plane, counted, found in zip(region.array, region.counted, levels, strict=True):
        found[counted] = level_of(plane[counted].astype(np.float64))
    return levels, binning.number or int(levels.max())


def _fixed_number(binning: Binning, low: float, high: float) -> Callable[[np.ndarray], np.ndarray]:
    if low == high:
        return np.ones_like
    # IBSI: the largest intensity belongs to the last bin.
    return lambda values: np.minimum(
        np.floor(binning.number * (values - low) / (high - low)) + 1, binning.number
    )


def _fixed_size(binning: Binning, low: float, high: float) -> Callable[[np.ndarray], np.ndarray]:
    start = low if binning.start is None else binning.start
    highest = (high - start) / binning.width + 1
    if highest >= MOST_LEVELS + 1:
        detail = f"bins of {binning.width:g} make {highest:.0f} grey levels, over {MOST_LEVELS}"
        raise BadCase("too_many_levels", detail)
    return lambda values: np.floor((values - start) / binning.width) + 1
