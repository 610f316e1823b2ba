"""Findings of a prediction as rows: where each lies in the patient and in the picture."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.learn.boxes import Findings, in_mm, world_of

FINDINGS_CSV = "findings.csv"

COLUMNS = (
    "case_id", "number", "class", "score", "shown",
    "centre_x_mm", "centre_y_mm", "centre_z_mm",
    "size_x_mm", "size_y_mm", "size_z_mm", "longest_mm", "area_mm2", "segment",
    "x0", "y0", "z0", "x1", "y1", "z1", "slice",
)  # fmt: skip
"""``shown`` is 1 from the model's threshold on. Sizes and corners are along the image's columns
(x), rows (y) and slices (z); corners in index coordinates, where voxel i reaches from i - 1/2 to
i + 1/2; the slice counts from 0. The centre is in LPS mm and empty where the image has no place in
the patient; where it does not say how large its pixels are, sizes are empty too. What is outlined
and shown has the outline's area, and the number of its segment in the case's DICOM segmentation.
A case that was looked at and has no finding is a line with its id
alone; one that was not looked at has none."""

IN_FULL = ("score", "x0", "y0", "z0", "x1", "y1", "z1")
"""What figures are made of is not rounded: handed back, a table gives the figures to the last
digit."""


def finding_rows(
    case_id: str,
    found: Findings,
    affine: np.ndarray,
    classes: Sequence[str],
    threshold: float | None,
    *,
    sized: bool = True,
    placed: bool = True,
) -> list[dict[str, Any]]:
    """Return a row of `COLUMNS` for each finding, the best first.

    Parameters
    ----------
    case_id : str
        Pseudonym.
    found : Findings
        On the grid of the source.
    affine : array (4, 4)
        Of that grid, index (z, y, x) to LPS mm.
    classes : sequence of str
    threshold : float, optional
        Score from which a finding is shown.
    sized : bool
        Whether the size of a pixel is known, without which nothing is told in mm.
    placed : bool
        Whether the grid lies in the patient, without which there is no centre in LPS mm.
    """
    found = found.take(np.argsort(-found.score, kind="stable"))
    centre, _ = world_of(found.box, affine)
    size = np.diff(in_mm(found.box, affine), axis=1)[:, 0]
    # A picture is as deep as its one slice, which is no size of a finding.
    flat = 1 if found.box[:, :, 0].size and np.allclose(np.abs(found.box[:, :, 0]), 0.5) else 0
    pixel = float(np.linalg.norm(np.cross(affine[:3, 1], affine[:3, 2])))
    rows, segments = [], 0
    for number, box in enumerate(found.box):
        low, high = box[:, ::-1]
        told = [case_id, number + 1, classes[found.label[number]], float(found.score[number])]
        told.append(int(threshold is None or found.score[number] >= threshold))
        told += centre[number].tolist() if sized and placed else [None] * 3
        told += [*size[number, ::-1], size[number, flat:].max()] if sized else [None] * 4
        outlined = np.count_nonzero(found.mask[number]) if _is_outlined(found, number) else 0
        segments += bool(outlined)
        told.append(outlined * pixel if outlined and sized else None)
        told.append(segments if outlined else None)
        told += [*low, *high]
        told.append(round(float(box[:, 0].mean())))
        rows.append({name: _plain(name, one) for name, one in zip(COLUMNS, told, strict=True)})
    return rows


def segments_of(found: Findings, rows: Sequence[Mapping[str, Any]]) -> np.ndarray | None:
    """Return the outlines of those with a segment, (z, y, x, s) bool, or None without any."""
    found = found.take(np.argsort(-found.score, kind="stable"))
    kept = [found.mask[row["number"] - 1] for row in rows if row["segment"]]
    return np.stack(kept, axis=-1) if kept else None


def write_findings(
    path: str | Path, cases: Iterable[tuple[str, Sequence[Mapping[str, Any]]]]
) -> Path:
    """Write what was found in each case that was looked at as a table.

    Parameters
    ----------
    path : path
    cases : iterable of (case_id, rows of `finding_rows`)
        Of a case without rows its id is written, so that it differs from one nobody looked at.
    """
    path = Path(path)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for case_id, rows in cases:
            writer.writerows(rows or [{"case_id": case_id}])
    return path


def measures_of(
    rows: Sequence[dict[str, Any]], classes: Sequence[str], *, sized: bool = True
) -> dict[str, float]:
    """Return a case's numbers for the page: of each class the findings shown, and of all of them
    the highest score (0 without any) and the longest side of those shown, in mm or, where their
    size is not known, in pixels.
    """
    shown = [row for row in rows if row["shown"]]
    found: dict[str, float] = {
        f"{name} findings": sum(r["class"] == name for r in shown) for name in classes
    }
    found["highest score"] = max((row["score"] for row in rows), default=0.0)
    length, unit = (_longest_mm, "mm") if sized else (longest_px, "px")
    found[f"longest {unit}"] = max(map(length, shown), default=0.0)
    return found


def longest_px(row: Mapping[str, Any]) -> float:
    """Return the longer side of a finding's box in its slice, in pixels."""
    return max(row["x1"] - row["x0"], row["y1"] - row["y0"])


def _longest_mm(row: Mapping[str, Any]) -> float:
    return row["longest_mm"]


def _is_outlined(found: Findings, number: int) -> bool:
    return found.mask is not None and found.mask[number] is not None


def _plain(name: str, value: Any) -> Any:
    if not isinstance(value, float | np.floating):
        return value
    return float(value) if name in IN_FULL else round(float(value), 4)
