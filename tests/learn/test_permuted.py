"""On labels that mean nothing an honest candidate stays at chance; one that peeks is refused."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from tasks.errors import LeakageError
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.metrics import auroc
from tasks.learn.job import JobCase, TrainingJob
from tasks.learn.permuted import TABLE_REPEATS, random_labels

BITS = 7
"""Columns that together number a row; scaling keeps on which side of the mean a bit is."""

SEEN: dict[tuple[bool, ...], int] = {}
"""What the peeking estimator has been fitted on, in whichever fold."""


class Peeking(ClassifierMixin, BaseEstimator):
    """Remembers every row it was ever shown: a cache that somebody forgot to empty."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        SEEN.update(zip(rows_of(X), y.tolist(), strict=True))
        return self

    def predict_proba(self, X):
        positive = [0.9 if SEEN.get(row, 0) else 0.1 for row in rows_of(X)]
        return np.stack([1 - np.array(positive), positive], axis=1)


def rows_of(X) -> list[tuple[bool, ...]]:
    return [tuple(row > 0) for row in X[:, :BITS]]


def build_peeking(params, seed):
    return Peeking()


def job_with(estimator: str, **more) -> TrainingJob:
    rng = np.random.default_rng(5)
    cases = []
    for number in range(90):
        target = int(rng.random() < 0.4)
        facts = {"size": float(target + rng.normal(0, 0.8)), "noise": float(rng.normal())}
        facts |= {f"bit{place}": float(number >> place & 1) for place in range(BITS)}
        patient = f"{number // 2:032x}"
        cases.append(
            JobCase(f"{number:032x}", patient, "train", number // 2 % 3, target, facts=facts)
        )
    body = {"name": "it", "kind": "tabular", "estimator": estimator, **more}
    return TrainingJob(
        "made", "classification", ("well", "ill"), "ill", "auroc", (body,), (*cases,)
    )


def test_an_honest_candidate_stays_at_chance(trained):
    fit, jobs = trained
    job = job_with("logistic", search={"C": [0.1, 1.0]})
    honest = fit(job)
    assert auroc(honest.truth, honest.score) > 0.65
    jobs.clear()
    (said,) = random_labels(job, "it", EvaluateConfig(bootstrap=200), fit)
    assert "within chance" in said
    assert len(jobs) == TABLE_REPEATS
    for permuted in jobs:
        assert [c.case_id for c in permuted.cases] == [c.case_id for c in job.cases]
        assert [c.target for c in permuted.cases] != [c.target for c in job.cases]
        assert not permuted.candidates[0]["search"]


def test_an_estimator_that_looks_beyond_its_fold_is_refused(trained):
    fit, jobs = trained
    job = job_with(f"{__name__}:build_peeking")
    with pytest.raises(LeakageError, match=r"Leak alarm.*beyond its fold"):
        random_labels(job, "it", EvaluateConfig(bootstrap=200, random_labels=4), fit)
    assert len(jobs) == 8


def test_it_says_where_it_was_not_tried(trained):
    fit, jobs = trained
    network = replace(job_with("tree"), candidates=({"name": "it", "kind": "network"},))
    (said,) = random_labels(network, "it", EvaluateConfig(bootstrap=200), fit)
    assert "not tried" in said
    three = replace(network, classes=("a", "b", "c"))
    (said,) = random_labels(three, "it", EvaluateConfig(bootstrap=200, random_labels=2), fit)
    assert "two classes only" in said
    assert not jobs
