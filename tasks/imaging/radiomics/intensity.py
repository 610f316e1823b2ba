"""Statistics of intensities (IBSI family UHIW): 18 numbers without discretisation."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from tasks.imaging.radiomics.region import Region

CODES: Mapping[str, str] = {
    "mean": "Q4LE",
    "variance": "ECT3",
    "skewness": "KE2A",
    "kurtosis": "IPH6",
    "median": "Y12H",
    "minimum": "1GSF",
    "percentile_10": "QG58",
    "percentile_90": "8DWT",
    "maximum": "84IY",
    "interquartile_range": "SALO",
    "range": "2OJQ",
    "mean_absolute_deviation": "4FUA",
    "robust_mean_absolute_deviation": "1128",
    "median_absolute_deviation": "N72L",
    "coefficient_of_variation": "7TET",
    "quartile_coefficient_of_dispersion": "9S40",
    "energy": "N8CA",
    "root_mean_square": "5ZWQ",
}
"""Name of each number and its IBSI code."""

AT_ONCE = 1 << 20
"""Values turned into float64 together: 8 MB."""


def intensity(region: Region) -> dict[str, float]:
    """Return the statistics of the counted intensities, by the names of `CODES`.

    Notes
    -----
    Variance is the population's (divided by n), kurtosis is the excess over a normal distribution,
    percentiles are interpolated linearly.  Skewness and kurtosis of one value are 0, as IBSI asks;
    another ratio without a denominator is nan.
    """
    values = region.values
    found = moments(values)
    squares = total(values, np.square)
    return {**found, "energy": squares, "root_mean_square": math.sqrt(squares / values.size)}


def moments(values: np.ndarray) -> dict[str, float]:
    """Return the statistics that intensities and grey levels share.

    Parameters
    ----------
    values : ndarray (n,)
    """
    ordered, n = np.sort(values), values.size
    mean = total(ordered, np.asarray) / n
    second, third, fourth = (
        total(ordered, lambda some, power=power: (some - mean) ** power) / n for power in (2, 3, 4)
    )
    q10, q25, median, q75, q90 = (_quantile(ordered, q) for q in (0.10, 0.25, 0.50, 0.75, 0.90))
    robust = ordered[np.searchsorted(ordered, q10, "left") : np.searchsorted(ordered, q90, "right")]
    low, high = float(ordered[0]), float(ordered[-1])
    return {
        "mean": mean,
        "variance": second,
        "skewness": third / second**1.5 if second else 0.0,
        "kurtosis": fourth / second**2 - 3 if second else 0.0,
        "median": median,
        "minimum": low,
        "percentile_10": q10,
        "percentile_90": q90,
        "maximum": high,
        "interquartile_range": q75 - q25,
        "range": high - low,
        "mean_absolute_deviation": _distance(ordered, mean),
        "robust_mean_absolute_deviation": _distance(
            robust, ratio(total(robust, np.asarray), robust.size)
        ),
        "median_absolute_deviation": _distance(ordered, median),
        "coefficient_of_variation": ratio(math.sqrt(second), mean),
        "quartile_coefficient_of_dispersion": ratio(q75 - q25, q75 + q25),
    }


def total(values: np.ndarray, of: Callable[[np.ndarray], np.ndarray]) -> float:
    """Return the sum of a function of values in float64, some at a time: no copy of them all."""
    pieces = range(0, values.size, AT_ONCE)
    return math.fsum(float(of(values[k : k + AT_ONCE].astype(np.float64)).sum()) for k in pieces)


def _distance(values: np.ndarray, middle: float) -> float:
    # Of two values none lies between the deciles that are interpolated between them.
    return ratio(total(values, lambda some: np.abs(some - middle)), values.size)


def _quantile(ordered: np.ndarray, share: float) -> float:
    """Return a quantile of sorted values, interpolated linearly in float64."""
    place = share * (ordered.size - 1)
    below = math.floor(place)
    low = float(ordered[below])
    return low + (place - below) * (float(ordered[math.ceil(place)]) - low)


def ratio(above: float, below: float) -> float:
    """Return a quotient, nan where the denominator is 0."""
    return float(above) / float(below) if below else float("nan")
