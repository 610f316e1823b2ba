"""Statistics of grey levels (IBSI family ZVCW): 23 numbers of the histogram."""

from collections.abc import Mapping

import numpy as np

from tasks.imaging.radiomics.intensity import moments

CODES: Mapping[str, str] = {
    "mean": "X6K6",
    "variance": "CH89",
    "skewness": "88K1",
    "kurtosis": "C3I7",
    "median": "WIFQ",
    "minimum": "1PR8",
    "percentile_10": "GPMT",
    "percentile_90": "OZ0C",
    "maximum": "3NCY",
    "mode": "AMMC",
    "interquartile_range": "WR0O",
    "range": "5Z3W",
    "mean_absolute_deviation": "D2ZX",
    "robust_mean_absolute_deviation": "WRZB",
    "median_absolute_deviation": "4RNL",
    "coefficient_of_variation": "CWYJ",
    "quartile_coefficient_of_dispersion": "SLWD",
    "entropy": "TLU2",
    "uniformity": "BJ5W",
    "maximum_gradient": "12CE",
    "maximum_gradient_level": "8E6O",
    "minimum_gradient": "VQB3",
    "minimum_gradient_level": "RHQZ",
}
"""Name of each number and its IBSI code."""


def histogram(levels: np.ndarray, count: int) -> dict[str, float]:
    """Return the statistics of grey levels, by the names of `CODES`.

    Parameters
    ----------
    levels : ndarray (z, y, x), int16
        Grey levels from 1, 0 outside; see `tasks.imaging.radiomics.discretise`.
    count : int
        Number of grey levels.

    Notes
    -----
    Of several equally frequent levels the mode is the one nearest to the mean, and of two as near
    the lower.  Gradients of a histogram of one bin are nan.
    """
    inside = levels[levels > 0]
    found = moments(inside)
    bins = np.bincount(inside, minlength=count + 1)[1:].astype(np.float64)
    share = bins[bins > 0] / inside.size
    often = np.flatnonzero(bins == bins.max()) + 1
    found |= {
        "mode": float(often[np.argmin(np.abs(often - found["mean"]))]),
        "entropy": float(-(share * np.log2(share)).sum()) + 0.0,
        "uniformity": float(np.square(share).sum()),
        **_gradients(bins),
    }
    return {name: found[name] for name in CODES}


def _gradients(bins: np.ndarray) -> dict[str, float]:
    nothing = float("nan")
    steep = np.gradient(bins) if bins.size > 1 else np.array([nothing])
    known = bins.size > 1
    return {
        "maximum_gradient": float(steep.max()),
        "maximum_gradient_level": float(steep.argmax() + 1) if known else nothing,
        "minimum_gradient": float(steep.min()),
        "minimum_gradient_level": float(steep.argmin() + 1) if known else nothing,
    }
