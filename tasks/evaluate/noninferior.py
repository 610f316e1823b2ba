"""Non-inferiority of one model against another on the same patients.

The usual paired errors come from the differences seen. Near a perfect score hardly any is seen,
the error shrinks towards 0, and a model that is worse by the whole margin passes far more often
than the level says (up to 14 % instead of 2.5 % at an AUROC of 0.99 with 60 patients, see
``benchmarks/simulate_gate.py``). So the error used is never smaller than the one the data would
have if the first model were worse by exactly the margin.
"""

from dataclasses import dataclass
from math import ceil, nan, sqrt
from statistics import NormalDist

import numpy as np

from tasks.evaluate.compare import Difference, paired_metric
from tasks.evaluate.delong import auroc_covariance, hanley_mcneil_variance
from tasks.evaluate.estimates import Estimates
from tasks.evaluate.finding_scores import FindingScores
from tasks.evaluate.intervals import LEVEL, REPLICATES, patient_index
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.metrics import auroc
from tasks.evaluate.predictions import Predictions, align

PLANNING_POWER = 0.8
"""Power at which the number of needed patients is stated."""

MOST_PATIENTS = 1_000_000
"""A need beyond this is no number to plan with: the difference lies on the limit itself."""

OF_ONE_CLASS = {"recall": 1, "precision": 1, "specificity": 0, "npv": 0}
"""Metrics that rest on the cases of one class: 1 positive, 0 negative."""

OF_BOTH_CLASSES = ("balanced_accuracy", "f1", "mcc", "kappa")
"""Metrics that a change in the smaller class alone can move."""


@dataclass(frozen=True)
class NonInferiority:
    """First minus second (positive: first is better) with the limits the decision rests on."""

    estimate: float
    lo: float
    hi: float
    test: str
    n_patients: int
    margin: float
    power: float
    """Chance that an equally good model is shown to be non-inferior on as many patients."""
    patients_if_equal: int | None
    """Patients at which that chance is 80 %."""
    patients_as_seen: int | None
    """Patients at which the present estimate, if it stays, decides one way."""


def noninferiority(
    first: Predictions | MaskScores | FindingScores | Estimates,
    second: Predictions | MaskScores | FindingScores | Estimates,
    metric: str,
    margin: float,
    *,
    thresholds: tuple[float | None, float | None] = (None, None),
    replicates: int = REPLICATES,
    seed: int = 0,
    level: float = LEVEL,
) -> NonInferiority:
    """Return how much better the first is, judged against being worse by `margin`.

    Parameters
    ----------
    first, second : Predictions, MaskScores, FindingScores or Estimates of the same cases
    metric : str
    margin : float
        Positive, in units of the metric.
    thresholds : pair of float, optional
        Operating points of the two, for metrics that need calls.
    level : float
        Two-sided; each limit alone is a bound with ``(1 + level) / 2``.
    """
    first, second = align(first, second)
    found = paired_metric(
        first,
        second,
        metric,
        thresholds=thresholds,
        replicates=replicates,
        seed=seed,
        level=level,
    )
    z = NormalDist().inv_cdf((1 + level) / 2)
    lo, hi, test, error = found.lo, found.hi, found.test, found.standard_error
    floor = sqrt(null_variance(first, second, metric, margin, error))
    if np.isfinite(error) and floor > error:
        lo = min(lo, found.value - z * floor)
        hi = max(hi, found.value + z * floor)
        test += ", error as if worse by the margin"
    return _planned(found, lo, hi, test, margin, level)


def null_variance(first, second, metric: str, margin: float, error: float) -> float:
    """Return the least variance of the difference if the first were worse by the margin.

    AUROC: Newcombe's variance at the better of the two areas and at that minus the margin, with the
    correlation seen. Shares: a difference of m needs at least a share m of discordant patients,
    whose variance is (m - m^2) / n patients. Others (Dice, CPM, Brier, MAE): 0, nothing is known
    before. `error` is the standard error seen, which tells how alike the cases of a patient are.
    """
    if isinstance(first, MaskScores | FindingScores | Estimates):
        return 0.0
    n_patients, index = patient_index(first.patient_keys)
    if metric == "accuracy":
        return (margin - margin**2) / n_patients
    if not first.binary:
        return 0.0
    sizes = [len(set(index[first.truth == side])) for side in (0, 1)]
    if min(sizes) == 0:
        return 0.0
    if metric == "auroc":
        return _auroc_null_variance(first, second, margin, error)
    if metric in OF_ONE_CLASS:
        return (margin - margin**2) / sizes[OF_ONE_CLASS[metric]]
    if metric in OF_BOTH_CLASSES:
        # All of the loss in one class: its recall falls by twice the margin.
        within = min(2 * margin, 1.0)
        return (within - within**2) / 4 / min(sizes)
    return 0.0


def _auroc_null_variance(first, second, margin, error) -> float:
    scores = [first.score, second.score]
    _, covariance = auroc_covariance(first.truth, scores)
    own = covariance[0, 0] * covariance[1, 1]
    shared = float(covariance[0, 1] / sqrt(own)) if own > 0 else 0.0
    positives = int(first.truth.sum())
    negatives = len(first) - positives
    better = max(margin, *(float(auroc(first.truth, score)) for score in scores))
    variances = [
        hanley_mcneil_variance(area, positives, negatives) for area in (better, better - margin)
    ]
    variance = sum(variances) - 2 * max(shared, 0.0) * sqrt(variances[0] * variances[1])
    # Cases of a patient are worth between one case and one each: their design effect.
    independent = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    most = len(first) / first.n_patients
    effect = min(max(error**2 / independent, 1.0), most) if independent > 0 else most
    return variance * effect


def _planned(found: Difference, lo, hi, test, margin, level) -> NonInferiority:
    normal, n = NormalDist(), found.n_patients
    below, above = found.value - lo, hi - found.value
    error = found.standard_error
    if not np.isfinite(lo) or not np.isfinite(error):
        return NonInferiority(found.value, nan, nan, test, n, margin, nan, None, None)
    # What an equal model shows scatters with its own error; what it must clear is `below`.
    power = normal.cdf((margin - below) / error) if error else float(below < margin)
    root = (below + normal.inv_cdf(PLANNING_POWER) * error) / margin
    to_limit = found.value + margin
    reach = below if to_limit > 0 else above
    as_seen = (reach / abs(to_limit)) ** 2 * n if to_limit else float("inf")
    return NonInferiority(
        found.value, lo, hi, test, n, margin, power, _patients(root**2 * n), _patients(as_seen)
    )


def _patients(number: float) -> int | None:
    return ceil(number) if number <= MOST_PATIENTS else None
