"""Figures of subgroups: by sex, age, site, scanner and thickness, each with its patients."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from tasks.evaluate.intervals import REPLICATES, Interval
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.predictions import Predictions
from tasks.evaluate.table import metric_table

FEWEST = 10
"""Patients below which a group is not shown: its interval says nothing, it may name somebody."""

FACTS = ("sex", "age_band", "site", "manufacturer", "kernel", "field_strength", "slice_thickness")
"""Header facts by which test figures are told apart."""

THICKNESS = (1.0, 3.0, 5.0)
"""Upper ends of the bands of slice thickness, in millimetres."""

AGE_YEARS = 20
"""Width of the bands of age: in the catalog's of five years hardly anybody is left."""

NOT_STATED = "not stated"

CALLS = ("recall", "specificity")
"""Shown beside the primary metric where a threshold calls cases positive."""


@dataclass(frozen=True)
class Group:
    """One subgroup; without figures when it has fewer than `FEWEST` patients."""

    fact: str
    value: str
    n_patients: int | None
    figures: Mapping[str, Interval]

    def to_row(self, metrics: Sequence[str]) -> dict[str, Any]:
        """Return the row of a report: texts, and a figure or None a metric."""
        n = f"under {FEWEST}" if self.n_patients is None else str(self.n_patients)
        shown = {name: self.figures.get(name) for name in metrics}
        return {"subgroup of": self.fact, "group": self.value, "patients": n, **shown}


def band(fact: str, value: Any) -> str:
    """Return the group of a fact's value: a band of ages or sizes, a field strength, or itself."""
    if value is None or value == "":
        return NOT_STATED
    if fact == "slice_thickness":
        low = 0.0
        for high in THICKNESS:
            if value <= high:
                return f"over {low:g} to {high:g} mm" if low else f"up to {high:g} mm"
            low = high
        return f"over {low:g} mm"
    if fact == "age_band" and (age := re.match(r"\d+", str(value))):
        low = int(age[0]) // AGE_YEARS * AGE_YEARS
        return f"{low} to {low + AGE_YEARS - 1} years"
    if fact == "field_strength":
        # What is written is 1.494 or 2.89 as often as 1.5 or 3.
        return f"{round(value * 2) / 2 or round(value, 2):g} T"
    # A site is a pseudonym of 32 characters.
    return str(value)[:12] if fact == "site" else str(value)


def subgroups(
    scored: Predictions | MaskScores,
    facts: Mapping[str, Sequence[Any]],
    *,
    threshold: float | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> list[Group]:
    """Return the figures of every group of every fact that tells cases apart.

    Parameters
    ----------
    scored : Predictions or MaskScores
    facts : mapping of fact to values
        One value a case, in the order of the cases.
    threshold, replicates, seed
        As `metric_table`.

    Returns
    -------
    list of Group
        By fact and value.  A patient whose cases differ in a fact counts in each of the groups.
        Groups of fewer than `FEWEST` patients come last, without a number.
    """
    found = []
    for fact, values in facts.items():
        if len(values) != len(scored):
            raise ValueError(
                f"{len(values)} values of {fact} for {len(scored)} cases: give one each"
            )
        groups = [band(fact, value) for value in values]
        if len(set(groups)) < 2:
            continue
        hidden = []
        for value in _in_order(groups, values):
            part = scored.take([place for place, own in enumerate(groups) if own == value])
            if part.n_patients < FEWEST:
                hidden.append(Group(fact, value, None, {}))
                continue
            table = metric_table(part, threshold, replicates=replicates, seed=seed)
            found.append(Group(fact, value, part.n_patients, table))
        found += hidden
    return found


def _in_order(groups: Sequence[str], values: Sequence[Any]) -> list[str]:
    """Return the groups by the size of their numbers, then by name."""
    lowest: dict[str, float] = {}
    for group, value in zip(groups, values, strict=True):
        number = value if isinstance(value, int | float) else inf
        lowest[group] = min(number, lowest.get(group, inf))
    return sorted(lowest, key=lambda group: (lowest[group], group))


def rows_of(groups: Sequence[Group], primary: str) -> tuple[dict[str, Any], ...]:
    """Return a report's table: the primary metric, and recall and specificity where called."""
    called = [name for name in CALLS if any(name in group.figures for group in groups)]
    metrics = list(dict.fromkeys([primary, *called]))
    return tuple(group.to_row(metrics) for group in groups)
