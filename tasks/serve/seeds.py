"""How far a candidate's figure moves with the seed alone: the same folds, trained again.

The interval over patients says what other patients would change. It says nothing of how a network
happened to start: two candidates may differ by no more than one differs from itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.serve.names import metric_name
from tasks.serve.outcome import CandidateOutcome

HEADING = "Spread over seeds: the same folds trained again, out of fold"


@dataclass(frozen=True)
class Spread:
    """Lowest, mean and highest figure over seeds, and the standard deviation of one seed."""

    seeds: int
    lowest: float
    mean: float
    highest: float
    deviation: float


def spread_of(outcome: CandidateOutcome) -> Spread | None:
    """Return the spread of a candidate's primary figure; None of a single seed."""
    found = np.array(outcome.by_seed, float)
    if len(found) < 2:
        return None
    return Spread(
        len(found),
        float(found.min()),
        float(found.mean()),
        float(found.max()),
        float(found.std(ddof=1)),
    )


def seed_sections(
    outcomes: Sequence[CandidateOutcome], primary: str
) -> dict[str, tuple[dict[str, Any], ...]]:
    """Return a report's table, a row a candidate of several seeds; empty where there is none."""
    rows = tuple(
        {
            "candidate": outcome.name,
            "seeds": str(found.seeds),
            f"{primary} of the candidate, its first seed": outcome.by_seed[0],
            "lowest": found.lowest,
            "mean": found.mean,
            "highest": found.highest,
            "standard deviation": found.deviation,
        }
        for outcome in outcomes
        if (found := spread_of(outcome)) is not None
    )
    return {HEADING: rows} if rows else {}


def seed_metrics(outcome: CandidateOutcome) -> dict[str, float]:
    """Return the spread under the names of the table; empty of a single seed."""
    found = spread_of(outcome)
    if found is None:
        return {}
    said = {
        "seeds_lowest": found.lowest,
        "seeds_mean": found.mean,
        "seeds_highest": found.highest,
        "seeds_sd": found.deviation,
    }
    return {metric_name("oof", name): value for name, value in said.items()}


def seed_words(outcome: CandidateOutcome, primary: str) -> str | None:
    """Return the spread in a line; None of a single seed."""
    found = spread_of(outcome)
    return found and (
        f"{outcome.name}, {found.seeds} seeds: {primary} {found.lowest:.3f} to "
        f"{found.highest:.3f}, mean {found.mean:.3f}, standard deviation {found.deviation:.3f}"
    )
