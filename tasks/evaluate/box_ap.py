"""Average precision of found boxes, as COCO reads it, at several meanings of "found"."""

from dataclasses import dataclass

import numpy as np

from tasks.evaluate.detections import Detections

OVERLAPS = (0.1, 0.3, 0.5)
"""Least intersection over union: small lesions in volumes, oblique lines, and COCO's loosest."""

CENTRE = "centre"
"""A finding is right when its centre lies in the lesion's box; for lines no box describes well."""

RECALLS = np.linspace(0, 1, 101)
"""Recalls at which COCO reads the precision."""

ROUNDING = 1e-12
"""A recall this much short of the one asked for has reached it."""


@dataclass(frozen=True, eq=False)
class Calls:
    """Findings that count, from the most probable on."""

    scan: np.ndarray
    score: np.ndarray
    right: np.ndarray
    lesions: np.ndarray
    """(n,) lesions there are in each scan."""


def match_boxes(found: Detections, least: float | str) -> Calls:
    """Give each finding, the most probable first, the best lesion that is still free.

    Parameters
    ----------
    found : Detections
    least : float or ``centre``
        Least intersection over union, or `CENTRE`.

    Returns
    -------
    Calls
        Findings whose only match is an irrelevant lesion are not among them.
    """
    order = np.argsort(-found.probability, kind="stable")
    taken = np.zeros(len(found.lesion_scan), bool)
    right, kept = np.zeros(len(order), bool), np.ones(len(order), bool)
    for place, finding in enumerate(order):
        here = np.flatnonzero(found.lesion_scan == found.finding_scan[finding])
        worth = _worth(found.finding_box[finding], found.lesion_box[here], least)
        free = here[(worth > 0) & ~taken[here] & ~found.irrelevant[here]]
        if len(free):
            best = free[np.argmax(worth[np.isin(here, free)])]
            taken[best], right[place] = True, True
        elif ((worth > 0) & found.irrelevant[here]).any():
            kept[place] = False
    told = order[kept]
    return Calls(found.finding_scan[told], found.probability[told], right[kept], found.lesions)


def average_box_precision(calls: Calls, weight=None) -> np.ndarray:
    """Return the mean over 101 recalls of the best precision at no less; NaN without a lesion.

    Findings of one score are told together: COCO's script takes them in the order of its file,
    which would make a detector without scores as good as that order.

    Parameters
    ----------
    calls : Calls
    weight : array (n,) or (m, n), optional
        How often each scan counts; a row is one resampling.
    """
    weight = np.ones(len(calls.lesions)) if weight is None else np.asarray(weight, float)
    rows = np.atleast_2d(weight)
    each = rows[:, calls.scan]
    ends = np.flatnonzero(np.r_[np.diff(calls.score) != 0, True][: len(calls.score)])
    hits = np.cumsum(each * calls.right, -1)[:, ends]
    said = np.cumsum(each, -1)[:, ends]
    precision = np.divide(hits, said, out=np.zeros_like(hits), where=said > 0)
    best = np.maximum.accumulate(precision[:, ::-1], axis=-1)[:, ::-1]
    out = np.full(len(rows), np.nan)
    for number, there in enumerate(rows @ calls.lesions):
        if there > 0:
            first = np.searchsorted(hits[number] / there, RECALLS - ROUNDING)
            out[number] = np.r_[best[number], 0.0][first].mean()
    return out if weight.ndim > 1 else out[0]


def _worth(box: np.ndarray, lesions: np.ndarray, least: float | str) -> np.ndarray:
    """Return how well a box (2, d) fits lesions (l, 2, d); 0 where it is no match."""
    if least == CENTRE:
        middle = box.mean(0)
        inside = ((middle >= lesions[:, 0]) & (middle <= lesions[:, 1])).all(1)
        gap = np.linalg.norm(lesions.mean(1) - middle, axis=1)
        return inside / (1 + gap)
    overlap = intersection_over_union(box, lesions)
    return np.where(overlap >= least, overlap, 0.0)


def intersection_over_union(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the overlap of a box (2, d) with each of others (l, 2, d), array (l,)."""
    low, high = np.maximum(box[0], others[:, 0]), np.minimum(box[1], others[:, 1])
    shared = np.maximum(high - low, 0).prod(1)
    whole = (box[1] - box[0]).prod() + (others[:, 1] - others[:, 0]).prod(1) - shared
    return np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
