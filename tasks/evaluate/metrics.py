"""Metrics of classification: plain array functions that also take weights.

Every function accepts ``weight`` of shape (n,) or (m, n) and returns a float or an array (m,): a
row of weights is one resampling of the cases, so that two thousand bootstrap replicates are one
call. An undefined figure (recall without a positive case) is NaN, never a made-up number.
"""

from collections.abc import Callable

import numpy as np

from tasks.evaluate.known import COUNTING, SCORING
from tasks.evaluate.predictions import Predictions

PROBABILITY_FLOOR = 1e-15
"""Probabilities are kept this far from 0 and 1 in the log-loss, which would be infinite there."""

ECE_BINS = 15
"""Equal-mass bins of the expected calibration error."""


def confusion(target, call, n_classes: int, weight=None) -> np.ndarray:
    """Return the confusion counts, rows truth, columns call.

    Parameters
    ----------
    target, call : array (n,) of int
    n_classes : int
    weight : array (n,) or (m, n), optional

    Returns
    -------
    array (k, k) or (m, k, k)
    """
    target, call = np.asarray(target, np.int64), np.asarray(call, np.int64)
    cell = np.eye(n_classes**2)[target * n_classes + call]
    weight = np.ones(len(target)) if weight is None else np.asarray(weight, float)
    counts = weight @ cell
    return counts.reshape((*weight.shape[:-1], n_classes, n_classes))


