"""Choosing the challenger: by cross-validation on the training side, and by nothing else."""

from collections.abc import Mapping
from math import inf, isnan

from tasks.evaluate.intervals import Interval
from tasks.evaluate.known import METRICS


def choose_challenger(
    figures: Mapping[str, Mapping[str, Interval]],
    primary: str,
    *,
    never: frozenset[str] | set[str] = frozenset(),
) -> str:
    """Return the name of the candidate with the best out-of-fold primary metric.

    The function sees out-of-fold figures only; the test side cannot be handed to it.

    Parameters
    ----------
    figures : mapping candidate -> metric -> Interval
        Out-of-fold figures over the same training patients.
    primary : str
        Metric that ranks, e.g. ``auroc``.
    never : set of str
        Candidates that are there to be compared with and never chosen, such as header-only ones.

    Raises
    ------
    ValueError
        When no candidate may be chosen or one lacks the primary metric.
    """
    eligible = {name: table for name, table in figures.items() if name not in never}
    if not eligible:
        raise ValueError("every candidate is header-only; add one that sees the images")
    lacking = sorted(name for name, table in eligible.items() if primary not in table)
    if lacking:
        raise ValueError(f"candidate {lacking[0]} has no out-of-fold {primary}")
    lower = METRICS[primary.partition("/")[0]].direction == "lower"
    sign = -1 if lower else 1

    def worth(name: str) -> float:
        value = sign * eligible[name][primary].value
        # As the rank correlation of one number said of everybody: it is no better than any.
        return -inf if isnan(value) else value

    # Of equals the first by name, so that the choice does not hang on the order of tasks.
    return max(sorted(eligible), key=worth)
