"""What several views saw of one thing becomes one finding with a mean score."""

import numpy as np
import pytest

from tasks.learn.boxes import Findings
from tasks.learn.fuse_boxes import LEAST_WEIGHT, View, fuse

CUBE = np.array([[9.5, 9.5, 9.5], [19.5, 19.5, 19.5]])
SIZE = np.array([30, 30, 30])


def moved(by: float) -> np.ndarray:
    return CUBE + np.array([0, 0, by])


def view(*said: tuple[float, np.ndarray], start=(0, 0, 0), whole=True, label=0) -> View:
    found = Findings.none()
    if said:
        score, box = zip(*said, strict=True)
        found = Findings([label] * len(said), score, np.array(box))
    return View(np.array(start), SIZE, found, whole)


def test_one_view_stays_what_it_was():
    other = moved(10.5)
    fused = fuse([view((0.9, CUBE), (0.4, other))], 0.2, 10)
    assert fused.score.tolist() == [0.9, 0.4]
    assert fused.box.tolist() == [CUBE.tolist(), other.tolist()]


def test_a_box_is_the_mean_weighted_by_the_scores():
    fused = fuse([view((0.9, CUBE)), view((0.3, moved(4)))], 0.2, 10)
    assert len(fused) == 1
    assert fused.score[0] == pytest.approx(0.6)
    np.testing.assert_allclose(fused.box[0], moved(1))


def test_what_one_of_four_views_saw_keeps_a_quarter():
    fused = fuse([view((0.8, CUBE)), view(), view(), view()], 0.2, 10)
    assert fused.score[0] == pytest.approx(0.2)


def test_a_view_of_another_place_does_not_lower_a_score():
    away = view(start=(60, 0, 0))
    assert fuse([view((0.8, CUBE)), away], 0.2, 10).score[0] == pytest.approx(0.8)


def test_classes_are_not_mixed():
    fused = fuse([view((0.8, CUBE)), view((0.6, CUBE), label=1)], 0.2, 10)
    assert sorted(zip(fused.label.tolist(), fused.score.tolist(), strict=True)) == [
        (0, pytest.approx(0.4)), (1, pytest.approx(0.3))
    ]  # fmt: skip


def test_a_view_counts_once_and_scores_stay_probabilities():
    near = moved(0.5)
    fused = fuse([view((1.0, CUBE), (0.9, near)), view((1.0, CUBE))], 0.5, 10)
    assert fused.score.tolist() == [1.0]


def test_the_middle_of_a_tile_counts_more_than_its_edge():
    # Of two tiles, one holds the cube in its middle and one at its end.
    middle, end = view((0.9, CUBE), whole=False), view(start=(12, 0, 0), whole=False)
    assert middle.weight(CUBE.mean(0)) == pytest.approx(1, abs=0.01)
    assert end.weight(CUBE.mean(0)) == LEAST_WEIGHT
    assert end.weight(CUBE.mean(0) - np.array([10, 0, 0])) == 0
    assert fuse([middle, end], 0.2, 10).score[0] > 0.85


def test_no_more_findings_than_asked_for_and_none_of_none():
    boxes = [(0.1 + 0.05 * i, CUBE * 0.1 + np.array([0, 0, 2.0 * i])) for i in range(12)]
    fused = fuse([view(*boxes)], 0.2, 5)
    np.testing.assert_allclose(fused.score, [0.65, 0.6, 0.55, 0.5, 0.45])
    assert len(fuse([view(), view()], 0.2, 5)) == 0
