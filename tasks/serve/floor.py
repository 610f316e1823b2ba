"""What a model without skill reaches: a first model must clearly exceed it."""

import numpy as np

from tasks.evaluate.estimates import Estimates
from tasks.evaluate.finding_scores import FindingScores
from tasks.evaluate.known import RANKING_FINDINGS
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.predictions import Predictions

NO_SKILL = {
    "auroc": 0.5,
    **dict.fromkeys(("mcc", "kappa", "dice", "nsd", "lesion_dice", "r2", "spearman"), 0.0),
    # Any findings at all are a little above 0, since some hit by chance.
    **dict.fromkeys(RANKING_FINDINGS, 0.1),
}
"""Floors that need no data; shares of the classes give those of accuracy and its kin."""


def floor_of(pred: Predictions | MaskScores | FindingScores | Estimates, metric: str) -> float:
    """Return what a model without skill reaches; of errors, one that says the same of everybody."""
    base = metric.partition("/")[0]
    if base in NO_SKILL:
        return NO_SKILL[base]
    if isinstance(pred, Estimates) and base == "mae":
        return float(np.abs(pred.target - np.median(pred.target)).mean())
    if isinstance(pred, Estimates) and base == "rmse":
        return float(pred.target.std())
    if isinstance(pred, Predictions):
        if base == "balanced_accuracy":
            return 1 / len(pred.classes)
        if base == "accuracy":
            return float(np.bincount(pred.target).max() / len(pred))
        if base == "average_precision" and pred.binary:
            return float(pred.truth.mean())
    raise ValueError(
        f"{metric!r} has no value that stands for no skill; set gate.floor for the first model"
    )
