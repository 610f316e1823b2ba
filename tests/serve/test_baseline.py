"""A network beside what measured features reach, in words that follow from a paired test."""

import numpy as np
import pytest

from tasks.evaluate.compare import paired_metric
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.paired_calls import paired_calls
from tasks.evaluate.table import metric_table
from tasks.serve.baseline import baselines, beside_baseline, held_against
from tasks.serve.card import ReportFacts, write_report
from tasks.serve.gate import decide
from tasks.serve.outcome import CandidateOutcome
from tasks.serve.verdict import GateConfig, Scored
from tests.evaluate.cases import two

CONFIG = EvaluateConfig(bootstrap=200)
TRUTH = np.arange(200) % 2


def config_of(*named: str) -> EvaluateConfig:
    return EvaluateConfig(bootstrap=200, baseline=named)


def outcome(name: str, kind: str, noise: float) -> CandidateOutcome:
    rng = np.random.default_rng(len(name))
    scores = two(TRUTH, 1 / (1 + np.exp(-(2 * TRUTH - 1 + rng.normal(0, noise, 200)))))
    figures = metric_table(scores, 0.5, replicates=200)
    return CandidateOutcome(name, kind, scores, 0.5, {"method": "none"}, figures, ())


GOOD, POOR = outcome("cnn", "network", 0.6), outcome("cnn", "network", 3.0)
CLASSICAL = outcome("forest", "tabular", 3.5), outcome("svm-rbf", "tabular", 2.0)
HEADER = outcome("header-only", "header", 9.0)


def test_a_network_that_is_clearly_better_beats_the_best_of_the_classical_ones():
    found = beside_baseline((GOOD, *CLASSICAL, HEADER), "cnn", CONFIG)
    assert found.beaten
    assert "cnn beats the classical baseline svm-rbf: auroc" in found.sentence
    assert "paired DeLong" in found.sentence
    assert [row["classical"] for row in found.rows] == ["forest", "svm-rbf"]
    assert all(row["better by"][0] > 0 for row in found.rows)
    for row in found.rows:
        gained, lost = (
            int(row["only the chosen right"]),
            row["only the classical right"],
        )
        assert gained > int(lost)
        assert float(row["p (Holm, McNemar)"]) < 0.01


def by_hand(tests) -> dict[str, float]:
    """Of two p-values the smaller doubles; the larger stays, or is raised to that."""
    first, second = sorted(tests, key=lambda name: tests[name].p_value)
    doubled = min(1.0, 2 * tests[first].p_value)
    return {first: doubled, second: max(doubled, tests[second].p_value)}


def test_p_values_over_several_classical_ones_are_holms_and_said_to_be():
    found = beside_baseline((GOOD, *CLASSICAL), "cnn", CONFIG)
    gaps = {one.name: paired_metric(GOOD.scores, one.scores, "auroc") for one in CLASSICAL}
    calls = {one.name: paired_calls(GOOD.scores, one.scores, (0.5, 0.5)) for one in CLASSICAL}
    for row in found.rows:
        name = row["classical"]
        assert float(row["p"]) == pytest.approx(gaps[name].p_value, rel=0.01)
        assert float(row["p (Holm)"]) == pytest.approx(by_hand(gaps)[name], rel=0.01)
        assert float(row["p (Holm, McNemar)"]) == pytest.approx(by_hand(calls)[name], rel=0.01)
    plain, adjusted = gaps["svm-rbf"].p_value, by_hand(gaps)["svm-rbf"]
    said = f"p {plain:.2g} ({adjusted:.2g} by Holm over 2 baselines), 200 patients"
    assert said in found.sentence


def test_a_single_classical_one_has_nothing_to_be_corrected_for():
    found = beside_baseline((GOOD, *CLASSICAL), "cnn", config_of("forest", "forest"))
    (row,) = found.rows
    assert {"p", "p (McNemar)"} <= row.keys()
    assert not any("Holm" in key for key in row)
    assert "Holm" not in found.sentence


def test_the_report_shows_both_p_values(tmp_path):
    found = beside_baseline((GOOD, *CLASSICAL), "cnn", CONFIG)
    facts = ReportFacts(
        "s", "S", "classification", "now", baseline=found.sentence, baselines=found.rows
    )
    page = write_report(tmp_path / "r.html", facts).read_text()
    assert "<th>p</th><th>p (Holm)</th>" in page
    assert "by Holm over 2 baselines" in page


def test_one_that_is_not_better_does_not():
    found = beside_baseline((POOR, *CLASSICAL), "cnn", CONFIG)
    assert not found.beaten
    assert "is not shown to beat the classical baseline svm-rbf" in found.sentence


@pytest.mark.parametrize("asked", [True, False])
def test_a_classical_one_that_was_chosen_beats_nothing(asked):
    gate = GateConfig(beat_baseline=asked)
    found = beside_baseline((POOR, *CLASSICAL), "svm-rbf", CONFIG, gate)
    assert not found.beaten
    assert "svm-rbf was chosen itself" in found.sentence
    assert found.itself
    # The network is named, with what it lacks: a paired difference that does not lie above 0. It is
    # called refused only where the gate asks for that.
    lacks = "refused, because it is not" if asked else "not"
    assert f"cnn is {lacks} shown to beat it: auroc" in found.sentence
    assert ("refused" in found.sentence) is found.refused is asked
    ours, theirs = (one.figures["auroc"].value for one in (POOR, CLASSICAL[1]))
    assert f"{ours:.3f} against {theirs:.3f} out of fold, difference {ours - theirs:+.3f}" in (
        found.sentence
    )
    named = config_of("svm-rbf", "forest")
    alone = beside_baseline((*CLASSICAL, HEADER), "svm-rbf", named, gate)
    assert "refused" not in alone.sentence
    assert not alone.refused


def test_the_gate_refuses_what_beats_no_baseline_only_where_it_is_asked_to():
    passed = decide(None, Scored(POOR.scores, "1", 0.5), GateConfig(bootstrap=200))
    poor = beside_baseline((POOR, *CLASSICAL), "cnn", CONFIG)
    good = beside_baseline((GOOD, *CLASSICAL), "cnn", CONFIG)
    asked = GateConfig(beat_baseline=True)
    assert passed.action == "promote"
    assert held_against(passed, GateConfig(), poor) is passed
    assert held_against(passed, asked, good) is passed
    refused = held_against(passed, asked, poor)
    assert (refused.verdict, refused.action) == ("refuse", "refuse")
    assert refused.reason == f"Refused: {poor.sentence}"
    assert held_against(passed, asked, None).action == "refuse"
    # A classical one need not beat itself; what the gate else says stays.
    itself = beside_baseline((POOR, *CLASSICAL), "svm-rbf", CONFIG)
    assert held_against(passed, asked, itself) is passed


@pytest.mark.parametrize(
    ("outcomes", "named", "expected"),
    [
        ((GOOD, *CLASSICAL, HEADER), (), ["forest", "svm-rbf"]),
        (CLASSICAL, (), []),
        (CLASSICAL, ("forest",), ["forest"]),
        ((GOOD, HEADER), (), []),
    ],
)
def test_who_stands_for_the_classical_way(outcomes, named, expected):
    config = config_of(*named)
    assert baselines(outcomes, config) == expected
    if not expected:
        assert beside_baseline(outcomes, outcomes[0].name, config) is None
