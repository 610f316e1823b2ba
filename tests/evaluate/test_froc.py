"""FROC against the challenge's procedure written out plainly, against a drawing, and its laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from tasks.evaluate.detections import Detections, of_points
from tasks.evaluate.froc import FALSE_ALARMS, froc_curve, match_marks, sensitivities
from tasks.evaluate.table import metric_table


def made(scans, seed=0, *, excluded=True):
    """Scans with nodules, candidates on and beside them, and scans without either."""
    rng = np.random.default_rng(seed)
    nodules, candidates = [], []
    for scan in range(scans):
        for _ in range(rng.integers(0, 4)):
            centre, diameter = rng.uniform(0, 60, 3), rng.choice([-1.0, 4.0, 9.0, 20.0])
            nodules.append((scan, centre, diameter, excluded and rng.random() < 0.3))
            for _ in range(rng.integers(0, 3)):
                candidates.append((scan, centre + rng.normal(0, 3, 3), rng.integers(1, 20) / 20))
        for _ in range(rng.integers(0, 4) if scan % 5 else 0):
            candidates.append((scan, rng.uniform(0, 60, 3), rng.integers(1, 15) / 20))
    return nodules, candidates


def detections(scans, nodules, candidates, keys=None) -> Detections:
    return of_points(
        [f"s{i}" for i in range(scans)],
        keys or [f"p{i}" for i in range(scans)],
        np.array([c[0] for c in candidates], int),
        np.array([c[1] for c in candidates]).reshape(-1, 3),
        np.array([c[2] for c in candidates], float),
        np.array([n[0] for n in nodules], int),
        np.array([n[1] for n in nodules]).reshape(-1, 3),
        np.array([n[2] for n in nodules], float),
        np.array([n[3] for n in nodules], bool),
    )


def challenge(scans, nodules, candidates):
    """The procedure of LUNA16's evaluation: lists of truths and scores, then a ROC, rescaled."""
    truths, scores, dropped = [], [], []
    for scan in scans:
        here = [c for c in candidates if c[0] == scan]
        left = set(range(len(here)))
        for _, centre, diameter, excluded in (n for n in nodules if n[0] == scan):
            radius = (10.0 if diameter < 0 else diameter) / 2
            hits = [
                i for i, (_, at, _) in enumerate(here) if np.sum((centre - at) ** 2) < radius**2
            ]
            left -= set(hits)
            if excluded:
                continue
            truths.append(1)
            scores.append(max((here[i][2] for i in hits), default=-1e9))
            dropped.append(not hits)
        for i in left:
            truths.append(0)
            scores.append(here[i][2])
            dropped.append(False)
    truths, scores, kept = np.array(truths), np.array(scores), ~np.array(dropped, bool)
    fpr, tpr, _ = roc_curve(truths[kept], scores[kept])
    found, alarms = truths[kept].sum(), (1 - truths[kept]).sum()
    return fpr * alarms / len(scans), tpr * found / truths.sum()


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_the_challenges_procedure(seed):
    nodules, candidates = made(25, seed)
    found = sensitivities(match_marks(detections(25, nodules, candidates)))
    alarms, sensitivity = challenge(range(25), nodules, candidates)
    np.testing.assert_allclose(found, np.interp(FALSE_ALARMS, alarms, sensitivity), atol=1e-12)


