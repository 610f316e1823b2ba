"""From which score on findings are shown: chosen on out-of-fold findings, of all classes at once.

A finding is right here as FROC has it: its centre lies within the lesion.
"""

from tasks.evaluate.config import FindingConfig
from tasks.evaluate.finding_scores import FindingScores, pooled_curve

NOTHING = 1.0
"""Threshold where no finding may be shown: above it there is none."""


def choose_shown(scores: FindingScores, config: FindingConfig, *, side: str) -> float:
    """Return the threshold by the scenario's rule.

    ``false_alarms``: the most lesions with at most ``at_most`` false alarms a scan; ``f1``: the
    highest F1 of lesions; of equals the higher threshold. ``fixed``: the value said.

    Parameters
    ----------
    scores : FindingScores
    config : FindingConfig
        Settled, see `FindingConfig.settled`.
    side : str
        ``oof``: a threshold chosen on the test side would flatter it.

    Raises
    ------
    ValueError
        On another side, or without a rule.
    """
    if side != "oof":
        raise ValueError(f"a threshold is chosen out of fold, not on the side {side!r}")
    if config.rule == "fixed":
        return float(config.value)
    if config.rule is None:
        raise ValueError("no rule is said; use FindingConfig.settled first")
    best, chosen = 0.0, NOTHING
    for threshold, hits, alarms, lesions in pooled_curve(scores):
        if config.rule == "false_alarms":
            allowed = alarms <= config.at_most * len(scores)
            worth = float(hits) if allowed else 0.0
        else:
            worth = 2 * hits / max(1, hits + alarms + lesions)
        if worth > best:
            best, chosen = worth, threshold
    return chosen
