"""On labels that mean nothing an honest candidate stays at chance; one that peeks is refused."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from tasks.errors import LeakageError
from tasks.evaluate.calibrate import EvaluateConfig
from tasks.evaluate.predictions import Predictions
from tasks.learn.job import JobCase, TrainingJob, fit_fold, out_of_fold
from tasks.learn.permuted import TABLE_REPEATS, random_labels

SEEN: dict[float, int] = {}
"""What the peeking estimator has been fitted on, in whichever fold."""


class Peeking(ClassifierMixin, BaseEstimator):
    """Nearest neighbour among everything it was ever shown: a cache somebody forgot to empty."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        SEEN.update(zip(X[:, 0].tolist(), y.tolist(), strict=True))
        return self

    def predict_proba(self, X):
        positive = [0.9 if SEEN.get(value, 0) else 0.1 for value in X[:, 0].tolist()]
        return np.stack([1 - np.array(positive), positive], axis=1)


def build_peeking(params, seed):
    return Peeking()


def job_with(estimator: str, **more) -> TrainingJob:
    rng = np.random.default_rng(5)
    cases = []
    for number in range(90):
        target = int(rng.random() < 0.4)
        facts = {"size": float(target + rng.normal(0, 0.8)), "noise": float(rng.normal())}
        patient = f"{number // 2:032x}"
        cases.append(
            JobCase(f"{number:032x}", patient, "train", number // 2 % 3, target, facts=facts)
        )
    body = {"name": "it", "kind": "tabular", "estimator": estimator, **more}
    return TrainingJob(
        "made", "classification", ("well", "ill"), "ill", "auroc", (body,), (*cases,)
    )


@pytest.fixture
def trained(tmp_path):
    """Fit folds as a worker does, and keep the jobs."""
    jobs = []

    def fit(job: TrainingJob) -> Predictions:
        jobs.append(job)
        place = job.save(tmp_path)
        return out_of_fold(job, [fit_fold(place, "", "it", fold) for fold in job.folds])

    return fit, jobs


def test_an_honest_candidate_stays_at_chance(trained):
    fit, jobs = trained
    job = job_with("logistic", search={"C": [0.1, 1.0]})
    assert fit(job).score[[c.target == 1 for c in job.cases]].mean() > 0.5
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
