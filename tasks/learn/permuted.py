"""The chosen candidate trained on labels that mean nothing: whatever it still learns has leaked."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tasks.errors import LeakageError
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.leakage import random_label_alarm
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.predictions import Predictions
from tasks.learn.fusing import needed
from tasks.learn.job import TrainingJob

TABLE_REPEATS = 3
"""Trainings on random labels where a scenario says nothing: of a table they take seconds, of a
network as long as the training itself."""

FitAgain = Callable[[TrainingJob], Predictions | MaskScores]
"""Trains a job and returns the out-of-fold scores of its last candidate; the others are what it
needs."""


def random_labels(
    job: TrainingJob, name: str, config: EvaluateConfig, fit: FitAgain
) -> tuple[str, ...]:
    """Train a candidate on labels permuted between the training patients.

    Parameters
    ----------
    job : TrainingJob
    name : str
        The candidate; without its search, so that its parameters stand.
    config : EvaluateConfig
        With ``random_labels``, how often.
    fit : callable

    Returns
    -------
    tuple of str
        What was found, in a sentence.

    Raises
    ------
    LeakageError
        When the alarm is raised, and again with other permutations.
    """
    bodies = tuple(
        dict(one) | ({"search": {}} if one.get("search") else {}) for one in needed(job, name)
    )
    repeats = config.random_labels
    if repeats is None:
        repeats = 0 if any(one["kind"] == "network" for one in bodies) else TABLE_REPEATS
    if job.task != "classification" or len(job.classes) != 2:
        return ("Random labels were not tried: the alarm knows two classes only.",)
    if not repeats:
        return ("Random labels were not tried: `random_labels` under evaluate says how often.",)
    cases, units = job.on("train"), job.units("train")
    positive = job.classes.index(job.positive) if job.positive else 1
    patient = {case.unit: case.patient_key for case in cases}
    truth = dict.fromkeys(units, 0)
    for case in cases:
        truth[case.unit] |= int(case.target == positive)

    def out_of_fold(labels: np.ndarray) -> np.ndarray:
        of_unit = dict(zip(units, labels, strict=True))
        permuted = tuple(
            replace(case, target=positive if of_unit[case.unit] else 1 - positive) for case in cases
        )
        return fit(replace(job, cases=permuted, candidates=bodies)).score

    for seed in (config.seed, config.seed + 1):
        alarm = random_label_alarm(
            out_of_fold,
            [patient[unit] for unit in units],
            [truth[unit] for unit in units],
            repeats=repeats,
            seed=seed,
        )
        if not alarm.alarmed:
            return (alarm.sentence,)
    raise LeakageError(
        f"{alarm.sentence} Two draws of {repeats} trainings agree: find the estimator, or the step "
        "of one, that looks beyond its fold."
    )