def test_a_drawing_by_hand():
    """Four scans, three nodules to find, one irrelevant; scan 3 has nothing at all."""
    nodules = [
        (0, np.array([10.0, 10, 10]), 8.0, False),
        (1, np.array([30.0, 30, 30]), -1.0, False),
        (1, np.array([50.0, 50, 50]), 6.0, True),
        (2, np.array([20.0, 20, 20]), 4.0, False),
    ]
    candidates = [
        (0, np.array([10.0, 10, 13]), 0.9),  # within 4 mm: found
        (0, np.array([11.0, 10, 10]), 0.5),  # the same once more: counts nowhere
        (0, np.array([10.0, 10, 14]), 0.8),  # just at the radius: a false alarm
        (1, np.array([30.0, 34, 30]), 0.6),  # unmeasured, 10 mm stands for it: found
        (1, np.array([50.0, 50, 51]), 0.95),  # irrelevant: counts nowhere
        (2, np.array([20.0, 20, 23]), 0.7),  # beyond 2 mm: a false alarm, and the nodule is missed
    ]
    marks = match_marks(detections(4, nodules, candidates))
    assert marks.score.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert marks.hit.tolist() == [True, False, False, True]
    alarms, found = froc_curve(marks)
    np.testing.assert_allclose(alarms, [0, 0, 0.25, 0.5, 0.5])
    np.testing.assert_allclose(found, [0, 1 / 3, 1 / 3, 1 / 3, 2 / 3])
    expected = [1 / 3, 1 / 3, *[2 / 3] * 5]
    np.testing.assert_allclose(sensitivities(marks), expected)
    table = metric_table(detections(4, nodules, candidates))
    assert table["cpm"].value == pytest.approx(np.mean(expected))
    assert table["froc/0.25"].value == pytest.approx(1 / 3)
    assert table["froc/8"].value == pytest.approx(2 / 3)
    assert "ap/0.5" not in table


def test_the_low_end_is_a_line_from_the_origin():
    """A false alarm before anything is found: below it nobody knows better than the line."""
    nodules = [(0, np.zeros(3), 10.0, False)]
    candidates = [(0, np.full(3, 50.0), 0.9), (0, np.zeros(3), 0.9)]
    read = sensitivities(match_marks(detections(2, nodules, candidates)))
    np.testing.assert_allclose(read, [0.25, 0.5, 1, 1, 1, 1, 1])


def test_a_finding_between_two_nodules_finds_both():
    nodules = [(0, np.zeros(3), 10.0, False), (0, np.array([6.0, 0, 0]), 10.0, False)]
    marks = match_marks(detections(1, nodules, [(0, np.array([3.0, 0, 0]), 0.4)]))
    assert marks.hit.tolist() == [True, True]


def test_a_box_that_is_no_cube_is_reached_within_its_ellipsoid():
    lesion = np.array([[[0.0, 0, 0], [4, 8, 20]]])
    for centre, right in (([2, 4, 19], True), ([2, 4, 21], False), ([3.9, 7.9, 10], False)):
        found = np.array([[centre, centre]], float)
        marks = match_marks(Detections(["s"], ["p"], [0], found, [0.5], [0], lesion))
        assert marks.hit.tolist() == [right]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 3), min_size=10, max_size=10))
