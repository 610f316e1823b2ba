"""The evaluator: predictions, masks or detections in, every figure with its interval out."""

from collections.abc import Sequence
from math import log, nan

import numpy as np

from tasks.evaluate.agreement import agreement_table
from tasks.evaluate.box_ap import CENTRE, OVERLAPS, average_box_precision, match_boxes
from tasks.evaluate.delong import auroc_interval, newcombe_interval
from tasks.evaluate.detections import Detections
from tasks.evaluate.estimates import Estimates
from tasks.evaluate.finding_scores import FindingScores, marks_of, weighted_findings
from tasks.evaluate.froc import FALSE_ALARMS, match_marks, sensitivities
from tasks.evaluate.intervals import (
    LEVEL,
    REPLICATES,
    Interval,
    bootstrap_replicates,
    patient_index,
    percentile_limits,
    wilson,
)
from tasks.evaluate.known import COUNTING, METRICS, SCORING
from tasks.evaluate.masks import MaskScores, patient_means
from tasks.evaluate.metrics import calls, confusion, counting_metrics, weighted_metrics
from tasks.evaluate.predictions import Predictions
from tasks.evaluate.recalibration import recalibration

PROPORTIONS = ("accuracy", "recall", "specificity", "precision", "npv")
"""Metrics that are a count divided by a count, for which Wilson's interval exists."""


def metric_table(
    scored: Predictions | MaskScores | FindingScores | Detections | Estimates,
    threshold: float | None = None,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    level: float = LEVEL,
) -> dict[str, Interval]:
    """Return every metric of predictions, masks, detections or numbers, with intervals.

    Where every patient has one case, proportions carry Wilson's and a two-class AUROC DeLong's
    interval; all else the patient bootstrap. Deterministic for a seed. Without a threshold two
    classes get no metrics of calls; several classes never take one. Slope and intercept of the
    calibration of two classes carry the sandwich interval of their regression.
    """
    if not len(scored):
        raise ValueError("there are no cases to score")
    if isinstance(scored, MaskScores):
        return _mask_table(scored, replicates, seed, level)
    if isinstance(scored, FindingScores):
        return _findings_table(scored, threshold, replicates, seed, level)
    if isinstance(scored, Estimates):
        return agreement_table(scored, replicates, seed, level)
    if isinstance(scored, Detections):
        return _detection_table(scored, replicates, seed, level)
    return _classification_table(scored, threshold, replicates, seed, level)


def _classification_table(pred, threshold, replicates, seed, level) -> dict[str, Interval]:
    without_calls = pred.binary and threshold is None
    statistic = weighted_metrics(pred, threshold, SCORING if without_calls else None)
    values = {name: float(value) for name, value in statistic(None).items()}
    drawn = bootstrap_replicates(statistic, pred.patient_keys, replicates, seed)
    n = pred.n_patients
    table = {}
    for name, value in values.items():
        lo, hi = percentile_limits(drawn[name], n, level)
        method = "patient bootstrap"
        if name == "ece":
            lo, hi = _recentred(drawn[name], value, lo, hi)
            method = "patient bootstrap, recentred"
        table[name] = Interval(value, lo, hi, method, n)
    if pred.binary:
        table.update(recalibration(pred, level))
    if n < 2:
        return table
    if n == len(pred):
        table.update(_closed_forms(pred, threshold, values, level))
    for name, interval in table.items():
        if interval.hi - interval.lo <= 0:
            table[name] = _without_spread(pred, threshold, name, interval, level)
    return table


def _closed_forms(pred: Predictions, threshold, values, level) -> dict[str, Interval]:
    """Return Wilson's and DeLong's intervals; valid when every patient has one case."""
    n = len(pred)
    out = {}
    for name, (successes, trials) in _proportions(pred, threshold).items():
        if trials:
            lo, hi = wilson(successes, trials, level)
            out[name] = Interval(values[name], lo, hi, "wilson", n)
    if pred.binary and 0 < pred.truth.sum() < n:
        value, lo, hi, method = auroc_interval(pred.truth, pred.score, level)
        out["auroc"] = Interval(value, lo, hi, method, n)
    return out


