"""Paired comparisons of two models on the same cases.

Sign convention everywhere: first minus second, turned so that positive means *the first is
better*; the gate puts the challenger first and the champion second.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb, nan, sqrt
from statistics import NormalDist

import numpy as np

from tasks.evaluate.agreement import weighted_agreement
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.delong import auroc_covariance, error_as_if_unpaired
from tasks.evaluate.estimates import Estimates
from tasks.evaluate.finding_scores import FindingScores, weighted_findings
from tasks.evaluate.intervals import (
    LEVEL,
    REPLICATES,
    patient_index,
    percentile_limits,
    resampled_weights,
)
from tasks.evaluate.known import MASK_FIGURES, METRICS, NUMBER_FIGURES
from tasks.evaluate.masks import MaskScores, patient_means
from tasks.evaluate.metrics import weighted_metrics
from tasks.evaluate.predictions import Predictions, align

NO_SPREAD = 1e-9
"""A standard error below this is 0 but for rounding."""


@dataclass(frozen=True)
class Difference:
    """First minus second (positive: the first is better), limits, two-sided p, standard error."""

    value: float
    lo: float
    hi: float
    p_value: float
    standard_error: float
    test: str
    n_patients: int


def paired_auroc(truth, first, second, level: float = LEVEL) -> Difference:
    """Compare two AUROCs of the same independent cases (DeLong, Biometrics 1988).

    Parameters
    ----------
    truth : array (n,) of 0/1
    first, second : arrays (n,) of float
        Scores; each case must be of another patient (else use `paired_metric`).
    """
    area, covariance = auroc_covariance(truth, [first, second])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    value, error = float(area[0] - area[1]), sqrt(max(variance, 0.0))
    test = "paired DeLong"
    if abs(value) > NO_SPREAD and error < NO_SPREAD:
        error, test = error_as_if_unpaired(truth, first, second, level), "Newcombe, as if unpaired"
    lo, hi, p = _normal_limits(value, error, level)
    return Difference(value, lo, hi, p, error, test, len(np.asarray(truth)))


def mcnemar(target, first_call, second_call) -> tuple[int, int, float]:
    """Compare the calls of two models on the same independent cases, exactly.

    Returns
    -------
    first_only, second_only : int
        Cases only the first, and only the second, called right.
    p_value : float
        Two-sided exact binomial.
    """
    target = np.asarray(target)
    first, second = np.asarray(first_call) == target, np.asarray(second_call) == target
    first_only, second_only = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    n, k = first_only + second_only, min(first_only, second_only)
    tail = sum(comb(n, i) for i in range(k + 1))
    return first_only, second_only, min(1.0, 2 * tail / 2**n)


def paired_bootstrap(
    difference: Callable[[np.ndarray], np.ndarray],
    patient_keys: Sequence[str],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    level: float = LEVEL,
) -> Difference:
    """Resample patients of any paired difference.

    Parameters
    ----------
    difference : callable
        Weights (m, n) of the cases -> differences (m,); see `by_cases` for plain functions.
    patient_keys : sequence of str, length n
    """
    n_cases, n_patients = len(patient_keys), patient_index(patient_keys)[0]
    value = float(difference(np.ones((1, n_cases)))[0])
    drawn = np.concatenate(
        [difference(weight) for weight in resampled_weights(patient_keys, replicates, seed)]
    )
    lo, hi = percentile_limits(drawn, n_patients, level)
    drawn = drawn[~np.isnan(drawn)]
    error = float(drawn.std(ddof=1)) if len(drawn) > 1 else nan
    # Counting the observed one as well keeps p above 0, which no resampling can show.
    tail = min(np.sum(drawn <= 0), np.sum(drawn >= 0))
    p = min(1.0, 2 * (float(tail) + 1) / (len(drawn) + 1))
    return Difference(value, lo, hi, p, error, "paired patient bootstrap", n_patients)


def by_cases(function: Callable[[np.ndarray], float]) -> Callable[[np.ndarray], np.ndarray]:
    """Turn a function of case indices (repeats allowed) into one of weights, for any statistic."""

    def difference(weight: np.ndarray) -> np.ndarray:
        everyone = np.arange(weight.shape[1])
        return np.array([function(np.repeat(everyone, row.astype(int))) for row in weight])

    return difference


def paired_mean(first, second, level: float = LEVEL, test: str = "paired t") -> Difference:
    """Compare two means of the same patients by Student's t on the differences."""
    from scipy.special import stdtr, stdtrit

    gap = np.asarray(first, float) - np.asarray(second, float)
    n, value = len(gap), float(np.mean(gap))
    if n < 2:
        return Difference(value, nan, nan, nan, nan, test, n)
    error = float(gap.std(ddof=1)) / sqrt(n)
    if abs(value) <= NO_SPREAD and error < NO_SPREAD:
        value = error = 0.0
    elif error < NO_SPREAD:
        # As a whole mask against none in every patient: no surer than n signs that are the same.
        error = abs(value) / float(stdtrit(n - 1, 1 - max(0.5**n, NO_SPREAD)))
    half = float(stdtrit(n - 1, (1 + level) / 2)) * error
    p = float(2 * stdtr(n - 1, -abs(value) / error)) if error else float(value == 0)
    return Difference(value, value - half, value + half, p, error, test, n)


