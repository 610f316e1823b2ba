import json

import numpy as np
import pytest

from tasks.evaluate.masks import MaskScores
from tasks.evaluate.predictions import Predictions, align
from tests.evaluate.cases import draw


def test_predictions_survive_a_table_as_json():
    pred = draw(30, 3, cases=2)
    back = Predictions.from_table(json.loads(json.dumps(pred.to_table())))
    assert back.case_ids == pred.case_ids
    assert back.patient_keys == pred.patient_keys
    assert back.classes == pred.classes
    np.testing.assert_array_equal(back.target, pred.target)
    np.testing.assert_array_equal(back.probability, pred.probability)


def test_the_positive_class_survives_a_table():
    pred = draw(10, positive="a")
    back = Predictions.from_table(pred.to_table())
    assert back.classes[back.positive_index] == "a"
    np.testing.assert_array_equal(back.score, pred.probability[:, 0])


def test_dice_survives_a_table_with_its_empty_marks():
    scores = MaskScores(["c0", "c1"], ["p0", "p1"], ["x", "y"], [[1, 0], [0.5, 0.75]],
                        [[1, 2], [0, 0]])  # fmt: skip
    back = MaskScores.from_table(scores.to_table())
    np.testing.assert_array_equal(back.dice, scores.dice)
    np.testing.assert_array_equal(back.empty, scores.empty)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"case_ids": ("c0", "c0")}, "stand twice"),
        ({"patient_keys": ("p0",)}, "2 case ids but 1"),
        ({"target": [0, 2]}, "outside 0..1"),
        ({"target": [0.0, 1.0]}, "whole numbers"),
        ({"probability": [[0.5, 0.5], [0.7, 0.7]]}, "1 cases have probabilities"),
        ({"probability": [[0.5, 0.5], [np.nan, 0.7]]}, "not a finite number"),
        ({"probability": [[2.0, -1.0], [0.3, 0.7]]}, "not logits"),
        ({"classes": ("a",)}, "at least two"),
        ({"positive": "z"}, "not one of"),
    ],
)
def test_impossible_predictions_are_refused(change, words):
    good = {
        "case_ids": ("c0", "c1"),
        "patient_keys": ("p0", "p1"),
        "target": [0, 1],
        "probability": [[0.5, 0.5], [0.3, 0.7]],
        "classes": ("a", "b"),
    }
    with pytest.raises(ValueError, match=words):
        Predictions(**(good | change))


def test_dice_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"outside 0\.\.1"):
        MaskScores(["c"], ["p"], ["x"], [[np.nan]])


def test_arrays_cannot_be_changed_afterwards():
    with pytest.raises(ValueError, match="read-only"):
        draw(10).probability[0, 0] = 1


def test_align_brings_both_into_one_order():
    pred = draw(20)
    first, second = align(pred, pred.take(np.arange(20)[::-1]))
    assert first.case_ids == second.case_ids
    np.testing.assert_array_equal(first.probability, second.probability)


def test_align_refuses_other_cases_and_changed_labels():
    pred = draw(20)
    with pytest.raises(ValueError, match="of which 15 are the same"):
        align(pred, pred.take(np.arange(15)))
    other = Predictions(
        pred.case_ids, pred.patient_keys, 1 - pred.target, pred.probability, pred.classes
    )
    with pytest.raises(ValueError, match="20 cases have different labels"):
        align(pred, other)