def _proportions(pred: Predictions, threshold) -> dict[str, tuple[float, float]]:
    if pred.binary and threshold is None:
        return {}
    called = calls(pred, threshold)
    hits = float(np.sum(called == pred.target))
    out = {"accuracy": (hits, float(len(pred)))}
    if pred.binary:
        (tn, fp), (fn, tp) = confusion(pred.truth, called == pred.positive_index, 2).tolist()
        out["recall"], out["specificity"] = (tp, tp + fn), (tn, tn + fp)
        out["precision"], out["npv"] = (tp, tp + fp), (tn, tn + fn)
    return out


def _recentred(drawn: np.ndarray, value: float, lo: float, hi: float) -> tuple[float, float]:
    """Shift limits by the bias of resampling.

    A replicate repeats cases, which adds calibration error: its mean lies above the figure, and
    the plain limits may not even contain it.
    """
    shift = value - float(np.nanmean(drawn)) if np.isfinite(value) else nan
    return min(max(lo + shift, 0.0), value), max(hi + shift, value)


def _without_spread(pred, threshold, name, interval, level) -> Interval:
    """Widen an interval whose replicates are all alike: a perfect score on few patients.

    Resampling cannot produce an error it has not seen; Wilson's lower limit of what was always
    right, counted in patients, stands for the errors not seen.
    """
    n, value = interval.n_patients, interval.value
    index = patient_index(pred.patient_keys)[1]
    per_class = np.array([len(set(index[pred.target == j])) for j in range(len(pred.classes))])
    rest = [len(set(index[pred.target != j])) for j in range(len(pred.classes))]
    # One against the rest, as the figure is; of two classes the positive one alone.
    sides = [pred.positive_index] if pred.binary else np.flatnonzero(per_class)
    sides = [(j, int(per_class[j]), rest[j]) for j in sides if rest[j]]
    if name == "average_precision" and not sides:
        return Interval(value, nan, nan, "none: one class alone", n)
    if name == "auroc" and value in (0.0, 1.0):
        each = [newcombe_interval(value, here, others, level) for _, here, others in sides]
        lo, hi = np.mean(each, axis=0).tolist()
        return Interval(value, lo, hi, "newcombe", n)
    if name == "average_precision" and value == 1.0:
        found = [_all_right(min(here, others), level) for _, here, others in sides]
        share = [float(np.mean(pred.target == j)) for j, *_ in sides]
        lo = float(np.mean([f + (1 - f) * s for f, s in zip(found, share, strict=True)]))
        return Interval(value, lo, 1.0, "bound for a perfect score", n)
    if name in COUNTING and value == METRICS[name].range[1]:
        right = np.array([_all_right(count, level) for count in per_class])
        k = len(per_class)
        counts = np.diag(per_class * right)
        counts += (1 - np.eye(k)) * (per_class * (1 - right) / (k - 1))[:, None]
        if pred.binary and pred.positive_index == 0:
            counts = counts[::-1, ::-1]
        lo = float(counting_metrics(counts)[name])
        return Interval(value, lo, value, "bound for a perfect score", n)
    if name in PROPORTIONS and value == 0.0:
        return Interval(value, 0.0, wilson(0, n, level)[1], "wilson over patients", n)
    return interval


def _all_right(trials: int, level: float) -> float:
    return wilson(trials, trials, level)[0] if trials else 0.0


def _mask_table(scores: MaskScores, replicates, seed, level) -> dict[str, Interval]:
    columns = {}
    for figure in scores.figures:
        patients, mean = patient_means(scores, figure)
        columns[figure] = mean.mean(1)
        columns.update({f"{figure}/{name}": mean[:, j] for j, name in enumerate(scores.classes)})
    columns["empty_share"] = patient_means(scores, scores.empty > 0)[1].mean(1)
    n = len(patients)

    def statistic(weight: np.ndarray) -> dict[str, np.ndarray]:
        return {name: weight @ values / weight.sum(-1) for name, values in columns.items()}

    drawn = bootstrap_replicates(statistic, patients, replicates, seed)
    table = {}
    for name, values in columns.items():
        lo, hi = percentile_limits(drawn[name], n, level)
        found = Interval(float(values.mean()), lo, hi, "patient bootstrap", n)
        share = METRICS[name.partition("/")[0]].range == (0, 1)
        table[name] = _unseen(found, [n], level) if share else found
    return table