def test_a_weight_is_a_repetition_of_a_scan(seed, counts):
    nodules, candidates = made(10, seed)
    if not any(counts[n[0]] and not n[3] for n in nodules):
        return
    marks = match_marks(detections(10, nodules, candidates))
    copies = np.repeat(np.arange(10), counts)
    again = ([], [])
    for new, old in enumerate(copies):
        for kept, rows in zip(again, (nodules, candidates), strict=True):
            kept += [(new, *row[1:]) for row in rows if row[0] == old]
    repeated = match_marks(detections(len(copies), *again))
    weighted = sensitivities(marks, np.array([counts, np.ones(10)], float))
    np.testing.assert_allclose(weighted[0], sensitivities(repeated), atol=1e-12)
    np.testing.assert_allclose(weighted[1], sensitivities(marks), atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_laws(seed):
    nodules, candidates = made(12, seed)
    if all(n[3] for n in nodules):
        return
    found = detections(12, nodules, candidates)
    alarms, sensitivity = froc_curve(match_marks(found))
    assert (np.diff(alarms) >= 0).all()
    assert (np.diff(sensitivity) >= 0).all()
    assert 0 <= sensitivity[-1] <= 1
    # Any rising change of the probabilities leaves every figure.
    changed = [(scan, at, p**3 / 2) for scan, at, p in candidates]
    read = sensitivities(match_marks(found))
    other = sensitivities(match_marks(detections(12, nodules, changed)))
    np.testing.assert_allclose(other, read)
    # A false alarm more never helps.
    worse = [*candidates, (0, np.full(3, 1000.0), 0.97)]
    assert (sensitivities(match_marks(detections(12, nodules, worse))) <= read + 1e-12).all()
    # Everything said of irrelevant nodules alone changes nothing.
    beside = [*nodules, (3, np.full(3, 500.0), 20.0, True)]
    more = [*candidates, (3, np.full(3, 501.0), 1.0)]
    np.testing.assert_allclose(sensitivities(match_marks(detections(12, beside, more))), read)


def test_limits_are_those_of_redrawn_scans():
    scans = 80
    nodules, candidates = made(scans, 11)
    table = metric_table(detections(scans, nodules, candidates), replicates=400, seed=2)
    rng, drawn = np.random.default_rng(9), []
    for _ in range(400):
        picked = rng.integers(0, scans, scans)
        again = ([], [])
        for new, old in enumerate(picked):
            for kept, rows in zip(again, (nodules, candidates), strict=True):
                kept += [(new, *row[1:]) for row in rows if row[0] == old]
        alarms, sensitivity = challenge(range(scans), *again)
        drawn.append(np.interp(FALSE_ALARMS, alarms, sensitivity).mean())
    lo, hi = np.quantile(drawn, [0.025, 0.975])
    # 400 draws of their own know a limit to about a tenth of the width.
    width = hi - lo
    assert table["cpm"].lo == pytest.approx(lo, abs=0.15 * width)
    assert table["cpm"].hi == pytest.approx(hi, abs=0.15 * width)
    assert table["cpm"].n_patients == scans


def test_a_patients_scans_are_drawn_together():
    nodules, candidates = made(60, 12)
    apart = metric_table(detections(60, nodules, candidates), replicates=300)
    keys = [f"p{i // 6}" for i in range(60)]
    together = metric_table(detections(60, nodules, candidates, keys), replicates=300)
    assert together["cpm"].value == apart["cpm"].value
    assert together["cpm"].n_patients == 10


def test_without_a_lesion_there_is_no_sensitivity():
    table = metric_table(detections(3, [], [(0, np.zeros(3), 0.5)]))
    assert np.isnan(table["cpm"].value)
    assert np.isnan(table["cpm"].lo)


def test_nothing_said_finds_nothing():
    table = metric_table(detections(3, [(0, np.zeros(3), 5.0, False)], []))
    assert table["cpm"].value == 0
    assert table["cpm"].hi > 0.5


def test_all_found_without_a_false_alarm_is_not_certain():
    nodules = [(scan, np.zeros(3), 5.0, False) for scan in range(20)]
    candidates = [(scan, np.zeros(3), 0.9) for scan in range(20)]
    # Forty scans without a lesion tell nothing of how often one is found.
    table = metric_table(detections(60, nodules, candidates), replicates=200)
    assert table["cpm"].value == 1
    assert table["cpm"].lo == pytest.approx(20 / (20 + 1.959964**2), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"finding_scan": [1]}, "scan outside 0..0"),
        ({"probability": [0.1, 0.2]}, "give one each"),
        ({"probability": [np.nan]}, "not a finite number"),
        ({"lesion_box": [[[0.0, 0], [1, 1]]] * 2}, "need boxes of shape"),
        ({"lesion_box": [[[2.0, 0], [1, 1]]]}, "ends before it begins"),
        ({"irrelevant": [True, False]}, "irrelevant"),
        ({"patient_keys": ["p", "q"]}, "1 case ids but 2"),
    ],
)
def test_impossible_detections_are_refused(change, words):
    good = {
        "scan_ids": ["s"], "patient_keys": ["p"], "finding_scan": [0],
        "finding_box": [[[0.0, 0], [1, 1]]], "probability": [0.5], "lesion_scan": [0],
        "lesion_box": [[[0.0, 0], [1, 1]]],
    }  # fmt: skip
    with pytest.raises(ValueError, match=words):
        Detections(**(good | change))
