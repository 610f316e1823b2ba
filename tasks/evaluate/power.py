"""What a test side can find out, before anything is trained."""

from statistics import NormalDist

from tasks.evaluate.known import RANKING_FINDINGS

ASSUMED_AUROC = 0.9
"""Planning value: the standard error of an AUROC is smaller the better the models are."""

ASSUMED_CORRELATION = 0.5
"""Of two models' figures over the same patients; usual for models of one training (Hanley 1983)."""

ASSUMED_DICE_SD = 0.05
"""Standard deviation over patients of the difference of two models' Dice."""

ASSUMED_SENSITIVITY = 0.8
"""Of detectors, at the false alarms that count."""

POWER = 0.8
"""Chance to find a difference that is there, by convention."""


def detectable_difference(
    patients: int, metric: str, *, confidence: float = 0.95, positive_share: float = 0.5
) -> float:
    """Return the smallest difference of two models that a paired test finds with 80 % power.

    Parameters
    ----------
    patients : int
        On the test side.
    metric : str
        ``dice`` counts as a mean over patients, ``cpm`` and ``ap`` as a share of the patients
        with something to be found, everything else is planned as an AUROC.
    confidence : float
        Two-sided.
    positive_share : float
        Share of patients of the positive class.

    Returns
    -------
    float
        In units of the metric; infinite when a class has nobody.

    Notes
    -----
    Standard error of an AUROC by Hanley and McNeil, Radiology 1982; of a paired difference with
    an assumed correlation, Radiology 1983.
    """
    reach = NormalDist().inv_cdf((1 + confidence) / 2) + NormalDist().inv_cdf(POWER)
    if metric.startswith("dice"):
        return reach * ASSUMED_DICE_SD / patients**0.5 if patients else float("inf")
    positives = patients * positive_share
    if metric in RANKING_FINDINGS:
        share = ASSUMED_SENSITIVITY * (1 - ASSUMED_SENSITIVITY)
        spread = 2 * (1 - ASSUMED_CORRELATION) * share
        return reach * (spread / positives) ** 0.5 if positives >= 1 else float("inf")
    negatives = patients - positives
    if positives < 1 or negatives < 1:
        return float("inf")
    a = ASSUMED_AUROC
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    variance = a * (1 - a) + (positives - 1) * (q1 - a * a) + (negatives - 1) * (q2 - a * a)
    single = variance / (positives * negatives)
    return reach * (2 * (1 - ASSUMED_CORRELATION) * single) ** 0.5