def _detection_table(found: Detections, replicates, seed, level) -> dict[str, Interval]:
    marks = match_marks(found)
    ways = (*OVERLAPS, CENTRE) if found.extended else ()
    calls_by = {f"ap/{way}": match_boxes(found, way) for way in ways}

    def statistic(weight: np.ndarray) -> dict[str, np.ndarray]:
        read = sensitivities(marks, weight)
        out = {"cpm": read.mean(-1)}
        out |= {f"froc/{at:g}": read[..., j] for j, at in enumerate(FALSE_ALARMS)}
        return out | {name: average_box_precision(one, weight) for name, one in calls_by.items()}

    values = {name: float(value) for name, value in statistic(np.ones(len(found))).items()}
    drawn = bootstrap_replicates(statistic, found.patient_keys, replicates, seed)
    n, method = found.n_patients, "patient bootstrap"
    of_patient = patient_index(found.patient_keys)[1]
    with_lesions = len(set(of_patient[found.lesions > 0]))
    table = {}
    for name, value in values.items():
        lo, hi = percentile_limits(drawn[name], n, level)
        table[name] = _unseen(Interval(value, lo, hi, method, n), [with_lesions], level)
    return table


def _findings_table(scores, threshold, replicates, seed, level) -> dict[str, Interval]:
    statistic = weighted_findings(scores, threshold)
    values = {name: float(value) for name, value in statistic(np.ones(len(scores))).items()}
    drawn = bootstrap_replicates(statistic, scores.patient_keys, replicates, seed)
    n, trials = scores.n_patients, _patients_a_class(scores, threshold)
    table = {}
    for name, value in values.items():
        lo, hi = percentile_limits(drawn[name], n, level)
        found = Interval(value, lo, hi, "patient bootstrap", n)
        base, _, label = name.partition("/")
        place = int(base == "lesion_precision")
        of = [label] if label in trials else trials
        if METRICS[base].range == (0, 1):
            found = _unseen(found, [trials[one][place] for one in of], level)
        elif value == 0 and base == "false_alarms" and n > 1:
            # None in n patients: of so many a Poisson count is above 0 but for one time in forty.
            found = Interval(0.0, 0.0, -log((1 - level) / 2) / n, "Poisson over patients", n)
        table[name] = found
    if scores.outlines is not None:
        of_masks = _mask_table(scores.outlines, replicates, seed, level)
        table |= {name: one for name, one in of_masks.items() if name != "empty_share"}
    return table


def _patients_a_class(scores: FindingScores, threshold) -> dict[str, tuple[int, int]]:
    """Return of each class in how many patients there is one, and in how many one is shown."""
    of_patient = patient_index(scores.patient_keys)[1]
    found = {}
    for name, marks in zip(scores.classes, marks_of(scores), strict=True):
        shown = marks.score >= (np.inf if threshold is None else threshold)
        # Of a class that nobody has there is no precision either.
        counted = marks.scan[shown] if marks.lesions.any() else []
        patients = of_patient[marks.lesions > 0], of_patient[counted]
        found[name] = tuple(len(set(one.tolist())) for one in patients)
    return found


def _unseen(found: Interval, trials: Sequence[int], level: float) -> Interval:
    """Widen the interval of a share that was 1, or 0, in every patient: Wilson's over patients.

    Resampling cannot show the patient in whom it is otherwise. Of a mean over classes the limits
    are the means of theirs, each over the patients who have it.
    """
    if found.hi - found.lo > 0 or found.value not in (0.0, 1.0) or found.n_patients < 2:
        return found
    each = [wilson(found.value * some, some, level) for some in trials if some]
    if not each:
        return found
    lo, hi = np.mean(each, axis=0).tolist()
    return Interval(found.value, lo, hi, "wilson over patients", found.n_patients)
