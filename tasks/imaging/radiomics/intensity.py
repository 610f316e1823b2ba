"""Statistics of intensities (IBSI family UHIW): 18 numbers without discretisation."""

from collections.abc import Mapping

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


def intensity(region: Region) -> dict[str, float]:
    """Return the statistics of the counted intensities, by the names of `CODES`.

    Notes
    -----
    Variance is the population's (divided by n), kurtosis is the excess over a normal distribution,
    percentiles are interpolated linearly.  Skewness and kurtosis of one value are 0, as IBSI asks;
    another ratio without a denominator is nan.
    """
    values = region.values
    return {
        **moments(values),
        "energy": float(np.square(values).sum()),
        "root_mean_square": float(np.sqrt(np.square(values).mean())),
    }


def moments(values: np.ndarray) -> dict[str, float]:
    """Return the statistics that intensities and grey levels share.

    Parameters
    ----------
    values : ndarray (n,)
    """
    values = values.astype(np.float64)
    mean = values.mean()
    centred = values - mean
    variance = np.square(centred).mean()
    low, q10, q25, median, q75, q90, high = np.percentile(values, (0, 10, 25, 50, 75, 90, 100))
    robust = values[(values >= q10) & (values <= q90)]
    found = {
        "mean": mean,
        "variance": variance,
        "skewness": (centred**3).mean() / variance**1.5 if variance else 0.0,
        "kurtosis": (centred**4).mean() / variance**2 - 3 if variance else 0.0,
        "median": median,
        "minimum": low,
        "percentile_10": q10,
        "percentile_90": q90,
        "maximum": high,
        "interquartile_range": q75 - q25,
        "range": high - low,
        "mean_absolute_deviation": np.abs(centred).mean(),
        "robust_mean_absolute_deviation": np.abs(robust - robust.mean()).mean(),
        "median_absolute_deviation": np.abs(values - median).mean(),
        "coefficient_of_variation": ratio(np.sqrt(variance), mean),
        "quartile_coefficient_of_dispersion": ratio(q75 - q25, q75 + q25),
    }
    return {name: float(value) for name, value in found.items()}


def ratio(above: float, below: float) -> float:
    """Return a quotient, nan where the denominator is 0."""
    return float(above) / float(below) if below else float("nan")