def counting_metrics(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return the counting metrics of a confusion matrix (..., k, k).

    With two classes index 1 is the positive one; with more, precision, NPV, recall, specificity and
    F1 are macro means of the classes one against the rest. A class that exists and is never called
    has precision 0, as in scikit-learn; one that neither exists nor is called is left out. NPV is
    the precision of the negative calls.
    """
    k = counts.shape[-1]
    total = counts.sum((-2, -1))
    hits = np.trace(counts, axis1=-2, axis2=-1)
    each = one_against_rest(counts)
    out = {
        "accuracy": _ratio(hits, total),
        "balanced_accuracy": _mean_defined(each["recall"]),
        "mcc": _matthews(counts),
        "kappa": _kappa(counts),
    }
    for name in ("precision", "npv", "recall", "specificity", "f1"):
        out[name] = each[name][..., 1] if k == 2 else _mean_defined(each[name])
    return {name: out[name] for name in COUNTING}


def one_against_rest(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return precision, NPV, recall, specificity, F1 of each class, arrays (..., k)."""
    tp = np.diagonal(counts, axis1=-2, axis2=-1)
    positive, called = counts.sum(-1), counts.sum(-2)
    total = counts.sum((-2, -1))[..., None]
    negative, passed = total - positive, total - called
    tn = negative - (called - tp)
    return {
        "precision": np.where((called == 0) & (positive > 0), 0.0, _ratio(tp, called)),
        "npv": np.where((passed == 0) & (negative > 0), 0.0, _ratio(tn, passed)),
        "recall": _ratio(tp, positive),
        "specificity": _ratio(tn, negative),
        "f1": _ratio(2 * tp, positive + called),
    }


def auroc(truth, score, weight=None):
    """Return the area under the ROC curve; ties count one half (Mann-Whitney)."""
    positive, negative = grouped_weights(truth, score, weight)
    below = np.cumsum(negative, -1) - negative / 2
    return _ratio((positive * below).sum(-1), positive.sum(-1) * negative.sum(-1))


def average_precision(truth, score, weight=None):
    """Return the step-wise area under the precision-recall curve, as scikit-learn defines it."""
    positive, negative = grouped_weights(truth, score, weight)
    positive, negative = positive[..., ::-1], negative[..., ::-1]
    found, called = np.cumsum(positive, -1), np.cumsum(positive + negative, -1)
    precision = np.where(called > 0, found / np.where(called > 0, called, 1), 0.0)
    return _ratio((positive * precision).sum(-1), positive.sum(-1))


def brier(target, probability, weight=None):
    """Return the Brier score.

    With two classes the mean squared error of the positive probability (0..1); with more the sum
    over the classes (0..2), as scikit-learn scales it.
    """
    probability = np.asarray(probability, float)
    error = ((probability - np.eye(probability.shape[1])[np.asarray(target)]) ** 2).sum(1)
    return _mean(error / 2 if probability.shape[1] == 2 else error, weight)


def log_loss(target, probability, weight=None):
    """Return the mean negative log-likelihood in nats."""
    probability = np.clip(np.asarray(probability, float), PROBABILITY_FLOOR, 1)
    probability = probability / probability.sum(1, keepdims=True)
    return _mean(-np.log(probability[np.arange(len(probability)), np.asarray(target)]), weight)


def equal_mass_bins(score, bins: int = ECE_BINS) -> np.ndarray:
    """Return the bin of each score, array (n,) of int; tied scores share a bin, none is empty."""
    score = np.asarray(score, float)
    if not len(score):
        return np.zeros(0, np.int64)
    edges = np.quantile(score, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf")
    return np.unique(np.searchsorted(np.unique(edges), score, side="left"), return_inverse=True)[1]


def expected_calibration_error(outcome, score, weight=None, bins: int = ECE_BINS):
    """Return the mean over equal-mass bins of |observed share - mean score|, weighted by mass.

    The bins are those of the unweighted scores, also for resampled weights.
    """
    outcome, score = np.asarray(outcome, float), np.asarray(score, float)
    if not len(score):
        return np.nan
    member = np.eye(bins)[equal_mass_bins(score, bins)]
    weight = np.ones(len(score)) if weight is None else np.asarray(weight, float)
    gap = np.abs(weight @ (member * (outcome - score)[:, None]))
    return _ratio(gap.sum(-1), weight.sum(-1))


def calls(predictions: Predictions, threshold: float | None) -> np.ndarray:
    """Return the called class of each case, array (n,) of int.

    Two classes: the positive one where its probability is at least `threshold`. More classes: the
    most probable one, and `threshold` must be None.
    """
    if predictions.binary:
        if threshold is None:
            raise ValueError("two classes need a threshold chosen on validation cases")
        positive = predictions.positive_index
        return np.where(predictions.score >= threshold, positive, 1 - positive)
    if threshold is not None:
        raise ValueError(f"{len(predictions.classes)} classes are called by the largest "
                         "probability; leave the threshold out")  # fmt: skip
    return predictions.probability.argmax(1)


def weighted_metrics(
    predictions: Predictions, threshold: float | None, names=None
) -> Callable[[np.ndarray | None], dict[str, np.ndarray]]:
    """Return a function weight -> {metric: value}, which a bootstrap calls with many weights.

    `names` leaves the others out. Several classes: means over classes one against the rest; the
    ECE is then that of the called class's probability.
    """
    names = (*COUNTING, *SCORING) if names is None else tuple(names)
    target, probability = predictions.target, predictions.probability
    called = calls(predictions, threshold) if set(names) & set(COUNTING) else None
    if predictions.binary:
        truth, score = predictions.truth, predictions.score
        if called is not None:
            called = (called == predictions.positive_index).astype(np.int64)
    else:
        truth, score = target, probability
    k = len(predictions.classes)
    functions = {
        "auroc": lambda w: _macro(auroc, truth, score, w),
        "average_precision": lambda w: _macro(average_precision, truth, score, w),
        "brier": lambda w: brier(target, probability, w),
        "log_loss": lambda w: log_loss(target, probability, w),
        "ece": lambda w: _ece(truth, score, w),
    }

    def evaluate(weight=None) -> dict[str, np.ndarray]:
        out = {}
        if called is not None:
            out.update(counting_metrics(confusion(truth, called, k, weight)))
        out.update({name: functions[name](weight) for name in names if name in functions})
        return {name: out[name] for name in names}

    return evaluate


def classification_metrics(
    predictions: Predictions, threshold: float | None = None, *, per_class: bool = False
) -> dict[str, float]:
    """Return every classification metric of the predictions.

    Parameters
    ----------
    predictions : Predictions
    threshold : float, optional
        Needed with two classes; from `choose_threshold` on validation cases.
    per_class : bool
        Also ``<metric>/<class>`` one against the rest, when there are more than two classes.
    """
    values = weighted_metrics(predictions, threshold)(None)
    out = {name: float(value) for name, value in values.items()}
    if predictions.binary:
        out["threshold"] = float(threshold)
    if per_class and not predictions.binary:
        out.update(_per_class(predictions, threshold))
    return out


def _per_class(predictions: Predictions, threshold: float | None) -> dict[str, float]:
    k = len(predictions.classes)
    counts = confusion(predictions.target, calls(predictions, threshold), k)
    out = {}
    for name, values in one_against_rest(counts).items():
        for j, label in enumerate(predictions.classes):
            out[f"{name}/{label}"] = float(values[j])
    for j, label in enumerate(predictions.classes):
        truth, score = predictions.target == j, predictions.probability[:, j]
        out[f"auroc/{label}"] = float(auroc(truth, score))
        out[f"average_precision/{label}"] = float(average_precision(truth, score))
        out[f"ece/{label}"] = float(expected_calibration_error(truth, score))
    return out


def _macro(function, truth, score, weight):
    if score.ndim == 1:
        return function(truth, score, weight)
    each = [function(truth == j, score[:, j], weight) for j in range(score.shape[1])]
    return _mean_defined(np.stack(each, axis=-1))


def _ece(truth, score, weight):
    if score.ndim == 1:
        return expected_calibration_error(truth, score, weight)
    return expected_calibration_error(score.argmax(1) == truth, score.max(1), weight)


def grouped_weights(truth, score, weight) -> tuple[np.ndarray, np.ndarray]:
    """Sum positive and negative weight at each distinct score, ascending: arrays (..., g)."""
    truth, score = np.asarray(truth, bool), np.asarray(score, float)
    weight = np.ones(len(score)) if weight is None else np.asarray(weight, float)
    if not len(score):
        return np.zeros((*weight.shape[:-1], 1)), np.zeros((*weight.shape[:-1], 1))
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])
    weight, truth = weight[..., order], truth[order]
    return (
        np.add.reduceat(weight * truth, starts, axis=-1),
        np.add.reduceat(weight * ~truth, starts, axis=-1),
    )


