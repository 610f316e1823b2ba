"""FROC and CPM as LUNA16 defines them (Setio et al. 2017, and the challenge's own script)."""

from dataclasses import dataclass

import numpy as np

from tasks.evaluate.detections import Detections

FALSE_ALARMS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False alarms a scan at which sensitivity is read; CPM is the mean of the seven."""


@dataclass(frozen=True, eq=False)
class Marks:
    """Found lesions and false alarms, from the most probable on."""

    scan: np.ndarray
    """(e,) number of the scan."""
    score: np.ndarray
    """(e,) of a lesion, the highest of the findings that hit it."""
    hit: np.ndarray
    """(e,) whether it is a lesion."""
    lesions: np.ndarray
    """(n,) lesions there are in each scan, found or not."""


def match_marks(found: Detections) -> Marks:
    """Hold findings against lesions.

    A finding hits a lesion when its centre lies within the ellipsoid in the lesion's box, for a
    nodule nearer than its radius. Several hits are one found lesion of their highest probability;
    the others count nowhere. A finding on an irrelevant lesion alone counts nowhere. Every other
    finding is a false alarm. Findings that hit two lesions find both.
    """
    centre = found.finding_box.mean(1)
    middle = found.lesion_box.mean(1)
    half = np.diff(found.lesion_box, axis=1)[:, 0] / 2
    scan, score = [], []
    used = np.zeros(len(centre), bool)
    for lesion, place in enumerate(found.lesion_scan):
        here = np.flatnonzero(found.finding_scan == place)
        reach = np.where(half[lesion] > 0, half[lesion], np.nan)
        # Without a size nothing is near enough: comparing with NaN says no.
        near = (((centre[here] - middle[lesion]) / reach) ** 2).sum(1) < 1
        used[here[near]] = True
        if near.any() and not found.irrelevant[lesion]:
            scan.append(place)
            score.append(found.probability[here[near]].max())
    false = ~used
    hit = np.r_[np.ones(len(scan), bool), np.zeros(int(false.sum()), bool)]
    scan = np.r_[np.array(scan, np.int64), found.finding_scan[false]]
    score = np.r_[np.array(score, float), found.probability[false]]
    order = np.argsort(-score, kind="stable")
    return Marks(scan[order], score[order], hit[order], found.lesions)


def froc_curve(marks: Marks, weight=None) -> tuple[np.ndarray, np.ndarray]:
    """Return false alarms a scan and sensitivity, one point a distinct score, (0, 0) first.

    Parameters
    ----------
    marks : Marks
    weight : array (n,) or (m, n), optional
        How often each scan counts; a row is one resampling.

    Returns
    -------
    arrays (..., points); the sensitivity is NaN without a lesion
    """
    weight = np.ones(len(marks.lesions)) if weight is None else np.asarray(weight, float)
    each = weight[..., marks.scan]
    ends = np.flatnonzero(np.r_[np.diff(marks.score) != 0, True][: len(marks.score)])
    alarms = np.cumsum(each * ~marks.hit, -1)[..., ends] / weight.sum(-1)[..., None]
    there = (weight @ marks.lesions)[..., None]
    found = np.cumsum(each * marks.hit, -1)[..., ends]
    found = np.where(there > 0, found / np.where(there > 0, there, 1), np.nan)
    nothing = np.zeros((*weight.shape[:-1], 1))
    start = np.where(there > 0, nothing, np.nan)
    return np.concatenate([nothing, alarms], -1), np.concatenate([start, found], -1)


def sensitivities(marks: Marks, weight=None) -> np.ndarray:
    """Return the sensitivity at each of `FALSE_ALARMS`, array (..., 7), on lines between points."""
    alarms, found = froc_curve(marks, weight)
    rows = zip(np.atleast_2d(alarms), np.atleast_2d(found), strict=True)
    read = np.array([np.interp(FALSE_ALARMS, *row) for row in rows])
    return read if found.ndim > 1 else read[0]
