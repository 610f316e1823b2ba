"""Figures of a detection of several classes, paired comparison, the threshold, and the gate."""

import numpy as np
import pytest
from scipy.stats import chi2

from tasks.evaluate.case_findings import SAME_PLACE_MM, CaseFindings
from tasks.evaluate.compare import paired_metric
from tasks.evaluate.config import EvaluateConfig, FindingConfig
from tasks.evaluate.finding_scores import FindingScores, weighted_findings
from tasks.evaluate.intervals import wilson
from tasks.evaluate.predictions import align
from tasks.evaluate.show_findings import choose_shown
from tasks.evaluate.table import metric_table
from tasks.serve.gate import decide
from tasks.serve.verdict import GateConfig, Scored

BOX = np.array([[0.0, 0, 0], [10, 10, 10]])
AWAY = BOX + 100


def case(found=(), there=()) -> CaseFindings:
    """Make a case of findings (class, score, box) and lesions (class, box, irrelevant)."""
    return CaseFindings(
        np.array([one[0] for one in found], int),
        np.array([one[1] for one in found], float),
        np.array([one[2] for one in found], float).reshape(-1, 2, 3),
        np.array([one[0] for one in there], int),
        np.array([one[1] for one in there], float).reshape(-1, 2, 3),
        np.array([one[2] for one in there], bool),
    )


def scores_of(cases, classes=("mass",), patients=None, overlap=0.1) -> FindingScores:
    ids = [f"c{i}" for i in range(len(cases))]
    return FindingScores(ids, patients or ids, classes, cases, overlap)


def half_found(n: int, found: float, seed: int = 0) -> FindingScores:
    """Half the scans have a lesion, a share of them is found, every fourth has a false alarm."""
    rng = np.random.default_rng(seed)
    cases = []
    for i in range(n):
        there = [(0, BOX, False)] if i % 2 else []
        said = [(0, 0.5 + 0.5 * rng.random(), BOX + 1)] if i % 2 and rng.random() < found else []
        said += [(0, 0.6 * rng.random(), AWAY)] if i % 4 == 0 else []
        cases.append(case(said, there))
    return scores_of(cases)


def test_figures_counted_by_hand():
    scores = scores_of(
        [
            case([(0, 0.9, BOX), (0, 0.3, AWAY)], [(0, BOX, False)]),
            case([(0, 0.8, AWAY)], [(0, BOX, False)]),
            case(),
            case([(0, 0.95, BOX)], [(0, BOX, True)]),
        ]
    )
    table = metric_table(scores, 0.5, replicates=200)
    # Threshold 0.5: one of two lesions, one false alarm in four scans; the irrelevant counts not.
    assert table["lesion_recall"].value == 0.5
    assert table["lesion_precision"].value == 0.5
    assert table["false_alarms"].value == 0.25
    assert table["cpm"].value == 0.5
    # The best finding is right: precision 1 up to recall 1/2, nothing beyond.
    assert table["ap"].value == pytest.approx(51 / 101)
    assert table["ap"].value == table["ap/0.1"].value


def test_several_classes_are_averaged_over_those_that_occur():
    scores = scores_of(
        [case([(0, 0.9, BOX), (1, 0.9, AWAY)], [(0, BOX, False), (1, BOX, False)]), case()],
        ("mass", "break", "never"),
    )
    found = weighted_findings(scores)(np.ones(2))
    assert found["cpm/mass"] == 1
    assert found["cpm/break"] == 0
    assert np.isnan(found["cpm/never"])
    assert found["cpm"] == 0.5
    assert found["ap/mass"] == 1


def test_false_alarms_of_all_classes_are_seen_in_one_scan():
    scan = case([(0, 0.9, BOX), (0, 0.9, AWAY), (1, 0.9, AWAY)], [(0, BOX, False)])
    found = weighted_findings(scores_of([scan, case()], ("mass", "break")), 0.5)(np.ones(2))
    assert found["false_alarms"] == 1
    assert found["false_alarms/mass"] == found["false_alarms/break"] == 0.5
    # There is no break to be right about: of it, as of its recall, nothing is measured.
    assert found["lesion_precision"] == found["lesion_precision/mass"] == 0.5


def test_a_class_of_one_patient_is_not_sure_because_another_has_thirty():
    mass = ([(0, 0.9, BOX)], [(0, BOX, False)])
    both = ([*mass[0], (1, 0.9, AWAY)], [*mass[1], (1, AWAY, False)])
    table = metric_table(scores_of([case(*both), *[case(*mass)] * 29], ("mass", "break")), 0.5)
    for name in ("cpm", "ap", "lesion_recall", "lesion_precision"):
        lo = {one: table[f"{name}/{one}"].lo for one in ("mass", "break")}
        assert lo["break"] == pytest.approx(wilson(1, 1)[0])
        assert lo["mass"] == pytest.approx(wilson(30, 30)[0])
        assert table[name].lo == pytest.approx(sum(lo.values()) / 2)
    # Precision rests on the patients in whom something is shown.
    few = metric_table(scores_of([case(*mass), *[case((), mass[1])] * 29]), 0.5)
    assert few["lesion_precision"].lo == pytest.approx(wilson(1, 1)[0])


def test_no_false_alarm_in_few_scans_promises_none_not():
    table = metric_table(scores_of([case([(0, 0.9, BOX)], [(0, BOX, False)])] * 20), 0.5)
    assert table["false_alarms"].value == table["false_alarms"].lo == 0
    # The exact Poisson limit of no event (Garwood 1936): 3.69 over 20 scans.
    assert table["false_alarms"].hi == pytest.approx(chi2.ppf(0.975, 2) / 2 / 20)


