"""The trials of searches, as the report shows them and a run keeps them."""

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.serve.numbers import show_number
from tasks.serve.outcome import CandidateOutcome

MOST_RUNS = 200
"""Trials of a candidate that get a run each; MLflow takes a tenth of a second for one. Beyond, the
table alone has them."""


def trial_table(outcomes: Sequence[CandidateOutcome]) -> tuple[dict[str, Any], ...]:
    """Return one row a trial: candidate, fold, settings, state, epochs, score."""
    return tuple(
        {
            "candidate": outcome.name,
            "fold": str(record.fold),
            "trial": str(one["trial"]),
            "settings": settings(one["params"]),
            "state": one["state"],
            "epochs": str(len(one["values"])) if "values" in one else "",
            "score": float(one["score"]),
        }
        for outcome in outcomes
        for record in outcome.records
        for one in record.trials
    )


def settings(params: Mapping[str, Any]) -> str:
    """Return settings in words: ``lr 0.00213, dropout 0.3``."""
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {show_number(value)}"
        for name, value in params.items()
    )


def score_curve(trial: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the score after each epoch, under the name of the table; the last one counts."""
    values = trial.get("values") or [trial["score"]]
    return [{"epoch": n, "search/score": value} for n, value in enumerate(values, start=1)]
