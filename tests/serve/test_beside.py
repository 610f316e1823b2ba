"""A fusion stands beside its members with the test that fits, and trials in words."""

import numpy as np
import pytest

from tasks.evaluate.compare import paired_metric
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.paired_calls import paired_calls
from tasks.evaluate.predictions import Predictions
from tasks.evaluate.table import metric_table
from tasks.learn.candidate import TabularCandidate
from tasks.learn.crossval import FoldRecord
from tasks.learn.fusion import FusionCandidate
from tasks.learn.job import TrainingJob
from tasks.serve.beside import beside_members
from tasks.serve.card import ReportFacts, write_report
from tasks.serve.outcome import CandidateOutcome
from tasks.serve.trials import score_curve, settings, trial_table

CONFIG = EvaluateConfig(bootstrap=200)


def outcome(name, kind, target, skill, trials=(), seed=0):
    rng = np.random.default_rng(seed)
    positive = 1 / (1 + np.exp(-(skill * (target - 0.5) + rng.normal(size=len(target)))))
    ids = tuple(f"case{i}" for i in range(len(target)))
    scores = Predictions(
        ids, ids, target, np.stack([1 - positive, positive], axis=1), ("no", "yes"), "yes"
    )
    record = FoldRecord(name, 0, ids, (), trials=trials)
    figures = metric_table(scores, 0.5, replicates=200, seed=0)
    return CandidateOutcome(name, kind, scores, 0.5, {"method": "none"}, figures, (record,))


@pytest.fixture(scope="module")
def made():
    target = np.arange(120) % 2
    tables = [TabularCandidate(name=n, estimator="logistic") for n in ("first", "second")]
    both = FusionCandidate(name="both", kind="fusion", members=("first", "second"))
    job = TrainingJob(
        "s", "classification", ("no", "yes"), "yes", "auroc",
        tuple(one.model_dump(mode="json") for one in (*tables, both)), (),
    )  # fmt: skip
    trials = (
        {"trial": 0, "state": "stopped", "score": -0.7, "values": [-0.9, -0.7],
         "params": {"lr": 0.00123456, "batch": 8}},
        {"trial": 1, "state": "chosen", "score": 0.8, "params": {"C": 0.1}},
    )  # fmt: skip
    outcomes = [
        outcome("first", "tabular", target, 1.0, trials, seed=1),
        outcome("second", "tabular", target, 0.2, seed=2),
        outcome("both", "fusion", target, 1.5, seed=3),
    ]
    return job, outcomes


def test_each_member_has_its_figure_the_difference_and_holm_s_p(made):
    job, outcomes = made
    rows = beside_members(job, outcomes, CONFIG)
    assert [row["alone"] for row in rows] == ["first (tabular)", "second (tabular)"]
    gap = paired_metric(outcomes[2].scores, outcomes[1].scores, "auroc")
    assert rows[1]["better by"] == (gap.value, gap.lo, gap.hi)
    assert rows[1]["test"] == "paired DeLong"
    # Holm: the smaller of two p-values doubles.
    assert float(rows[1]["p (Holm)"]) == pytest.approx(2 * gap.p_value, rel=0.01)
    assert beside_members(job, outcomes[:2], CONFIG) == ()
    decided = [paired_calls(outcomes[2].scores, one.scores, (0.5, 0.5)) for one in outcomes[:2]]
    counts = [row["only the fusion right"] for row in rows]
    assert counts == [str(one.first_only) for one in decided]
    smaller = min(decided, key=lambda one: one.p_value)
    told = float(rows[decided.index(smaller)]["p (Holm, McNemar)"])
    assert told == pytest.approx(2 * smaller.p_value, rel=0.01)


def test_the_report_shows_fusions_and_what_was_tried(made, tmp_path):
    job, outcomes = made
    facts = ReportFacts(
        "s", "S", "classification", "now",
        fusions=beside_members(job, outcomes, CONFIG), trials=trial_table(outcomes),
    )  # fmt: skip
    page = write_report(tmp_path / "r.html", facts).read_text()
    assert "Each fusion beside what it is made of" in page
    assert "second (tabular)" in page
    assert "2 trials, each inside one fold" in page
    assert "lr 0.00123, batch 8" in page
    assert "stopped" in page


def test_a_curve_of_scores_ends_with_the_one_that_counts_and_a_table_has_one_point():
    curve = score_curve({"values": [1, 3, 2], "score": 2})
    assert [row["search/score"] for row in curve] == [1, 3, 2]
    assert score_curve({"score": 0.8}) == [{"epoch": 1, "search/score": 0.8}]
    assert settings({"optimizer": "sgd", "lr": 0.5}) == "optimizer sgd, lr 0.5"