def test_blocks_of_resamplings_change_nothing(monkeypatch):
    scores = half_found(40, 0.7)
    weight = np.random.default_rng(1).integers(0, 3, (50, 40)).astype(float)
    whole = weighted_findings(scores, 0.5)(weight)
    monkeypatch.setattr("tasks.evaluate.finding_scores.WEIGHTS_HELD", 1)
    for name, values in weighted_findings(scores, 0.5)(weight).items():
        np.testing.assert_array_equal(values, whole[name])
    one = weighted_findings(scores, 0.5)(weight[7])
    assert one["cpm"] == whole["cpm"][7]


def test_a_weight_counts_a_scan_so_often():
    scores = half_found(20, 0.6)
    weight = np.arange(20) % 3
    index = np.repeat(np.arange(20), weight)
    taken = scores.take(index[:0])
    assert len(taken) == 0
    again = FindingScores(
        [f"r{i}" for i in range(len(index))], [f"r{i}" for i in range(len(index))], ("mass",),
        [scores.cases[i] for i in index], 0.1,
    )  # fmt: skip
    weighted, repeated = (
        weighted_findings(scores, 0.5)(weight.astype(float)),
        weighted_findings(again, 0.5)(np.ones(len(again))),
    )
    for name in ("cpm", "lesion_recall", "false_alarms", "ap"):
        assert weighted[name] == pytest.approx(repeated[name])


def test_two_models_are_paired_on_the_same_resamplings():
    good, bad = half_found(120, 0.9), half_found(120, 0.3, seed=3)
    found = paired_metric(good, bad, "cpm", replicates=400)
    assert found.lo > 0
    assert found.n_patients == 120
    same = paired_metric(good, good, "ap", replicates=400)
    assert same.value == same.lo == same.hi == 0
    with pytest.raises(ValueError, match="not a figure of these findings"):
        paired_metric(good, bad, "dice")
    with pytest.raises(ValueError, match="other truths"):
        align(good, scores_of([case() for _ in range(120)]))


def test_a_moved_box_is_another_truth_and_another_order_is_not():
    two = [(0, BOX, False), (0, AWAY, True)]
    before = scores_of([case(there=two), case(there=[(0, BOX, False)]), case()])

    def after(*there):
        return scores_of([case(there=there), *before.cases[1:]])

    assert before.truth_differs(after(*two[::-1])) == 0
    assert before.truth_differs(after((0, BOX + SAME_PLACE_MM / 2, False), two[1])) == 0
    moved = BOX.copy()
    moved[1, 2] += 2 * SAME_PLACE_MM
    assert before.truth_differs(after((0, moved, False), two[1])) == 1
    assert before.truth_differs(after((0, BOX, True), two[1])) == 1
    assert before.truth_differs(after(two[0])) == 1
    with pytest.raises(ValueError, match="1 cases have other truths"):
        align(before, after((0, moved, False), two[1]))


def test_the_threshold_follows_its_rule_out_of_fold():
    scores = scores_of(
        [
            case([(0, 0.9, BOX), (0, 0.7, AWAY), (0, 0.6, AWAY + 50)], [(0, BOX, False)]),
            case([(0, 0.5, BOX), (0, 0.2, AWAY)], [(0, BOX, False)]),
        ]
    )
    volumes = FindingConfig().settled(picture=False)
    assert (volumes.rule, volumes.iou) == ("false_alarms", 0.1)
    assert choose_shown(scores, volumes, side="oof") == 0.5
    strict = FindingConfig(at_most=0.5).settled(picture=False)
    assert choose_shown(scores, strict, side="oof") == 0.9
    pictures = FindingConfig().settled(picture=True)
    assert (pictures.rule, pictures.iou) == ("f1", 0.3)
    # F1 is 2/3 at 0.9 and again at 0.5: the higher one stays.
    assert choose_shown(scores, pictures, side="oof") == 0.9
    assert choose_shown(scores_of([case()]), pictures, side="oof") == 1.0
    with pytest.raises(ValueError, match="out of fold"):
        choose_shown(scores, volumes, side="test")


def test_the_gate_compares_findings_and_refuses_what_finds_nothing():
    config = GateConfig(margin=0.1, bootstrap=400)
    good, poor = half_found(120, 0.9), half_found(120, 0.2, seed=5)
    first = decide(None, Scored(good, "1", 0.5), config, primary="cpm")
    assert first.verdict == "promote"
    worse = decide(Scored(good, "1", 0.5), Scored(poor, "1", 0.5), config, primary="ap")
    assert worse.verdict == "refuse"
    blind = scores_of([case((), [(0, BOX, False)] if i % 2 else ()) for i in range(30)])
    nothing = decide(None, Scored(blind, "1", 0.5), config, primary="cpm")
    assert nothing.verdict == "refuse"
    assert "finds nothing" in nothing.reason


def test_primaries_of_a_detection_are_accepted_and_no_others_of_its_figures():
    assert EvaluateConfig(primary="cpm").measures_boxes
    assert EvaluateConfig(primary="ap").measures_boxes
    assert not EvaluateConfig(primary="average_precision").measures_boxes
    for name in ("froc", "false_alarms", "ap/mass"):
        with pytest.raises(ValueError, match="is not a metric"):
            EvaluateConfig(primary=name)
    assert "findings" not in EvaluateConfig().model_dump()
