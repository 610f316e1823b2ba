"""A classifier beside the champion on the same patients: how both rank, and what both decide."""

from typing import Any

from tasks.evaluate.compare import Difference, holm, paired_primary
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.paired_calls import TEST, PairedCalls, paired_calls
from tasks.serve.verdict import Scored

HEADING = "Beside the champion, on the same test patients"


def decisions(ours: Scored, champion: Scored) -> PairedCalls | None:
    """Compare the decisions of the two at their operating points; None where there are none."""
    thresholds = ours.threshold, champion.threshold
    return paired_calls(ours.predictions, champion.predictions, thresholds)


def against_champion(
    ours: Scored,
    champion: Scored | None,
    config: EvaluateConfig,
    difference: Difference | None = None,
) -> dict[str, tuple[dict[str, Any], ...]]:
    """Return a report's table of both paired tests, with p-values that are Holm's over the two.

    Parameters
    ----------
    ours, champion : Scored
        The same cases; both with the operating point to decide from.
    config : EvaluateConfig
        With ``primary``.
    difference : Difference, optional
        In the primary metric, where it is known already.

    Returns
    -------
    dict
        Heading -> rows; empty without a champion, or where nothing is called positive.
    """
    calls = decisions(ours, champion) if champion else None
    if calls is None:
        return {}
    thresholds = ours.threshold, champion.threshold
    found = difference or paired_primary(ours.predictions, champion.predictions, thresholds, config)
    adjusted = holm([found.p_value, calls.p_value])
    ranked = {
        "compared": config.primary,
        "better by": (found.value, found.lo, found.hi),
        "p": f"{found.p_value:.3g}",
        "p (Holm)": f"{adjusted[0]:.3g}",
        "test": found.test,
        "patients": str(found.n_patients),
    }
    decided = {
        "compared": "patients decided rightly, at the operating points",
        "better by": calls.difference,
        "p": f"{calls.p_value:.3g}",
        "p (Holm)": f"{adjusted[1]:.3g}",
        "test": f"{TEST}: {calls.first_only} right alone, the champion {calls.second_only}",
        "patients": str(calls.n_patients),
    }
    return {HEADING: (ranked, decided)}
