"""What contradicts itself in what a scenario says of judging: by study, and beside a baseline."""

from collections.abc import Mapping

from tasks.cohort.config import CohortConfig
from tasks.evaluate.config import EvaluateConfig
from tasks.serve.verdict import GateConfig


def unit_misfits(
    evaluate: EvaluateConfig, task: str, cohort: CohortConfig, n_classes: int
) -> list[str]:
    """Say why studies cannot be judged, each reason in a sentence."""
    if evaluate.join is None:
        return []
    found = []
    if task != "classification":
        found.append(f"evaluate.unit: study is for a classification, not for a {task}")
    if cohort.kind == "row":
        found.append("evaluate.unit: rows of a table have no studies; use unit: case")
    if cohort.channel_set:
        found.append("evaluate.unit: with channels a case is a study already; use unit: case")
    if evaluate.join == "max" and n_classes != 2:
        found.append("evaluate.views: max needs two classes, one of them positive; use mean")
    return found


def baseline_misfits(
    evaluate: EvaluateConfig, gate: GateConfig, kinds: Mapping[str, str]
) -> list[str]:
    """Say why nothing can be held against a classical baseline.

    Parameters
    ----------
    evaluate : EvaluateConfig
    gate : GateConfig
    kinds : mapping of candidate to its kind
    """
    found = [
        f"evaluate.baseline: {name!r} is no candidate; there are {', '.join(kinds)}"
        for name in evaluate.baseline
        if name not in kinds
    ]
    if gate.beat_baseline and not evaluate.baseline and "tabular" not in kinds.values():
        found.append(
            "gate.beat_baseline: no candidate stands for the classical way; add a tabular one or "
            "name it under evaluate.baseline"
        )
    return found
