"""A network's search is nested in its fold, and its settings are those the fold is trained with."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tasks.errors import ScenarioError
from tasks.learn import plan as plan_module
from tasks.learn.crossval import fit_fold
from tasks.learn.job import JobCase, TrainingJob
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.optimise import Ask
from tasks.learn.trial import open_search, read_found, run_trial, searched, write_found
from tests.learn import small_fold

BODY = {
    "name": "net", "features": (4, 8), "epochs": 4, "batch": 8, "monitor": "auroc",
    "augment": "none", "search": {"lr": {"low": 1e-5, "high": 1e-2, "log": True}},
    "max_trials": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A job of three folds over a store: (job, place, root)."""
    root = tmp_path_factory.mktemp("store")
    source, cases = small_fold.bright_square_cases(36)
    stored = small_fold.write_store(root, source, cases, fixed_shape=(1, 24, 24))
    job = TrainingJob(
        "squares", "classification", ("plain", "square"), "square", "auroc",
        candidates=(NetworkCandidate(**BODY).model_dump(mode="json"),),
        cases=tuple(
            JobCase(c.case_id, c.patient_key, "train", k // 2 % 3, c.target, c.part_path,
                    part_digest=c.part_digest)
            for k, c in enumerate(stored)
        ),
        shape=(1, 24, 24),
    )  # fmt: skip
    return job, job.save(tmp_path_factory.mktemp("training")), str(root)


def test_a_fold_is_trained_with_what_its_own_search_chose(made):
    job, place, root = made
    search = open_search(job, place, "net", 1)
    for ask in search.ask():
        search.tell(run_trial(place, root, "net", 1, ask))
    write_found(place, "net", 1, search)
    record = fit_fold(place, root, "net", 1)
    chosen = read_found(place, "net", 1)["params"]
    assert record.params["lr"] == chosen["lr"] == search.best.params["lr"]
    assert max(row["lr"] for row in record.history) <= chosen["lr"]
    assert [t["state"] for t in record.trials].count("chosen") == 1
    assert len(record.trials) == 2
    json.dumps(record.trials)
    assert set(record.case_ids) == {c.case_id for c in job.cases if c.fold == 1}


def test_a_trial_never_reads_a_case_of_its_fold(made, monkeypatch):
    _, place, root = made
    job = made[0]
    own = {c.case_id for c in job.cases if c.fold == 0}
    from tasks.learn import train

    seen = []
    real = train.train_fold

    def watched(plan, store, cases, train_ids, val_ids, *rest, **more):
        seen.append({c.case_id for c in cases} | {*train_ids, *val_ids})
        return real(plan, store, cases, train_ids, val_ids, *rest, **more)

    monkeypatch.setattr(train, "train_fold", watched)
    told = run_trial(place, root, "net", 0, Ask(0, {"lr": 1e-3}))
    assert len(told.values) == 4
    assert not seen[0] & own
    assert len(seen[0]) == len(job.cases) - len(own)


def test_a_trial_is_judged_by_its_last_epoch_and_looked_at_now_and_then(made, monkeypatch):
    _, place, root = made
    monkeypatch.setattr(plan_module, "LOOKS", 2)
    seen = []
    told = run_trial(place, root, "net", 0, Ask(9, {"lr": 1e-2}), on_epoch=seen.append)
    first, last = seen[0]["val_auroc"], seen[-1]["val_auroc"]
    assert [("val_auroc" in record) for record in seen] == [True, False, False, True]
    assert told.values == (first, first, first, last)
    assert told.score == last


def test_a_trial_that_falls_short_stops_at_that_epoch_and_says_the_same_when_asked_again(made):
    _, place, root = made
    ask = Ask(7, {"lr": 1e-5}, bar=(2.0, 2.0, 2.0, 2.0))
    first = run_trial(place, root, "net", 2, ask)
    assert first.stopped
    assert len(first.values) == 2  # a quarter of four epochs is warm-up
    assert run_trial(place, root, "net", 2, ask) == first


def test_a_search_needs_three_folds(made):
    job = made[0]
    two = replace(job, cases=tuple(replace(c, fold=c.fold % 2) for c in job.cases))
    with pytest.raises(ScenarioError, match="needs 3 folds and the split has 2"):
        searched(two)
    assert searched(job) == [("net", 0), ("net", 1), ("net", 2)]


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({"features": [[4, 8]]}, "features cannot be searched; lr, "),
        ({"lr": []}, "0 values"),
        ({"dropout": {"low": 0.1, "high": 1.5}}, "dropout cannot be 1.5"),
        ({"lr": {"low": 0.1, "high": 0.01}}, "not below"),
    ],
)
def test_a_space_that_cannot_be_tried_is_refused_when_the_scenario_is_read(search, words):
    with pytest.raises(ValueError, match=words):
        NetworkCandidate(name="a", search=search)


def test_a_table_s_space_may_have_spans_and_its_search_stays_inside_the_fold():
    import pandas as pd

    from tasks.learn.candidate import TabularCandidate
    from tasks.learn.tabular import fit_fold as fit_table_fold

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(90, 3)), columns=["a", "b", "c"])
    y = (frame["a"] + rng.normal(size=90) > 0).to_numpy(dtype=int)
    candidate = TabularCandidate(
        name="t", estimator="logistic", max_trials=6, inner_folds=3,
        search={"C": {"low": 1e-3, "high": 10.0, "log": True}},
    )  # fmt: skip
    folds = np.arange(90) % 3
    outcome = fit_table_fold(candidate, frame, y, np.arange(90), folds, 0, 0)
    assert len(outcome.trials.trials) == 6
    assert outcome.params["C"] == max(outcome.trials.trials, key=lambda t: t.score).params["C"]
    # What the held-out fold holds changes nothing that was chosen.
    other = fit_table_fold(
        candidate, frame, np.where(folds == 0, 1 - y, y), np.arange(90), folds, 0, 0
    )
    assert other.params == outcome.params
