"""Figures of numbers: error, rank, and how a model and the truth agree (Bland and Altman 1986).

Each is a function of the weights of the cases, so that the bootstrap of patients, the figures
themselves and paired comparisons share one definition.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tasks.evaluate.estimates import Estimates
from tasks.evaluate.intervals import Interval, bootstrap_replicates, percentile_limits
from tasks.evaluate.known import NUMBER_FIGURES

AGREEMENT_SDS = 1.96
"""Standard deviations to each limit of agreement: 95 % of differences, were they normal."""

Statistic = Callable[[np.ndarray], Mapping[str, np.ndarray]]


def weighted_agreement(found: Estimates, names: Sequence[str] = NUMBER_FIGURES) -> Statistic:
    """Return figures as a function of weights (m, n) of the cases, or (n,) or None for all once.

    Parameters
    ----------
    found : Estimates
    names : sequence of str
        Of `NUMBER_FIGURES`.  ``mae``, ``rmse``, ``bias``, ``loa_lower`` and ``loa_upper`` are in
        the unit of the numbers; ``bias`` is value minus truth, the limits of agreement lie 1.96
        standard deviations of the differences around it.  ``r2`` is the share of the variance
        explained against the cases' own mean, ``spearman`` the correlation of mid-ranks.

    Returns
    -------
    callable
        Weights -> name -> array (m,); NaN where a figure is undefined, such as the rank
        correlation of equal numbers.
    """
    gap = found.value - found.target
    wants = set(names)
    ranks = [_ranker(found.target), _ranker(found.value)] if "spearman" in wants else []

    def statistic(weight: np.ndarray | None) -> dict[str, np.ndarray]:
        weight = np.ones(len(found)) if weight is None else np.asarray(weight, float)
        total = weight.sum(-1)

        def mean(values: np.ndarray) -> np.ndarray:
            return (weight * values).sum(-1) / total

        with np.errstate(invalid="ignore", divide="ignore"):
            bias, square = mean(gap), mean(gap**2)
            spread = np.sqrt(np.maximum(square - bias**2, 0) * total / (total - 1))
            centre = mean(found.target)
            variance = mean((found.target - np.expand_dims(centre, -1)) ** 2)
            out = {
                "mae": mean(np.abs(gap)),
                "rmse": np.sqrt(square),
                "r2": np.where(variance > 0, 1 - square / variance, np.nan),
                "bias": bias,
                "loa_lower": bias - AGREEMENT_SDS * spread,
                "loa_upper": bias + AGREEMENT_SDS * spread,
            }
            if ranks:
                out["spearman"] = _correlation(weight, *(rank(weight) for rank in ranks))
        return {name: out[name] for name in names}

    return statistic


def _ranker(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the mid-ranks (m, n) of values (n,) that stand there as often as weights say."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))

    def ranks(weight: np.ndarray) -> np.ndarray:
        many = np.add.reduceat(weight[..., order], starts, axis=-1)
        return (np.cumsum(many, -1) - many + (many + 1) / 2)[..., group]

    return ranks


def _correlation(weight: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    total = weight.sum(-1, keepdims=True)
    a = first - (weight * first).sum(-1, keepdims=True) / total
    b = second - (weight * second).sum(-1, keepdims=True) / total
    both = (weight * a * a).sum(-1) * (weight * b * b).sum(-1)
    return np.where(both > 0, (weight * a * b).sum(-1) / np.sqrt(both), np.nan)


def agreement_table(
    found: Estimates, replicates: int, seed: int, level: float
) -> dict[str, Interval]:
    """Return every figure of numbers with its interval from the bootstrap over patients."""
    statistic, n = weighted_agreement(found), found.n_patients
    drawn = bootstrap_replicates(statistic, found.patient_keys, replicates, seed)
    return {
        name: Interval(
            float(value), *percentile_limits(drawn[name], n, level), "patient bootstrap", n
        )
        for name, value in statistic(None).items()
    }
