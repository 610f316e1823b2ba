"""Decisions of two models are compared a patient, at the threshold each model brings."""

import numpy as np
import pytest
from scipy.stats import binomtest

from tasks.evaluate.paired_calls import PairedCalls, calls_columns, paired_calls
from tasks.evaluate.predictions import Predictions
from tests.evaluate.cases import draw, two


def test_decisions_are_made_at_each_model_s_own_threshold():
    truth = np.arange(40) % 2
    first = two(truth, np.where(truth, 0.3, 0.1))
    second = two(truth, np.where(truth, 0.9, 0.1) * (np.arange(40) >= 12))
    found = paired_calls(first, second, (0.2, 0.5))
    # The second misses the 6 positive ones of the first 12; at 0.3 itself is positive.
    assert (found.first_only, found.second_only, found.n_patients) == (6, 0, 40)
    assert found.p_value == pytest.approx(binomtest(0, 6).pvalue)
    assert found.difference == pytest.approx(6 / 40)
    assert paired_calls(first, second, (0.3, 0.5)) == found
    none_called = paired_calls(first, second, (0.31, 0.5))
    assert (none_called.first_only, none_called.second_only) == (0, 14)


def test_several_images_of_a_patient_are_one_decision():
    truth = np.array([1, 0, 0, 0, 0, 0])
    keys = ["a", "a", "a", "b", "b", "b"]
    # For a any image is right to call, and for b one false alarm is enough to be wrong.
    first = two(truth, [0.1, 0.1, 0.9, 0.1, 0.1, 0.1], keys)
    second = two(truth, [0.1, 0.1, 0.1, 0.9, 0.9, 0.1], keys)
    assert paired_calls(first, second, (0.5, 0.5)) == PairedCalls(2, 0, 2, 0.5)
    # Images in another order are the same images.
    turned = second.take(np.arange(6)[::-1])
    assert paired_calls(first, turned, (0.5, 0.5)) == PairedCalls(2, 0, 2, 0.5)


def test_without_an_operating_point_nothing_is_decided():
    pred = draw(50)
    assert paired_calls(pred, pred, (None, 0.5)) is None
    assert paired_calls(draw(50, 3), draw(50, 3), (0.5, 0.5)) is None
    assert calls_columns([None], "a", "b") == [{}]


def test_other_truths_are_refused():
    pred = draw(50)
    other = Predictions(
        pred.case_ids, pred.patient_keys, 1 - pred.target, pred.probability, pred.classes
    )
    with pytest.raises(ValueError, match="different labels"):
        paired_calls(pred, other, (0.5, 0.5))
