import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.evaluate import metrics as m
from tasks.evaluate.known import COUNTING, METRICS
from tests.evaluate.cases import draw, two

TOLERANCE = 1e-12
"""Only the order of the additions differs."""


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.71])
@pytest.mark.parametrize("positive", [None, "a"])
def test_two_classes_agree_with_scikit_learn(threshold, positive):
    pred = draw(301, gain=0.8, positive=positive)
    truth, score = pred.truth, pred.score
    call = (score >= threshold).astype(int)
    expected = {
        "accuracy": sk.accuracy_score(truth, call),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, call),
        "precision": sk.precision_score(truth, call),
        "recall": sk.recall_score(truth, call),
        "specificity": sk.recall_score(1 - truth, 1 - call),
        "f1": sk.f1_score(truth, call),
        "mcc": sk.matthews_corrcoef(truth, call),
        "kappa": sk.cohen_kappa_score(truth, call),
        "npv": sk.precision_score(1 - truth, 1 - call),
        "auroc": sk.roc_auc_score(truth, score),
        "average_precision": sk.average_precision_score(truth, score),
        "brier": sk.brier_score_loss(truth, score),
        "log_loss": sk.log_loss(truth, np.clip(score, 1e-15, 1 - 1e-15)),
        "threshold": threshold,
    }
    found = m.classification_metrics(pred, threshold)
    assert found.keys() - {"ece"} == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


def test_several_classes_agree_with_scikit_learn():
    pred = draw(240, 4, gain=0.7)
    truth, p, call = pred.target, pred.probability, pred.probability.argmax(1)
    found = m.classification_metrics(pred, per_class=True)
    expected = {
        "accuracy": sk.accuracy_score(truth, call),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, call),
        "precision": sk.precision_score(truth, call, average="macro"),
        "recall": sk.recall_score(truth, call, average="macro"),
        "f1": sk.f1_score(truth, call, average="macro"),
        "mcc": sk.matthews_corrcoef(truth, call),
        "kappa": sk.cohen_kappa_score(truth, call),
        "npv/c": sk.precision_score(truth != 2, call != 2),
        "auroc": sk.roc_auc_score(truth, p, multi_class="ovr", average="macro"),
        "average_precision": sk.average_precision_score(np.eye(4)[truth], p, average="macro"),
        "brier": sk.brier_score_loss(truth, p),
        "log_loss": sk.log_loss(truth, np.clip(p, 1e-15, 1)),
        "recall/c": sk.recall_score(truth == 2, call == 2),
        "precision/c": sk.precision_score(truth == 2, call == 2),
        "specificity/c": sk.recall_score(truth != 2, call != 2),
        "auroc/c": sk.roc_auc_score(truth == 2, p[:, 2]),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6), name
    assert "threshold" not in found


def test_numbers_worked_out_by_hand():
    # Calls at 0.5: 3 right positives, 1 missed, 1 false alarm, 5 right negatives.
    pred = two([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], [0.9, 0.8, 0.7, 0.2, 0.6, 0.1, 0.1, 0.3, 0.4, 0.2])
    found = m.classification_metrics(pred, 0.5)
    assert found["accuracy"] == pytest.approx(0.8)
    assert found["recall"] == pytest.approx(3 / 4)
    assert found["specificity"] == pytest.approx(5 / 6)
    assert found["precision"] == pytest.approx(3 / 4)
    assert found["f1"] == pytest.approx(3 / 4)
    # Three positives beat all 6 negatives; the one at 0.2 beats two and ties with one.
    assert found["auroc"] == pytest.approx((3 * 6 + 2 + 0.5) / 24)


def test_calibration_error_by_hand_in_two_bins():
    truth, score = [0, 0, 1, 1, 1, 0], [0.1, 0.2, 0.3, 0.7, 0.8, 0.9]
    # Bins of three: |1/3 - 0.2| and |2/3 - 0.8|.
    expected = (abs(1 / 3 - 0.2) + abs(2 / 3 - 0.8)) / 2
    assert m.expected_calibration_error(truth, score, bins=2) == pytest.approx(expected)


def test_tied_scores_share_a_bin_and_none_is_empty():
    bins = m.equal_mass_bins([0.5] * 40 + [0.9] * 3)
    assert set(bins[:40]) == {0}
    assert set(bins[40:]) == {1}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_weight_is_a_repetition(data):
    k = data.draw(st.sampled_from([2, 3]))
    pred = draw(24, k, seed=data.draw(st.integers(0, 50)))
    counts = data.draw(st.lists(st.integers(0, 3), min_size=24, max_size=24))
    if len({int(t) for t, c in zip(pred.target, counts, strict=True) if c}) < k:
        return
    rows = np.repeat(np.arange(24), counts)
    threshold = 0.4 if k == 2 else None
    repeated = two_or_more(pred, rows)
    expected = m.classification_metrics(repeated, threshold)
    # The ECE is left out: its bins are those of the unweighted scores.
    names = (*COUNTING, "auroc", "average_precision", "brier", "log_loss")
    weights = np.array([counts, np.ones(24)], float)
    found = m.weighted_metrics(pred, threshold, names)(weights)
    whole = m.classification_metrics(pred, threshold)
    for name in names:
        assert found[name][0] == pytest.approx(expected[name], abs=TOLERANCE), name
        assert found[name][1] == pytest.approx(whole[name], abs=TOLERANCE), name


def two_or_more(pred, rows):
    """Repeat cases under new ids."""
    return type(pred)(
        [f"r{i}" for i in range(len(rows))],
        [pred.patient_keys[i] for i in rows],
        pred.target[rows],
        pred.probability[rows],
        pred.classes,
    )


def test_what_is_undefined_is_not_a_number():
    found = m.classification_metrics(two([0, 0, 0], [0.1, 0.2, 0.3]), 0.5)
    assert np.isnan(found["recall"])
    assert np.isnan(found["auroc"])
    assert np.isnan(found["average_precision"])
    assert found["specificity"] == 1
    mixed = m.classification_metrics(two([1, 1, 1], [0.1, 0.8, 0.9]), 0.5)
    assert np.isnan(mixed["kappa"])
    assert np.isnan(mixed["mcc"])


def test_a_class_never_called_has_precision_zero():
    found = m.classification_metrics(two([0, 1, 1], [0.1, 0.2, 0.3]), 0.5)
    assert found["precision"] == 0
    assert found["f1"] == 0
    assert found["mcc"] == 0
    assert found["kappa"] == 0
    assert m.classification_metrics(two([0, 1, 1], [0.1, 0.2, 0.3]), 0.05)["npv"] == 0


def test_a_published_kappa():
    """Cohen's own table as Fleiss prints it: two raters, 50 cases, kappa 0.40."""
    assert m.counting_metrics(np.array([[20.0, 5.0], [10.0, 15.0]]))["kappa"] == pytest.approx(0.4)


def test_two_classes_need_a_threshold_and_more_refuse_one():
    with pytest.raises(ValueError, match="need a threshold"):
        m.classification_metrics(draw(10))
    with pytest.raises(ValueError, match="leave the threshold out"):
        m.classification_metrics(draw(10, 3), 0.5)


def test_every_metric_is_described():
    found = m.classification_metrics(draw(50), 0.5)
    assert found.keys() <= METRICS.keys()
    for info in METRICS.values():
        assert info.direction in ("higher", "lower", "none")
        assert info.text.endswith(".")
        assert info.range[0] < info.range[1]
    for name, value in found.items():
        lo, hi = METRICS[name].range
        assert lo <= value <= hi
