"""A fusion beside its members: figures and a paired test, for the report."""

from collections.abc import Sequence
from typing import Any

from tasks.evaluate.compare import holm, paired_primary
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.paired_calls import calls_columns, paired_calls
from tasks.learn.job import TrainingJob
from tasks.serve.outcome import CandidateOutcome


def beside_members(
    job: TrainingJob, outcomes: Sequence[CandidateOutcome], config: EvaluateConfig
) -> tuple[dict[str, Any], ...]:
    """Return one row a fusion and member: both figures out of fold, and their difference.

    Differences are of the same patients (paired DeLong for an AUROC of one case a patient, else a
    bootstrap of patients), and so are their decisions (exact McNemar); p-values are Holm's over
    the members of a fusion.
    """
    by_name = {outcome.name: outcome for outcome in outcomes}
    metric, found = config.primary, []
    for fused in (one for one in outcomes if one.kind == "fusion"):
        members = [by_name[name] for name in job.candidate(fused.name).members]
        gaps = [
            paired_primary(fused.scores, member.scores, (fused.threshold, member.threshold), config)
            for member in members
        ]
        decided = [
            paired_calls(fused.scores, member.scores, (fused.threshold, member.threshold))
            for member in members
        ]
        columns = calls_columns(decided, "the fusion", "the other alone", adjust=True)
        p_values = holm([gap.p_value for gap in gaps])
        for member, gap, p, more in zip(members, gaps, p_values, columns, strict=True):
            found.append(
                {
                    "fusion": fused.name,
                    f"{metric} of the fusion": fused.figures[metric],
                    "alone": f"{member.name} ({member.kind})",
                    f"{metric} alone": member.figures[metric],
                    "better by": (gap.value, gap.lo, gap.hi),
                    "p (Holm)": f"{p:.3g}",
                    "test": gap.test,
                    **more,
                }
            )
    return tuple(found)
