"""Mutual information of two images: how much the greys of one say about those of the other."""

from dataclasses import dataclass

import numpy as np

MOST_BINS = 48
"""Grey levels of each image in the joint histogram; Mattes used 50."""

LEAST_BINS = 8
"""Fewer grey levels would not tell tissues apart."""

VALUES_A_BIN = 25
"""Least pairs for each cell of the joint histogram: chance alone then adds less than 0.02 nats."""

CLIPPED_PERCENT = 0.5
"""Share of values clipped at either end before greys are binned: one bright vessel would otherwise
leave the tissues a few bins."""


@dataclass(frozen=True)
class Information:
    """What two images say about each other.

    Parameters
    ----------
    mutual : float
        Mutual information in nats.
    normalised : float
        (H(a) + H(b)) / H(a, b) - 1, from 0 (unrelated) to 1 (each grey names the other's).  It
        hardly depends on how much of the images overlaps.

    References
    ----------
    Studholme, Hill, Hawkes. An overlap invariant entropy measure of 3D medical image alignment.
    Pattern Recognition 32, 1999.
    """

    mutual: float
    normalised: float


def information(first: np.ndarray, second: np.ndarray) -> Information:
    """Return what pairs of values say about each other; of fewer than two greys, nothing.

    Parameters
    ----------
    first, second : ndarray
        Values at the same places, one shape.
    """
    bins = bins_for(first.size)
    cells = _binned(first, bins) * bins + _binned(second, bins)
    counts = np.bincount(cells, minlength=bins * bins).reshape(bins, bins)
    joint, rows, columns = (_entropy(part) for part in (counts, counts.sum(1), counts.sum(0)))
    if joint == 0:
        return Information(0.0, 0.0)
    return Information(rows + columns - joint, (rows + columns) / joint - 1)


def bins_for(n: float) -> int:
    """Return into how many grey levels the values of ``n`` places are parted."""
    return int(np.clip(np.sqrt(n / VALUES_A_BIN), LEAST_BINS, MOST_BINS))


def clip_tails(array: np.ndarray) -> np.ndarray:
    """Return float32 values with `CLIPPED_PERCENT` clipped at either end."""
    low, high = np.percentile(array, (CLIPPED_PERCENT, 100 - CLIPPED_PERCENT))
    if low == high:
        # A small bright thing on nothing: it is all there is to see.
        return array.astype(np.float32)
    return np.clip(array.astype(np.float32), np.float32(low), np.float32(high))


def _binned(values: np.ndarray, bins: int) -> np.ndarray:
    clipped = clip_tails(values.ravel())
    low, high = float(clipped.min()), float(clipped.max())
    scale = np.float32(bins / (high - low)) if high > low else np.float32(0)
    return np.minimum(((clipped - np.float32(low)) * scale).astype(np.int64), bins - 1)


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return max(0.0, -float(np.sum(shares * np.log(shares))))
