"""The chosen candidate trained without one vendor, site or other group, and judged on it."""

from collections import Counter
from dataclasses import replace

from tasks.evaluate.masks import MaskScores
from tasks.evaluate.predictions import Predictions
from tasks.evaluate.subgroups import FEWEST, NOT_STATED, Group, band
from tasks.evaluate.table import metric_table
from tasks.learn.fusing import needed
from tasks.learn.job import TrainingJob
from tasks.learn.permuted import FitAgain

OTHERS = "others"
"""The fold of patients of small groups, of several groups, or of none: trained on, not shown."""


def leave_each_out(job: TrainingJob, name: str, fact: str, fit: FitAgain, *,
                   replicates: int, seed: int) -> tuple[list[Group], str]:  # fmt: skip
    """Train a candidate once for each group of a fact, without it, and judge it on that group.

    Parameters
    ----------
    job : TrainingJob
    name : str
        The candidate; with its search, since parameters are found without the group too.
    fact : str
        A header fact, or a column of a table.
    fit : callable
    replicates, seed : int
        Of the intervals.

    Returns
    -------
    list of Group
        Training patients, each judged by a model that saw nobody of the group.
    str
        Why there is none, or nothing.
    """
    group_of = _groups(job, fact)
    patients = Counter(group_of.values())
    kept = sorted(value for value, n in patients.items() if n >= FEWEST and value != OTHERS)
    if len(kept) < 2:
        return [], (
            f"Leaving out one {fact} at a time needs 2 groups of {FEWEST} training patients, and "
            f"there are {len(kept)}."
        )
    folds = {value: number for number, value in enumerate(kept)}
    cases = job.on("train")
    moved = tuple(
        replace(case, fold=folds.get(group_of[case.patient_key], len(kept))) for case in cases
    )
    scores = fit(replace(job, cases=moved, candidates=needed(job, name)))
    found = []
    for value, fold in folds.items():
        own = {case.unit for case in moved if case.fold == fold}
        part = scores.take([i for i, unit in enumerate(scores.case_ids) if unit in own])
        found.append(_judged(part, fact, value, replicates, seed))
    return found, ""


def _groups(job: TrainingJob, fact: str) -> dict[str, str]:
    """Return each training patient's group: `OTHERS` where it is not stated, or not one."""
    values: dict[str, set[str]] = {}
    for case in job.on("train"):
        values.setdefault(case.patient_key, set()).add(band(fact, case.facts.get(fact)))
    return {
        patient: next(iter(own)) if len(own) == 1 and NOT_STATED not in own else OTHERS
        for patient, own in values.items()
    }


def _judged(
    part: Predictions | MaskScores, fact: str, value: str, replicates: int, seed: int
) -> Group:
    table = metric_table(part, replicates=replicates, seed=seed)
    return Group(f"{fact}, trained without", value, part.n_patients, table)
