import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from benchmarks.simulate_gate import SETTINGS, draw_clustered, limit, simulate
from tasks.errors import EditionMismatch
from tasks.evaluate.masks import MaskScores
from tasks.serve.gate import GateConfig, Scored, decide
from tasks.serve.verdict import Guard, SubgroupRule
from tests.evaluate.cases import two

PAIRS = 200
"""Pairs a setting here; the benchmark runs 1,000."""

POWER_TOLERANCE = 0.12
"""Three standard errors of a share of 200 pairs, and the power's own approximation."""


def scores(n=300, gain=2.0, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 2
    shared = np.random.default_rng(99).normal(size=n)
    return two(truth, 1 / (1 + np.exp(-(shared + noise * rng.normal(size=n) + gain * truth))))


def test_a_better_challenger_is_promoted():
    verdict = decide(Scored(scores(gain=1), "1"), Scored(scores(gain=2, seed=1), "1"), GateConfig())
    assert (verdict.verdict, verdict.action) == ("promote", "promote")
    assert verdict.estimate > 0
    assert verdict.lo > 0
    assert verdict.reason.startswith("Promoted: the challenger is better")


def test_an_equal_challenger_is_promoted_where_the_margin_allows_it():
    config = GateConfig(margin=0.05)
    verdict = decide(Scored(scores(), "1"), Scored(scores(seed=1), "1"), config)
    assert verdict.verdict == "promote"
    assert verdict.lo > -0.05
    assert "worse by 0.05 or more is ruled out" in verdict.reason


def test_a_worse_challenger_is_refused():
    verdict = decide(Scored(scores(gain=2), "1"), Scored(scores(gain=1, seed=1), "1"), GateConfig())
    assert (verdict.verdict, verdict.action) == ("refuse", "refuse")
    assert verdict.hi < -0.02
    assert verdict.needed_patients is None


@pytest.mark.parametrize("policy", ["refuse", "promote", "ask"])
def test_too_few_patients_are_undecidable_and_the_policy_speaks(policy):
    config = GateConfig(undecidable=policy)
    champion, challenger = scores(n=40), scores(n=40, seed=1)
    verdict = decide(Scored(champion, "1"), Scored(challenger, "1"), config)
    assert (verdict.verdict, verdict.action) == ("undecidable", policy)
    assert verdict.needed_patients > 40
    assert str(verdict.needed_patients) in verdict.reason
    assert 0 <= verdict.power < 0.8


def test_fewer_patients_than_the_least_decide_nothing():
    dice = np.full((6, 1), 0.5)
    ids = [f"c{i}" for i in range(6)]
    champion = MaskScores(ids, ids, ("x",), dice)
    # Nearly alike in all, and yet not the very same, which nobody could plan with.
    better = np.linspace(0.399, 0.401, 6)[:, None]
    challenger = MaskScores(ids, ids, ("x",), dice + better)
    verdict = decide(Scored(champion, "1"), Scored(challenger, "1"), GateConfig())
    assert verdict.verdict == "undecidable"
    assert verdict.needed_patients == 10


def test_editions_cases_and_labels_must_agree():
    pred = scores()
    with pytest.raises(EditionMismatch, match="test edition 1 and the challenger on 2"):
        decide(Scored(pred, "1"), Scored(pred, "2"), GateConfig())
    with pytest.raises(EditionMismatch, match="of which 100 are the same"):
        decide(Scored(pred, "1"), Scored(pred.take(np.arange(100)), "1"), GateConfig())
    other = two(1 - pred.target, pred.score)
    with pytest.raises(EditionMismatch, match="different labels"):
        decide(Scored(pred, "1"), Scored(other, "1"), GateConfig())


def test_the_order_of_cases_does_not_matter():
    champion, challenger = scores(), scores(seed=1)
    turned = challenger.take(np.arange(300)[::-1])
    a = decide(Scored(champion, "1"), Scored(challenger, "1"), GateConfig())
    b = decide(Scored(champion, "1"), Scored(turned, "1"), GateConfig())
    assert (a.estimate, a.lo, a.verdict) == pytest.approx((b.estimate, b.lo, b.verdict))


def test_a_first_model_must_clear_the_floor():
    skilled = decide(None, Scored(scores(), "1"), GateConfig())
    assert skilled.verdict == "promote"
    assert skilled.against == "floor 0.5"
    guessing = decide(None, Scored(scores(gain=0), "1"), GateConfig())
    assert guessing.verdict != "promote"
    strict = decide(None, Scored(scores(), "1"), GateConfig(floor=0.99))
    assert strict.verdict == "refuse"
    assert "floor 0.99" in strict.reason


def test_floors_of_other_metrics():
    pred = scores()
    found = decide(None, Scored(pred, "1", 0.6), GateConfig(primary="accuracy"))
    assert found.against == "floor 0.5"
    with pytest.raises(ValueError, match=r"set gate\.floor"):
        decide(None, Scored(pred, "1", 0.6), GateConfig(primary="brier"))
    brier = decide(None, Scored(pred, "1", 0.6), GateConfig(primary="brier", floor=0.25))
    assert brier.verdict == "promote"
    dice = MaskScores([f"c{i}" for i in range(12)], [f"p{i}" for i in range(12)], ("x",),
                      np.linspace(0.5, 0.9, 12)[:, None])  # fmt: skip
    assert decide(None, Scored(dice, "1"), GateConfig()).verdict == "promote"


def test_the_scenarios_primary_metric_is_used_unless_the_gate_names_one():
    a, b = Scored(scores(), "1", 0.6), Scored(scores(seed=1), "1", 0.6)
    assert decide(a, b, GateConfig(), primary="average_precision").metric == "average_precision"
    config = GateConfig(primary="recall", bootstrap=300)
    assert decide(a, b, config, primary="average_precision").metric == "recall"


def test_a_guard_stops_a_challenger_that_lost_its_calibration():
    champion, challenger = scores(), scores(gain=2.6, seed=1)
    sharp = challenger.score**40
    spoiled = two(challenger.target, sharp)
    config = GateConfig(margin=0.05, guards=(Guard(metric="brier", margin=0.02),), bootstrap=300)
    verdict = decide(Scored(champion, "1"), Scored(spoiled, "1"), config)
    assert verdict.verdict == "refuse"
    assert verdict.checks[0].failed
    assert "brier is clearly worse" in verdict.reason
    kept = decide(Scored(champion, "1"), Scored(challenger, "1"), config)
    assert not kept.checks[0].failed


def test_a_subgroup_that_is_harmed_stops_the_challenger():
    champion, challenger = scores(n=400, gain=1.5), scores(n=400, gain=3, seed=1)
    site = np.where(np.arange(400) < 60, "north", "south")
    harmed = challenger.score.copy()
    harmed[site == "north"] = 1 - harmed[site == "north"]
    spoiled = two(challenger.target, harmed)
    # Allowed overall to be worse: only the subgroup can stop it.
    config = GateConfig(margin=0.2, subgroups=(SubgroupRule(fact="site", margin_factor=1),))
    verdict = decide(Scored(champion, "1"), Scored(spoiled, "1"), config, facts={"site": site})
    assert verdict.verdict == "refuse"
    assert "site north" in verdict.reason
    assert [check.name for check in verdict.checks] == [
        "auroc for site north",
        "auroc for site south",
    ]
    fine = decide(Scored(champion, "1"), Scored(challenger, "1"), config, facts={"site": site})
    assert fine.verdict == "promote"
    with pytest.raises(ValueError, match="only \\[\\] are known"):
        decide(Scored(champion, "1"), Scored(challenger, "1"), config)


def test_verdicts_are_json_and_deterministic():
    a, b = Scored(scores(), "1", 0.6), Scored(scores(seed=1), "1", 0.6)
    config = GateConfig(primary="f1", bootstrap=300)
    first, second = (json.dumps(decide(a, b, config).to_dict()) for _ in range(2))
    assert first == second
    assert json.loads(json.dumps(decide(None, b, config.model_copy(update={"floor": 0.5}))
                                 .to_dict(), allow_nan=False))["power"] is None  # fmt: skip


@pytest.mark.parametrize("wrong", [{"margin": 0}, {"undecidable": "maybe"}, {"margni": 0.1}])
def test_impossible_gates_are_refused(wrong):
    with pytest.raises(ValidationError):
        GateConfig(**wrong)


def row_of(setting):
    """Mark what takes seconds as slow; the quick rows cover AUROC, AUROC near 1, and Dice."""
    heavy = setting.patients >= 300 or setting.draw is draw_clustered
    name = f"{setting.name} {setting.level} n={setting.patients}"
    return pytest.param(setting, marks=[pytest.mark.slow] if heavy else [], id=name)


@pytest.mark.parametrize("setting", [row_of(setting) for setting in SETTINGS])
def test_the_gate_keeps_its_promise(setting):
    row = simulate(setting, PAIRS, seed=1)
    assert row.worse_promoted <= limit(PAIRS)
    assert row.equal_promoted == pytest.approx(row.printed_power, abs=POWER_TOLERANCE)


def test_the_simulation_would_notice_a_gate_that_is_too_kind(monkeypatch):
    """Without the error under the hypothesis near-perfect models pass too often."""
    monkeypatch.setattr("tasks.evaluate.noninferior.null_variance", lambda *_: 0.0)
    near_one = next(s for s in SETTINGS if s.name == "auroc near 1")
    assert simulate(near_one, PAIRS, seed=1).worse_promoted > limit(PAIRS)


@pytest.mark.parametrize("config", [GateConfig, Guard, SubgroupRule])
def test_every_setting_is_documented(config):
    page = Path(__file__).resolve().parents[2] / "docs" / "evaluation.md"
    text = page.read_text()
    assert [name for name in config.model_fields if f"`{name}`" not in text] == []
