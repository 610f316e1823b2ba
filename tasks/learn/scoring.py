"""The score that a search optimises and a fold reports: higher is always better."""

import numpy as np

from tasks.learn.candidate import search_score

RANKED = ("auroc", "average_precision")
"""Scores that depend on the order of the probabilities only."""


def number_score(name: str, y: np.ndarray, value: np.ndarray) -> float:
    """Return a score of numbers of which higher is better; errors are negated.

    Where it is undefined, as the rank correlation of one number said of all, it is 0: no skill.
    """
    from tasks.evaluate.agreement import weighted_agreement
    from tasks.evaluate.estimates import Estimates
    from tasks.evaluate.known import METRICS

    ids = tuple(map(str, range(len(y))))
    found = float(weighted_agreement(Estimates(ids, ids, y, value, "", "1"), [name])(None)[name])
    if np.isnan(found):
        return 0.0
    return found if METRICS[name].direction == "higher" else -found


def score(name: str, y: np.ndarray, probability: np.ndarray) -> float:
    """Return a score of which higher is better; errors are negated.

    Of several classes AUROC and average precision are the mean of one against rest.  A metric that
    needs a threshold is replaced as `tasks.learn.candidate.search_score` says.
    """
    from sklearn import metrics

    name = search_score(name)
    labels = np.arange(probability.shape[1])
    if name in ("accuracy", "balanced_accuracy"):
        chosen = probability.argmax(axis=1)
        return float(getattr(metrics, f"{name}_score")(y, chosen))
    if name == "log_loss":
        return -float(metrics.log_loss(y, probability, labels=labels))
    if name == "brier":
        return -float(((probability - (y[:, None] == labels)) ** 2).sum(axis=1).mean())
    curve = {
        "auroc": metrics.roc_auc_score,
        "average_precision": metrics.average_precision_score,
    }[name]
    positive = labels[1:] if len(labels) == 2 else labels
    each = [curve(y == k, probability[:, k]) for k in positive if 0 < (y == k).sum() < len(y)]
    if not each:
        raise ValueError(
            f"{name} needs 2 classes and {len(y)} held-out rows hold {len(np.unique(y))}: "
            "use fewer folds or more patients"
        )
    return float(np.mean(each))
