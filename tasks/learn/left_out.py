"""The chosen candidate trained without one vendor, site or other group, and judged on it.

A model that is registered answers calibrated, so a group that was left out is judged calibrated.
What calibrates it is fitted as for the registered model, on ordinary folds, but on those patients
alone whom the training without the group had.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tasks.evaluate.calibrate import apply_calibration, fit_calibration
from tasks.evaluate.predictions import Predictions
from tasks.evaluate.subgroups import FEWEST, NOT_STATED, Group, band
from tasks.evaluate.table import metric_table
from tasks.learn.fusing import needed
from tasks.learn.job import TrainingJob
from tasks.learn.permuted import FitAgain

OTHERS = "others"
"""The fold of patients of small groups, of several groups, or of none: trained on, not shown."""


@dataclass(frozen=True, eq=False)
class Calibrating:
    """How answers of a group that was left out are calibrated."""

    method: str
    ordinary: Predictions
    """Of the candidate's ordinary folds, not calibrated."""


def leave_each_out(
    job: TrainingJob,
    name: str,
    fact: str,
    fit: FitAgain,
    *,
    replicates: int,
    seed: int,
    calibrating: Calibrating | None = None,
) -> tuple[list[Group], str]:
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
    calibrating : Calibrating, optional
        Of probabilities; without it they are measured as they are.

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
    told = f"{fact}, trained {'without' if calibrating is None else 'and calibrated without'}"
    found = []
    for value, fold in folds.items():
        own = {case.unit for case in moved if case.fold == fold}
        part = scores.take([i for i, unit in enumerate(scores.case_ids) if unit in own])
        if calibrating is not None:
            part = _calibrated(part, calibrating, group_of, value)
        table = metric_table(part, replicates=replicates, seed=seed)
        found.append(Group(told, value, part.n_patients, table))
    return found, ""


def _calibrated(
    part: Predictions, how: Calibrating, group_of: Mapping[str, str], value: str
) -> Predictions:
    """Calibrate a group by what the patients of all others say; it has no part in the fit."""
    keys = how.ordinary.patient_keys
    others = how.ordinary.take([i for i, key in enumerate(keys) if group_of[key] != value])
    fitted = fit_calibration(others, how.method, side="oof")
    return replace(part, probability=apply_calibration(fitted, part.probability))


def _groups(job: TrainingJob, fact: str) -> dict[str, str]:
    """Return each training patient's group: `OTHERS` where it is not stated, or not one."""
    values: dict[str, set[str]] = {}
    for case in job.on("train"):
        values.setdefault(case.patient_key, set()).add(band(fact, case.facts.get(fact)))
    return {
        patient: next(iter(own)) if len(own) == 1 and NOT_STATED not in own else OTHERS
        for patient, own in values.items()
    }
