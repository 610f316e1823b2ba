"""Findings and true boxes in the patient, brought onto one case's own axes to be measured."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tasks.evaluate.case_findings import CaseFindings
from tasks.evaluate.finding_scores import FindingScores
from tasks.imaging.step import Image
from tasks.learn.boxes import Findings, box_on, boxes_on, rows_of, world_of


def case_findings(
    found: Sequence[Sequence[float]], truth: Sequence[Sequence[float]]
) -> CaseFindings:
    """Return a case's findings and true boxes in mm along the case's own axes.

    The axes are those of the findings, which all lie on one grid, so that their boxes stay exact; a
    true box at an angle to them is enclosed. Without a finding nothing is compared, and the axes
    are those of the first true box.

    Parameters
    ----------
    found : rows of `ROW` numbers
        Class, score, centre and edges in LPS mm.
    truth : rows of `ROW` numbers
        Class, centre and edges in LPS mm, irrelevant.
    """
    said, there = rows_of(found), rows_of(truth)
    edges = said[:1, 5:14] if len(said) else there[:1, 4:13]
    along = np.eye(4)
    if len(edges):
        sides = edges.reshape(3, 3)
        along[:3, :3] = (sides / np.linalg.norm(sides, axis=1, keepdims=True)).T
    return CaseFindings(
        label=said[:, 0].astype(np.int64),
        score=said[:, 1],
        box=box_on(said[:, 2:5], said[:, 5:14].reshape(-1, 3, 3), along),
        true_label=there[:, 0].astype(np.int64),
        true_box=boxes_on(there, along),
        irrelevant=there[:, 13] > 0,
        true_place=boxes_on(there, np.eye(4)),
    )


def finding_scores(
    case_ids: Sequence[str],
    patient_keys: Sequence[str],
    classes: Sequence[str],
    found: Sequence[Sequence[Sequence[float]]],
    truth: Mapping[str, Sequence[Sequence[float]]],
    overlap: float,
) -> FindingScores:
    """Put cases together.

    Parameters
    ----------
    case_ids, patient_keys, classes
    found : sequence of rows
        Of each case, see `case_findings`.
    truth : mapping of case id to rows
    overlap : float
    """
    cases = [
        case_findings(rows, truth[case_id]) for case_id, rows in zip(case_ids, found, strict=True)
    ]
    return FindingScores(
        tuple(case_ids), tuple(patient_keys), tuple(classes), tuple(cases), overlap
    )


def on_source(
    found: Findings,
    prepared: Image,
    affine: np.ndarray,
    shape: Sequence[int],
    back: Callable[[np.ndarray], np.ndarray] | None = None,
    least: float = 0.0,
) -> Findings:
    """Return findings of a prepared image on the grid of its source.

    Parameters
    ----------
    found : Findings
        In index coordinates of the prepared image.
    prepared : Image
    affine : array (4, 4)
        Of the source grid.
    shape : (z, y, x)
        Of the source grid: boxes are cut at its border, and what lies all outside is left out.
    back : callable (mask on the prepared grid) -> mask on the source grid, optional
        Without it masks stay behind.
    least : float
        Score from which a mask is brought back: a hundred masks of a large radiograph would take a
        gigabyte, and few of them are shown.

    Returns
    -------
    Findings
    """
    box = box_on(*world_of(found.box, prepared.affine), affine)
    box = np.clip(box, -0.5, np.asarray(shape) - 0.5)
    kept = (box[:, 1] > box[:, 0]).all(1)
    mask = None
    if found.mask is not None and back is not None:
        wanted = kept & (found.score >= least)
        mask = tuple(
            back(one) if is_wanted else None
            for one, is_wanted in zip(found.mask, wanted, strict=True)
        )
    return Findings(found.label, found.score, box, mask).take(kept)
