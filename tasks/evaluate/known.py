"""The figures there are: what each means, which direction is better, its range."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class MetricInfo:
    """What a metric is: a sentence, which direction is better, and its range."""

    text: str
    direction: str
    range: tuple[float, float]


METRICS: Mapping[str, MetricInfo] = {
    "accuracy": MetricInfo("Share of cases called right.", "higher", (0, 1)),
    "balanced_accuracy": MetricInfo("Mean over classes of the recall.", "higher", (0, 1)),
    "precision": MetricInfo("Share of positive calls that are right.", "higher", (0, 1)),
    "npv": MetricInfo("Share of negative calls that are right.", "higher", (0, 1)),
    "recall": MetricInfo("Share of positive cases found (sensitivity).", "higher", (0, 1)),
    "specificity": MetricInfo("Share of negative cases called negative.", "higher", (0, 1)),
    "f1": MetricInfo("Harmonic mean of precision and recall.", "higher", (0, 1)),
    "mcc": MetricInfo("Matthews correlation of call and truth.", "higher", (-1, 1)),
    "kappa": MetricInfo("Cohen's kappa of call and truth.", "higher", (-1, 1)),
    "auroc": MetricInfo("Area under the ROC curve.", "higher", (0, 1)),
    "average_precision": MetricInfo("Step-wise area under precision-recall.", "higher", (0, 1)),
    "brier": MetricInfo("Mean squared error of the probabilities.", "lower", (0, 2)),
    "log_loss": MetricInfo("Mean negative log-likelihood.", "lower", (0, float("inf"))),
    "ece": MetricInfo("Expected calibration error, 15 equal-mass bins.", "lower", (0, 1)),
    "calibration_slope": MetricInfo(
        "Slope of the outcome on the logit; 1 is right.", "none", (-float("inf"), float("inf"))
    ),
    "calibration_intercept": MetricInfo(
        "Shift of the logit that the outcomes ask for; 0 is right.",
        "none",
        (-float("inf"), float("inf")),
    ),
    "threshold": MetricInfo("Probability from which a case is positive.", "none", (0, 1)),
    "dice": MetricInfo("Dice, mean over classes, cases, then patients.", "higher", (0, 1)),
    "nsd": MetricInfo("Share of both surfaces within the tolerance.", "higher", (0, 1)),
    "hd95": MetricInfo("Distance that holds 95 % of a surface, in mm.", "lower", (0, float("inf"))),
    "volume_error": MetricInfo("Absolute error of the volume, in mL.", "lower", (0, float("inf"))),
    "volume_bias": MetricInfo(
        "Volume found minus true volume, in mL.", "none", (-float("inf"), float("inf"))
    ),
    "relative_volume_error": MetricInfo(
        "Absolute error of the volume, as a share of the true one.", "lower", (0, float("inf"))
    ),
    "lesion_dice": MetricInfo("Dice, mean over lesions.", "higher", (0, 1)),
    "lesion_hd95": MetricInfo("HD95, mean over lesions, in mm.", "lower", (0, float("inf"))),
    "cpm": MetricInfo("Mean sensitivity at 1/8 to 8 false alarms a scan.", "higher", (0, 1)),
    "froc": MetricInfo("Sensitivity at so many false alarms a scan.", "higher", (0, 1)),
    "ap": MetricInfo("Average precision of boxes of at least an overlap.", "higher", (0, 1)),
    "lesion_recall": MetricInfo("Share of lesions found at the threshold.", "higher", (0, 1)),
    "lesion_precision": MetricInfo(
        "Share of findings shown that are right, of classes there are.", "higher", (0, 1)
    ),
    "false_alarms": MetricInfo(
        "False alarms a scan at the threshold, of all classes together.", "lower", (0, float("inf"))
    ),
    "mae": MetricInfo(
        "Mean absolute error, in the unit of the number.", "lower", (0, float("inf"))
    ),
    "rmse": MetricInfo(
        "Root of the mean squared error, in the unit of the number.", "lower", (0, float("inf"))
    ),
    "r2": MetricInfo("Share of the variance explained.", "higher", (-float("inf"), 1)),
    "spearman": MetricInfo("Rank correlation of estimate and truth.", "higher", (-1, 1)),
    "bias": MetricInfo("Mean of estimate minus truth.", "none", (-float("inf"), float("inf"))),
    "loa_lower": MetricInfo(
        "Lower limit of agreement: bias minus 1.96 SD of the differences.",
        "none",
        (-float("inf"), float("inf")),
    ),
    "loa_upper": MetricInfo(
        "Upper limit of agreement: bias plus 1.96 SD of the differences.",
        "none",
        (-float("inf"), float("inf")),
    ),
    "empty_share": MetricInfo(
        "Share of case and class pairs in which a mask, true or given, is empty.", "none", (0, 1)
    ),
}
"""Base names; those of masks may carry ``/<class>``, and others for several classes."""

COUNTING = (
    "accuracy",
    "balanced_accuracy",
    "precision",
    "npv",
    "recall",
    "specificity",
    "f1",
    "mcc",
    "kappa",
)
"""Metrics that need calls, hence (with two classes) a threshold."""

SCORING = ("auroc", "average_precision", "brier", "log_loss", "ece")
"""Metrics of the probabilities themselves."""

OF_FINDINGS_CALLED = ("lesion_recall", "lesion_precision", "false_alarms")
"""Figures of findings from a threshold on."""

RANKING_FINDINGS = ("cpm", "ap")
"""Figures of a detection by which candidates are ranked and gated."""

DETECTION_FIGURES = (*RANKING_FINDINGS, "froc", *OF_FINDINGS_CALLED)
"""Figures of detections: FROC and its mean, average precision of boxes, and those of calls."""

NUMBER_FIGURES = ("mae", "rmse", "r2", "spearman", "bias", "loa_lower", "loa_upper")
"""Figures of a regression."""

OUTLINE_FIGURES = ("dice", "nsd", "hd95")
"""Figures of the outlines of a detection, all that is shown of a class together."""

LESION_FIGURES = ("lesion_dice", "lesion_hd95")
"""Figures of masks lesion by lesion, where a scenario asks for them."""

MASK_FIGURES = (
    "dice",
    "nsd",
    "hd95",
    "volume_error",
    "volume_bias",
    "relative_volume_error",
    *LESION_FIGURES,
)
"""Figures of masks: one a class, and their mean over the classes."""
