import numpy as np
import pytest
from monai.apps.detection.metrics.coco import COCOMetric
from monai.apps.detection.metrics.matching import matching_batch

from tasks.evaluate.box_ap import (
    CENTRE,
    OVERLAPS,
    average_box_precision,
    intersection_over_union,
    match_boxes,
)
from tasks.evaluate.detections import Detections
from tasks.evaluate.table import metric_table


def made(scans, seed, dims=3):
    """Boxes in scans, found ones shifted and of another size, and false alarms."""
    rng = np.random.default_rng(seed)

    def box(low, size):
        return np.stack([low, low + size])

    lesions, findings = [], []
    for scan in range(scans):
        for _ in range(rng.integers(0, 4)):
            low, size = rng.uniform(0, 50, dims), rng.uniform(4, 12, dims)
            lesions.append((scan, box(low, size)))
            for _ in range(rng.integers(0, 3)):
                shift, scale = rng.normal(0, 1.5, dims), rng.uniform(0.7, 1.4, dims)
                findings.append((scan, box(low + shift, size * scale), rng.random()))
        for _ in range(rng.integers(0, 3)):
            findings.append((scan, box(rng.uniform(0, 50, dims), 6.0), rng.random() * 0.8))
    return Detections(
        [f"s{i}" for i in range(scans)],
        [f"p{i}" for i in range(scans)],
        [f[0] for f in findings],
        [f[1] for f in findings],
        [f[2] for f in findings],
        [x[0] for x in lesions],
        [x[1] for x in lesions],
    )


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_coco_metric_of_monai(dims, seed):
    found = made(30, seed, dims)
    metric = COCOMetric(["it"], iou_list=OVERLAPS, iou_range=(0.1, 0.5, 0.2), max_detection=(100,),
                        verbose=False)  # fmt: skip

    def overlap(first, second):
        pairs = [intersection_over_union(box.reshape(2, dims), second.reshape(-1, 2, dims))
                 for box in first]  # fmt: skip
        return np.array(pairs).reshape(len(first), len(second))

    def of_scan(values, owners):
        flat = values.reshape(len(values), -1)
        return [flat[owners == i] for i in range(len(found))]

    findings = of_scan(found.finding_box, found.finding_scan)
    lesions = of_scan(found.lesion_box, found.lesion_scan)
    scores = [p.ravel() for p in of_scan(found.probability, found.finding_scan)]
    results = matching_batch(
        overlap, metric.iou_thresholds, findings, [np.zeros(len(f), int) for f in findings],
        scores, lesions, [np.zeros(len(x), int) for x in lesions],
    )  # fmt: skip
    theirs, _ = metric(results)
    for least in OVERLAPS:
        (key,) = [name for name in theirs if name.startswith(f"AP_IoU_{least:.2f}")]
        ours = average_box_precision(match_boxes(found, least))
        assert ours == pytest.approx(float(theirs[key]), abs=1e-6), least


def test_overlap_by_hand():
    box = np.array([[0.0, 0, 0], [2, 2, 2]])
    others = np.array([[[1.0, 0, 0], [3, 2, 2]], [[2.0, 0, 0], [4, 2, 2]], box])
    np.testing.assert_allclose(intersection_over_union(box, others), [4 / 12, 0, 1])


def drawn(findings, probability, irrelevant=None):
    lesions = [[[0.0, 0], [10, 10]], [[20.0, 0], [30, 10]]]
    return Detections(
        ["s"], ["p"], [0] * len(findings), findings, probability, [0, 0], lesions, irrelevant
    )


def test_the_second_box_on_a_lesion_is_a_false_alarm():
    exact, shifted, other = [[0.0, 0], [10, 10]], [[1.0, 0], [11, 10]], [[20.0, 0], [30, 10]]
    calls = match_boxes(drawn([exact, shifted, other], [0.9, 0.8, 0.7]), 0.5)
    assert calls.right.tolist() == [True, False, True]
    # Precision 1 up to a recall of 1/2 (51 of 101 points), then 2/3.
    assert average_box_precision(calls) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_box_on_an_irrelevant_lesion_counts_nowhere():
    exact, other = [[0.0, 0], [10, 10]], [[20.0, 0], [30, 10]]
    calls = match_boxes(drawn([exact, other], [0.9, 0.8], [True, False]), 0.5)
    assert calls.right.tolist() == [True]
    assert average_box_precision(calls) == 1


def test_a_small_box_in_the_middle_is_right_by_its_centre_alone():
    found = drawn([[[4.0, 4], [6, 6]], [[24.0, 4], [26, 6]]], [0.9, 0.8])
    assert average_box_precision(match_boxes(found, CENTRE)) == 1
    assert average_box_precision(match_boxes(found, 0.1)) == 0


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 3, 0, 1], [3, 0, 2, 1]])
def test_findings_of_one_score_are_told_together_whatever_their_order(order):
    there, away = np.array([[0.0, 0], [5, 5]]), np.array([[50.0, 50], [55, 55]])
    boxes = [[there, there, away, away][i] for i in order]
    ids = ["a", "b", "c", "d"]
    found = Detections(ids, ids, order, boxes, [0.7] * 4, [0, 1], [there, there])
    # Two of four findings are right, and no threshold shows fewer.
    assert average_box_precision(match_boxes(found, 0.5)) == 0.5


def test_the_table_has_every_overlap_with_limits_over_patients():
    table = metric_table(made(60, 7), replicates=300)
    for name in ("cpm", *(f"ap/{way}" for way in (*OVERLAPS, CENTRE))):
        assert 0 <= table[name].lo < table[name].value < table[name].hi <= 1, name
    assert table["ap/0.1"].value >= table["ap/0.5"].value


def test_a_weight_is_a_repetition_of_a_scan():
    found = made(12, 5)
    calls, counts = match_boxes(found, 0.3), np.arange(12) % 3
    copies = np.repeat(np.arange(12), counts)

    def again(owners, *values):
        rows = [np.flatnonzero(owners == old) for old in copies]
        place = np.concatenate(rows)
        return np.repeat(np.arange(len(copies)), [len(r) for r in rows]), *(
            v[place] for v in values
        )

    repeated = Detections(
        [f"s{i}" for i in range(len(copies))], [f"p{i}" for i in range(len(copies))],
        *again(found.finding_scan, found.finding_box, found.probability),
        *again(found.lesion_scan, found.lesion_box),
    )  # fmt: skip
    expected = average_box_precision(match_boxes(repeated, 0.3))
    # Repeated scores tie; those of one scan all stand together, so only their order could differ.
    assert average_box_precision(calls, counts.astype(float)) == pytest.approx(expected, abs=0.02)