def _matthews(counts: np.ndarray) -> np.ndarray:
    """Return the multi-class Matthews correlation (Gorodkin 2004); NaN when a margin is empty."""
    total, hits = counts.sum((-2, -1)), np.trace(counts, axis1=-2, axis2=-1)
    truth, called = counts.sum(-1), counts.sum(-2)
    top = hits * total - (truth * called).sum(-1)
    spread_t, spread_c = total**2 - (truth**2).sum(-1), total**2 - (called**2).sum(-1)
    value = _ratio(top, np.sqrt(spread_t * spread_c))
    # Calls that are all the same carry no information: 0, as in scikit-learn.
    return np.where((spread_c == 0) & (spread_t > 0), 0.0, value)


def _kappa(counts: np.ndarray) -> np.ndarray:
    """Return Cohen's kappa; NaN with one true class, where chance explains whatever is called."""
    total, hits = counts.sum((-2, -1)), np.trace(counts, axis1=-2, axis2=-1)
    truth = counts.sum(-1)
    by_chance = (truth * counts.sum(-2)).sum(-1)
    top, bottom = hits * total - by_chance, total**2 - by_chance
    known = (bottom > 0) & ((truth > 0).sum(-1) > 1)
    return np.where(known, top / np.where(known, bottom, 1), np.nan)


def _mean(values: np.ndarray, weight):
    weight = np.ones(len(values)) if weight is None else np.asarray(weight, float)
    return _ratio(weight @ values, weight.sum(-1))


def _ratio(top, bottom):
    """Return top / bottom with NaN where bottom is 0."""
    top, bottom = np.asarray(top, float), np.asarray(bottom, float)
    return np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1), np.nan)


def _mean_defined(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis of what is not NaN; NaN when nothing is."""
    there = ~np.isnan(values)
    return _ratio(np.where(there, values, 0).sum(-1), there.sum(-1))