def paired_metric(
    first: Predictions | MaskScores | FindingScores | Estimates,
    second: Predictions | MaskScores | FindingScores | Estimates,
    metric: str,
    *,
    thresholds: tuple[float | None, float | None] = (None, None),
    replicates: int = REPLICATES,
    seed: int = 0,
    level: float = LEVEL,
) -> Difference:
    """Compare two models on the same cases by any metric; positive: the first is better.

    A two-class AUROC with one case a patient goes through DeLong, figures of masks through
    Student's t on the patients' differences, all else through the paired patient bootstrap.

    Parameters
    ----------
    first, second : Predictions, MaskScores, FindingScores or Estimates
        Of the same cases, in any order.
    metric : str
        One of the figures of that kind of answer.
    thresholds : (float or None, float or None)
        Operating points of the two, where the metric is of calls.
    replicates : int
        Of the bootstrap.
    seed : int
    level : float
        Of the interval, 0.95 for 95 %.

    Raises
    ------
    ValueError
        When the cases, patients or truths differ, or the metric cannot be compared.
    """
    first, second = align(first, second)
    if isinstance(first, MaskScores):
        return _paired_masks(first, second, metric, level)
    if isinstance(first, Estimates):
        return _paired_estimates(first, second, metric, replicates, seed, level)
    if isinstance(first, FindingScores):
        return _paired_findings(first, second, metric, thresholds, replicates, seed, level)
    base = metric.partition("/")[0]
    if base not in METRICS or base != metric or METRICS[base].direction == "none":
        raise ValueError(f"{metric!r} cannot be compared; choose one of {comparable()}")
    independent = first.n_patients == len(first)
    if metric == "auroc" and first.binary and independent:
        return paired_auroc(first.truth, first.score, second.score, level)
    ours = weighted_metrics(first, thresholds[0], [metric])
    theirs = weighted_metrics(second, thresholds[1], [metric])
    return _paired_figures(ours, theirs, metric, first.patient_keys, replicates, seed, level)


def paired_primary(
    first: Predictions | MaskScores | FindingScores | Estimates,
    second: Predictions | MaskScores | FindingScores | Estimates,
    thresholds: tuple[float | None, float | None],
    config: EvaluateConfig,
) -> Difference:
    """Compare two models by a scenario's primary figure, as `paired_metric` does."""
    return paired_metric(
        first,
        second,
        config.primary,
        thresholds=thresholds,
        replicates=config.bootstrap,
        seed=config.seed,
    )


def comparable() -> tuple[str, ...]:
    """Return the names of the metrics that have a better and a worse."""
    return tuple(name for name, info in METRICS.items() if info.direction != "none")


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return Holm's adjusted p-values, in the order given."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    out = np.empty(len(p))
    out[order] = np.minimum(steps, 1.0)
    return out


def _paired_masks(first: MaskScores, second: MaskScores, metric: str, level: float) -> Difference:
    base, _, label = metric.partition("/")
    common = first.figures.keys() & second.figures.keys()
    known = [name for name in MASK_FIGURES if name in common & set(comparable())]
    if base not in known or (label and label not in first.classes):
        names = [*known, *(f"{base}/{name}" for name in first.classes if base in known)]
        raise ValueError(f"{metric!r} is not a metric of these masks; choose one of {names}")
    sign = 1 if METRICS[base].direction == "higher" else -1
    ours, theirs = (sign * patient_means(scores, base)[1] for scores in (first, second))
    if label:
        column = first.classes.index(label)
        return paired_mean(ours[:, column], theirs[:, column], level, "paired t over patients")
    return paired_mean(ours.mean(1), theirs.mean(1), level, "paired t over patients")


def _paired_findings(
    first: FindingScores,
    second: FindingScores,
    metric: str,
    thresholds: tuple[float | None, float | None],
    replicates: int,
    seed: int,
    level: float,
) -> Difference:
    sides = zip((first, second), thresholds, strict=True)
    ours, theirs = (weighted_findings(scores, at, [metric]) for scores, at in sides)
    for one in (ours, theirs):
        if metric not in one(np.ones(len(first))):
            raise ValueError(
                f"{metric!r} is not a figure of these findings; choose cpm, ap, one of these with "
                "/<class>, froc/1 or, with a threshold, lesion_recall"
            )
    return _paired_figures(ours, theirs, metric, first.patient_keys, replicates, seed, level)


def _paired_estimates(
    first: Estimates, second: Estimates, metric: str, replicates: int, seed: int, level: float
) -> Difference:
    known = [name for name in NUMBER_FIGURES if METRICS[name].direction != "none"]
    if metric not in known:
        raise ValueError(f"{metric!r} does not rank estimates; choose {', '.join(known)}")
    ours, theirs = (weighted_agreement(one, [metric]) for one in (first, second))
    return _paired_figures(ours, theirs, metric, first.patient_keys, replicates, seed, level)


def _paired_figures(
    ours: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    theirs: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    metric: str,
    patient_keys: Sequence[str],
    replicates: int,
    seed: int,
    level: float,
) -> Difference:
    """Compare one figure of two models under the same resamplings; better is positive."""
    sign = 1 if METRICS[metric.partition("/")[0]].direction == "higher" else -1
    return paired_bootstrap(
        lambda weight: sign * (ours(weight)[metric] - theirs(weight)[metric]),
        patient_keys,
        replicates=replicates,
        seed=seed,
        level=level,
    )


def _normal_limits(value: float, error: float, level: float) -> tuple[float, float, float]:
    normal = NormalDist()
    if not np.isfinite(error):
        return nan, nan, nan
    half = normal.inv_cdf((1 + level) / 2) * error
    p = 2 * normal.cdf(-abs(value) / error) if error else float(value == 0)
    return value - half, value + half, p
