"""Findings as rows: places in the patient and in the image."""

import csv

import numpy as np

from tasks.learn.boxes import Findings
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
    path = write_findings(tmp_path / "findings.csv", [("c1", rows), ("c2", [])])
    with path.open(newline="") as stream:
        read = list(csv.DictReader(stream))
    # The second case was looked at, and there is nothing.
    assert [row["case_id"] for row in read] == ["c1", "c1", "c2"]
    assert [row["score"] for row in read] == ["0.9", "0.4", ""]
    assert not any(value for name, value in read[2].items() if name != "case_id")


def test_what_figures_are_made_of_is_not_rounded():
    box = np.array([[[0.1234567891, 1, 2], [4, 5, 6.0000001]]])
    (row,) = finding_rows("c1", Findings([0], [1 / 3], box), AFFINE, ("mass",), None)
    assert (row["score"], row["z0"], row["x1"]) == (1 / 3, 0.1234567891, 6.0000001)
    assert row["centre_x_mm"] == 8.0


def test_what_has_no_size_or_no_place_is_not_told_in_mm():
    flat = Findings([0], [0.9], np.array([[[-0.5, 2, 2], [0.5, 8, 6]]]))
    affine = np.diag([1.0, 0.5, 0.5, 1])
    (row,) = finding_rows("c1", flat, affine, ("mass",), None, placed=False)
    assert [row[f"centre_{axis}_mm"] for axis in "xyz"] == [None] * 3
    assert (row["size_y_mm"], row["longest_mm"]) == (3.0, 3.0)
    (row,) = finding_rows("c1", flat, affine, ("mass",), None, placed=False, sized=False)
    assert not [name for name, value in row.items() if name.endswith("_mm") and value is not None]
    measures = measures_of([row], ("mass",), sized=False)
    assert measures["longest px"] == 6
    assert "longest mm" not in measures


def test_a_picture_has_no_depth_and_a_case_may_have_nothing():
    flat = Findings([0], [0.9], np.array([[[-0.5, 2, 2], [0.5, 8, 6]]]))
    (row,) = finding_rows("c1", flat, np.diag([50.0, 1, 1, 1]), ("mass",), None)
    assert row["longest_mm"] == 6
    none = finding_rows("c1", Findings.none(), AFFINE, ("mass",), 0.5)
    assert none == []
    assert measures_of(none, ("mass",))["highest score"] == 0
