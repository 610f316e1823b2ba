import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix

from tasks.evaluate.decision import (
    THRESHOLDS,
    decision_curve,
    decision_sentence,
    draw_decision_curve,
    net_benefit,
)
from tests.evaluate.cases import draw, two


def test_net_benefit_agrees_with_a_confusion_matrix_threshold_by_threshold():
    pred = draw(200, gain=0.8)
    for at, found in zip(THRESHOLDS, net_benefit(pred.truth, pred.score, THRESHOLDS), strict=True):
        _, fp, _, tp = confusion_matrix(pred.truth, pred.score >= at, labels=[0, 1]).ravel()
        n = len(pred)
        assert found == pytest.approx(tp / n - fp / n * at / (1 - at), abs=1e-12)


def test_weights_stand_for_repeated_cases():
    pred = draw(60, gain=0.8)
    times = np.random.default_rng(0).integers(0, 4, 60)
    repeated = np.repeat(np.arange(60), times)
    at = [0.1, 0.4, 0.8]
    np.testing.assert_allclose(
        net_benefit(pred.truth, pred.score, at, times),
        net_benefit(pred.truth[repeated], pred.score[repeated], at),
    )


def test_a_perfect_model_gains_the_prevalence_and_calling_everybody_crosses_zero_there():
    truth = np.array([0] * 30 + [1] * 10)
    curve = decision_curve(two(truth, truth.astype(float)), replicates=200)
    np.testing.assert_allclose(curve.model, 0.25)
    assert curve.treat_all[curve.threshold < 0.25].min() > 0
    assert curve.treat_all[curve.threshold > 0.25].max() < 0
    assert curve.treat_all[curve.threshold == 0.25] == pytest.approx(0)


def test_a_coin_is_nowhere_shown_to_be_of_use_and_a_good_model_is():
    rng = np.random.default_rng(3)
    truth = (rng.uniform(size=400) < 0.3).astype(int)
    coin = decision_curve(two(truth, rng.uniform(0.2, 0.4, 400)), replicates=500)
    assert not coin.useful
    assert "Nowhere" in decision_sentence(coin)
    good = decision_curve(two(truth, np.where(truth, 0.8, 0.1)), replicates=500)
    ((low, high),) = good.useful
    assert low <= 0.15
    assert high >= 0.7
    assert f"{low:.2f} to {high:.2f}" in decision_sentence(good)


def test_the_limits_are_those_of_patients_not_of_cases():
    """Ten copies of each case, all of one patient, tell no more than the case alone."""
    pred = draw(60, gain=0.8)
    copies = np.tile(np.arange(60), 10)
    keys = [pred.patient_keys[i] for i in copies]
    many = type(pred)(
        tuple(f"c{i}" for i in range(600)), tuple(keys), pred.target[copies],
        pred.probability[copies], pred.classes, pred.positive,
    )  # fmt: skip
    few, more = (decision_curve(p, [0.3], replicates=400, seed=1) for p in (pred, many))
    assert (few.lo, few.hi) == (pytest.approx(more.lo), pytest.approx(more.hi))


def test_a_threshold_of_zero_or_one_has_no_price():
    for wrong in (0.0, 1.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            net_benefit([0, 1], [0.2, 0.8], [wrong])


def test_the_picture_is_written_the_same_each_time(tmp_path):
    pred = draw(80, gain=0.8)
    curve = decision_curve(pred, replicates=200)
    first, second = (
        draw_decision_curve(tmp_path / f"{name}.png", pred, curve, threshold=0.4) for name in "ab"
    )
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as image:
        assert np.asarray(image.convert("L")).std() > 5


def test_a_row_of_the_table_holds_all_three_ways_to_call():
    rows = decision_curve(draw(50, gain=0.8), [0.2, 0.5], replicates=200).to_rows()
    assert [row["threshold"] for row in rows] == [0.2, 0.5]
    for row in rows:
        assert row["treat_none"] == 0
        assert row["model_lo"] <= row["model"] <= row["model_hi"]
        assert row["gain"] == pytest.approx(row["model"] - max(row["treat_all"], 0))
