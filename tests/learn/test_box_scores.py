"""Findings in the patient are measured on a case's own axes, and come back to the source grid."""

import numpy as np
import pytest

from tasks.evaluate.finding_scores import weighted_findings
from tasks.imaging.step import Image
from tasks.learn.box_scores import case_findings, finding_scores, on_source
from tasks.learn.boxes import Findings, boxes_of_instances, rows_of_findings

TURNED = np.array(
    [[0.0, 0.6, 0.8, 5], [0, 0.8, -0.6, -9], [-2.5, 0, 0, 40], [0, 0, 0, 1]]
)  # fmt: skip
"""An oblique grid: slices of 2.5 mm, and axes turned in the plane."""


def truth_rows(box: np.ndarray, affine: np.ndarray, irrelevant: float = 0.0) -> np.ndarray:
    found = Findings(np.zeros(len(box)), np.ones(len(box)), box)
    rows = rows_of_findings(found, affine)
    return np.column_stack([rows[:, :1], rows[:, 2:], np.full(len(box), irrelevant)])


def test_boxes_of_an_oblique_grid_keep_their_overlap_in_mm():
    true = np.array([[[2.0, 10, 10], [4, 20, 20]]])
    said = Findings([0], [0.9], true + np.array([0.0, 5, 0]))
    case = case_findings(rows_of_findings(said, TURNED), truth_rows(true, TURNED))
    np.testing.assert_allclose(np.diff(case.true_box, axis=1)[0, 0], [5, 10, 10])
    np.testing.assert_allclose(case.box - case.true_box, [[[0, 5, 0], [0, 5, 0]]], atol=1e-9)
    # A third of the union is shared: found at .3 and not at .5.
    figures = weighted_findings(
        finding_scores(
            ["a"], ["p"], ["mass"], [rows_of_findings(said, TURNED)],
            {"a": truth_rows(true, TURNED)}, 0.3,
        )
    )(np.ones(1))  # fmt: skip
    assert figures["ap"] == 1
    assert figures["ap/0.5"] == 0


def test_cases_without_a_finding_or_a_box_are_measured_too():
    true = np.array([[[2.0, 10, 10], [4, 20, 20]]])
    scores = finding_scores(
        ["a", "b"], ["p", "q"], ["mass"], [(), ()], {"a": truth_rows(true, TURNED), "b": ()}, 0.1
    )
    assert weighted_findings(scores, 0.5)(np.ones(2))["lesion_recall"] == 0


def test_the_truth_is_the_same_whatever_was_found_and_another_when_its_box_moved():
    true = np.array([[[2.0, 10, 10], [4, 20, 20]], [[1.0, 2, 3], [2, 5, 6]]])
    straight = np.diag([2.5, 1, 1, 1])[[2, 1, 0, 3]]

    def truth(boxes):
        # Told along the patient's axes, as a table of boxes does: findings lie on a turned grid.
        return truth_rows(boxes, straight)

    said = rows_of_findings(Findings([0], [0.9], true[:1]), TURNED)
    one, nothing = case_findings(said, truth(true)), case_findings((), truth(true))
    assert np.abs(one.true_box - nothing.true_box).max() > 1
    assert one.same_truth(nothing)
    moved = true.copy()
    moved[1, :, 2] += 0.5
    assert not one.same_truth(case_findings((), truth(moved)))
    assert not one.same_truth(case_findings(said, truth(moved)))


@pytest.mark.parametrize("flip", [False, True])
def test_findings_come_back_to_the_grid_of_the_source(flip):
    mask = np.zeros((12, 40, 30), int)
    mask[3:6, 10:20, 5:9] = 1
    _, box = boxes_of_instances(mask)
    # The recipe took every second row and column, cut a margin off and turned an axis round.
    step = np.diag([1.0, -2 if flip else 2, 2, 1])
    step[:3, 3] = [1, 36 if flip else 4, 2]
    prepared = Image(np.zeros((10, 17, 14), np.float32), TURNED @ step)
    there = Findings([0, 0], [0.9, 0.5], np.concatenate([box, box + 1000]))
    said = there.take([0, 1])
    inverse = np.linalg.inv(step)
    index = np.stack([inverse[:3, :3] @ c + inverse[:3, 3] for c in said.box.reshape(-1, 3)])
    corners = np.sort(index.reshape(2, 2, 3), axis=1)
    back = on_source(Findings(said.label, said.score, corners), prepared, TURNED, mask.shape)
    # The second lay outside the source and is gone.
    assert len(back) == 1
    np.testing.assert_allclose(back.box, box)
