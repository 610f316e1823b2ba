"""The report's table of challenger and champion: how both rank, and what both decide."""

import numpy as np
import pytest

from tasks.evaluate.compare import mcnemar, paired_auroc
from tasks.evaluate.config import EvaluateConfig
from tasks.serve.against_champion import HEADING, against_champion
from tasks.serve.card import ReportFacts, write_report
from tasks.serve.verdict import Scored
from tests.evaluate.cases import draw, two

CONFIG = EvaluateConfig(bootstrap=200)


def test_both_tests_stand_in_one_table_with_holm_s_p(tmp_path):
    rng = np.random.default_rng(4)
    truth = np.arange(160) % 2
    ours, theirs = (
        1 / (1 + np.exp(-(gain * (truth - 0.5) + rng.normal(size=160)))) for gain in (3, 1.5)
    )
    challenger = Scored(two(truth, ours), "1", 0.4)
    table = against_champion(challenger, Scored(two(truth, theirs), "1", 0.6), CONFIG)
    ranked, decided = table[HEADING]
    gap = paired_auroc(truth, ours, theirs)
    gained, lost, p = mcnemar(truth, ours >= 0.4, theirs >= 0.6)
    assert gained != lost
    assert (ranked["test"], ranked["p"]) == ("paired DeLong", f"{gap.p_value:.3g}")
    assert decided["p"] == f"{p:.3g}"
    assert decided["test"] == f"exact McNemar: {gained} right alone, the champion {lost}"
    assert decided["better by"] == pytest.approx((gained - lost) / 160)
    low, high = sorted([(gap.p_value, ranked), (p, decided)], key=lambda one: one[0])
    assert float(low[1]["p (Holm)"]) == pytest.approx(2 * low[0], rel=0.01)
    assert float(high[1]["p (Holm)"]) == pytest.approx(max(2 * low[0], high[0]), rel=0.01)
    facts = ReportFacts("s", "S", "classification", "now", sections=table)
    page = write_report(tmp_path / "r.html", facts).read_text()
    assert HEADING in page
    assert decided["test"] in page


def test_there_is_no_table_without_a_champion_or_without_decisions():
    scored = Scored(draw(40, 3), "1")
    assert against_champion(scored, scored, CONFIG) == {}
    assert against_champion(Scored(draw(40), "1", 0.5), None, CONFIG) == {}
