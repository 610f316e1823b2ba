import numpy as np
import pytest

from tasks.evaluate.masks import MaskScores, patient_means
from tasks.evaluate.overlap import dice_per_class
from tasks.evaluate.table import metric_table


def test_dice_by_hand():
    truth = np.array([[[0, 1, 1, 1, 2, 2]]])
    prediction = np.array([[[1, 1, 1, 0, 2, 0]]])
    dice, empty = dice_per_class(truth, prediction, 2)
    np.testing.assert_allclose(dice, [2 * 2 / 6, 2 * 1 / 3])
    np.testing.assert_array_equal(empty, [0, 0])


def test_empty_masks_have_a_stated_answer():
    nothing, something = np.zeros((1, 2, 2), np.uint8), np.ones((1, 2, 2), np.uint8)
    assert dice_per_class(nothing, nothing, 1) == (pytest.approx([1.0]), pytest.approx([1]))
    assert dice_per_class(nothing, something, 1) == (pytest.approx([0.0]), pytest.approx([2]))
    assert dice_per_class(something, nothing, 1) == (pytest.approx([0.0]), pytest.approx([2]))


def scored(ids, keys, pairs) -> MaskScores:
    dice, empty = zip(*(dice_per_class(*pair, 1) for pair in pairs), strict=True)
    return MaskScores(ids, keys, ["organ"], np.array(dice), np.array(empty))


def test_empty_masks_are_counted():
    nothing, something = np.zeros((1, 2, 2), np.uint8), np.ones((1, 2, 2), np.uint8)
    pairs = [(nothing, nothing), (nothing, something), (something, something)]
    scores = scored(["a", "b", "c"], ["p", "p", "q"], pairs)
    assert scores.empty.ravel().tolist() == [1, 2, 0]
    # Both cases of p, none of q; a patient counts once.
    found = metric_table(scores)["empty_share"]
    assert found.value == pytest.approx(0.5)
    assert 0 <= found.lo < found.value < found.hi <= 1


def test_a_patient_counts_once_however_many_cases():
    mask = np.ones((1, 1, 4), np.uint8)
    wrong = np.zeros((1, 1, 4), np.uint8)
    pairs = [(mask, mask), (mask, wrong), (mask, wrong), (mask, wrong)]
    scores = scored(list("abcd"), ["p", "q", "q", "q"], pairs)
    patients, mean = patient_means(scores)
    assert patients == ("p", "q")
    np.testing.assert_array_equal(mean[:, 0], [1, 0])
    assert metric_table(scores)["dice"].value == 0.5
    assert metric_table(scores)["dice/organ"].value == 0.5


@pytest.mark.parametrize(
    ("truth", "prediction", "words"),
    [
        (np.zeros((1, 2, 2), int), np.zeros((1, 2, 3), int), "source grid"),
        (np.zeros((1, 2, 2)), np.zeros((1, 2, 2), int), "whole numbers"),
        (np.full((1, 2, 2), 3), np.zeros((1, 2, 2), int), "outside 0..1"),
    ],
)
def test_masks_that_cannot_be_compared_are_refused(truth, prediction, words):
    with pytest.raises(ValueError, match=words):
        dice_per_class(truth, prediction, 1)
