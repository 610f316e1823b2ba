"""Grey levels 1 to n: a fixed number of bins or a fixed bin size (IBSI section 2.7)."""

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
    ndarray (z, y, x), int32
        Grey levels from 1; 0 where no intensity counts.
    int
        Number of grey levels: the bins of a fixed number, else the largest level that occurs.

    Raises
    ------
    BadCase
        ``too_many_levels`` when the bin size makes more than `MOST_LEVELS`.
    """
    values = region.values
    found = _fixed_number(values, binning) if binning.number else _fixed_size(values, binning)
    count = binning.number or int(found.max())
    levels = np.zeros(region.array.shape, dtype=np.int32)
    levels[region.counted] = found
    return levels, count


def _fixed_number(values: np.ndarray, binning: Binning) -> np.ndarray:
    low, high = values.min(), values.max()
    if low == high:
        return np.ones(values.shape, dtype=np.int32)
    # IBSI: the largest intensity belongs to the last bin.
    scaled = np.floor(binning.number * (values - low) / (high - low)) + 1
    return np.minimum(scaled, binning.number).astype(np.int32)


def _fixed_size(values: np.ndarray, binning: Binning) -> np.ndarray:
    low = values.min() if binning.start is None else binning.start
    highest = (values.max() - low) / binning.width + 1
    if highest >= MOST_LEVELS + 1:
        detail = f"bins of {binning.width:g} make {highest:.0f} grey levels, over {MOST_LEVELS}"
        raise BadCase("too_many_levels", detail)
    return (np.floor((values - low) / binning.width) + 1).astype(np.int32)
