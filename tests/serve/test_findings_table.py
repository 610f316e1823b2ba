"""Findings as rows and as a picture: places in the patient and in the image."""

import csv

import numpy as np
from PIL import Image

from tasks.learn.boxes import Findings
from tasks.serve.findings_picture import FOUND, TRUE, findings_png
from tasks.serve.findings_table import COLUMNS, finding_rows, measures_of, write_findings

AFFINE = np.array(
    [[0.0, 0, -0.5, 10], [0, 0.5, 0, 20], [3, 0, 0, 30], [0, 0, 0, 1]]
)  # fmt: skip
"""Slices of 3 mm rising to the head, rows to the back, columns to the patient's right."""

BOX = np.array([[[1.5, 9.5, 19.5], [4.5, 19.5, 39.5]], [[-0.5, -0.5, -0.5], [0.5, 1.5, 1.5]]])


def test_a_finding_is_told_in_the_patient_and_in_the_image(tmp_path):
    found = Findings([1, 0], [0.4, 0.9], BOX)
    rows = finding_rows("c1", found, AFFINE, ("mass", "break"), 0.5)
    assert [row["class"] for row in rows] == ["mass", "break"]
    assert [row["shown"] for row in rows] == [1, 0]
    second = rows[1]
    # Middle of index (3, 14.5, 29.5): x = 10 - 29.5 / 2, y = 20 + 14.5 / 2, z = 30 + 3 * 3.
    assert [second[f"centre_{a}_mm"] for a in "xyz"] == [-4.75, 27.25, 39.0]
    assert [second[f"size_{a}_mm"] for a in "xyz"] == [10.0, 5.0, 9.0]
    assert second["longest_mm"] == 10.0
    assert [second[name] for name in COLUMNS[-7:]] == [19.5, 9.5, 1.5, 39.5, 19.5, 4.5, 3]
    measures = measures_of(rows, ("mass", "break"))
    assert measures == {
        "mass findings": 1.0, "break findings": 0.0, "highest score": 0.9, "longest mm": 3.0,
    }  # fmt: skip
    with write_findings(tmp_path / "findings.csv", rows).open(newline="") as stream:
        read = list(csv.DictReader(stream))
    assert [row["score"] for row in read] == ["0.9", "0.4"]


def test_a_picture_has_no_depth_and_a_case_may_have_nothing():
    flat = Findings([0], [0.9], np.array([[[-0.5, 2, 2], [0.5, 8, 6]]]))
    (row,) = finding_rows("c1", flat, np.diag([50.0, 1, 1, 1]), ("mass",), None)
    assert row["longest_mm"] == 6
    none = finding_rows("c1", Findings.none(), AFFINE, ("mass",), 0.5)
    assert none == []
    assert measures_of(none, ("mass",))["highest score"] == 0


def test_boxes_are_drawn_where_they_lie(tmp_path):
    image = np.zeros((6, 40, 80), np.float32)
    found = Findings([0], [0.9], np.array([[[1.5, 9.5, 19.5], [4.5, 29.5, 59.5]]]))
    truth = found.box + np.array([0.0, 2, 4])
    path = findings_png(tmp_path / "a.png", image, np.diag([3.0, 1, 1, 1]), found, truth)
    drawn = np.asarray(Image.open(path))
    scale = drawn.shape[1] / 80
    orange = np.argwhere((drawn == FOUND).all(2))
    blue = np.argwhere((drawn == TRUE).all(2))
    assert orange[:, 1].max() == np.clip(60 * scale, 0, drawn.shape[1]).round()
    assert abs(blue[:, 0].max() - 32 * scale) <= 2
    # Nothing of a box that does not cross the slice.
    away = findings_png(
        tmp_path / "b.png", image, np.eye(4), found, np.zeros((1, 2, 3)) - 0.5
    )  # fmt: skip
    assert not (np.asarray(Image.open(away)) == FOUND).all(2).any()
