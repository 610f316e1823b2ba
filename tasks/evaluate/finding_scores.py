"""Findings of every class in every case, held against the boxes there are: figures of a detection.

Figures over several classes are means over those that have a lesion; false alarms are their sum.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from tasks.evaluate.box_ap import (
    CENTRE,
    OVERLAPS,
    Calls,
    average_box_precision,
    match_boxes,
)
from tasks.evaluate.case_findings import CaseFindings
from tasks.evaluate.detections import Detections
from tasks.evaluate.froc import FALSE_ALARMS, Marks, match_marks, sensitivities
from tasks.evaluate.known import OF_FINDINGS_CALLED
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.predictions import ScoredCases, check_classes

WEIGHTS_HELD = 4_000_000
"""Weights of findings held at once (32 MB): resamplings go through the figures in blocks."""

Statistic = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True, eq=False)
class FindingScores(ScoredCases):
    """Findings and true boxes of cases, also of cases without either.

    Parameters
    ----------
    case_ids, patient_keys : sequences of str, length n
    classes : tuple of str, length k >= 1
        What is to be found; there is no background.
    cases : tuple of CaseFindings, length n
    overlap : float
        Intersection over union from which a box counts as found, of `ap`.
    outlines : MaskScores, optional
        Of the same cases, where what is found is outlined and the labels hold outlines: all that is
        shown of a class against all there is of it, as masks are measured.
    """

    classes: tuple[str, ...]
    cases: tuple[CaseFindings, ...]
    overlap: float
    outlines: MaskScores | None = None

    _by_case = (*ScoredCases._by_case, "cases")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "cases", tuple(self.cases))
        check_classes(self.classes)
        if len(self.cases) != len(self.case_ids):
            raise ValueError(f"{len(self.case_ids)} case ids but findings of {len(self.cases)}")
        if not 0 < self.overlap <= 1:
            raise ValueError(f"overlap is {self.overlap:g}; it must lie above 0 and be at most 1")
        if self.outlines is not None and self.outlines.case_ids != self.case_ids:
            raise ValueError("the outlines are not of the same cases in the same order")
        for one in self.cases:
            numbers = np.r_[one.label, one.true_label]
            if len(numbers) and not (numbers.min() >= 0 and numbers.max() < len(self.classes)):
                raise ValueError(f"a box has a class outside 0..{len(self.classes) - 1}")

    def take(self, index: Sequence[int] | np.ndarray) -> Self:
        """Return the chosen cases, with their outlines."""
        kept = None if self.outlines is None else self.outlines.take(index)
        alone = replace(self, outlines=None)
        return replace(ScoredCases.take(alone, index), outlines=kept)

    def truth_differs(self, other: "FindingScores") -> int:
        """Return in how many of the same cases other boxes are true: of class, place or worth."""
        pairs = zip(self.cases, other.cases, strict=True)
        return sum(not one.same_truth(two) for one, two in pairs)

    def of_class(self, number: int) -> Detections:
        """Return findings and lesions of one class."""
        said = [one.label == number for one in self.cases]
        there = [one.true_label == number for one in self.cases]

        def rows(name: str, chosen: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
            kept = [getattr(o, name)[c] for o, c in zip(self.cases, chosen, strict=True)]
            return np.concatenate([np.zeros((0, *shape)), *kept])

        def scans(chosen: Sequence[np.ndarray]) -> np.ndarray:
            return np.repeat(np.arange(len(self)), [int(one.sum()) for one in chosen])

        return Detections(
            self.case_ids,
            self.patient_keys,
            scans(said),
            rows("box", said, (2, 3)),
            rows("score", said, ()),
            scans(there),
            rows("true_box", there, (2, 3)),
            rows("irrelevant", there, ()).astype(bool),
        )

    def to_table(self) -> list[dict[str, Any]]:
        """Return one row a case: case_id, patient_key, and of each class the lesions there are,
        the findings, and the highest score.
        """
        found = []
        for key, patient, one in zip(self.case_ids, self.patient_keys, self.cases, strict=True):
            row: dict[str, Any] = {"case_id": key, "patient_key": patient}
            for number, name in enumerate(self.classes):
                score = one.score[one.label == number]
                there = (one.true_label == number) & ~one.irrelevant
                row[f"lesions/{name}"] = int(there.sum())
                row[f"findings/{name}"] = len(score)
                row[f"highest/{name}"] = float(score.max()) if len(score) else 0.0
            found.append(row)
        if self.outlines is None:
            return found
        return [row | more for row, more in zip(found, self.outlines.to_table(), strict=True)]


@dataclass(frozen=True, eq=False)
class _Matched:
    """One class, matched once for every resampling."""

    marks: Marks
    calls: Mapping[str, Calls]
    lesions: np.ndarray
    hits: np.ndarray
    alarms: np.ndarray


def weighted_findings(
    scores: FindingScores, threshold: float | None = None, names: Sequence[str] | None = None
) -> Statistic:
    """Return the function that gives every figure for weights of the cases.

    Parameters
    ----------
    scores : FindingScores
    threshold : float, optional
        Score from which a finding is shown; without it there are no figures of calls.
    names : sequence of str, optional
        Only these figures.

    Returns
    -------
    callable (weight (n,) or (m, n)) -> mapping name -> (...,)
        A figure of a class without a lesion is NaN.
    """
    matched = [_matched(scores, j, threshold, names) for j in range(len(scores.classes))]
    widest = max([1, *(len(one.marks.scan) for one in matched)])

    def statistic(weight: np.ndarray) -> dict[str, np.ndarray]:
        rows = np.atleast_2d(np.asarray(weight, float))
        step = max(1, WEIGHTS_HELD // widest)
        parts = [
            _figures(scores, matched, threshold, rows[at : at + step])
            for at in range(0, len(rows), step)
        ]
        kept = [name for name in parts[0] if names is None or name in names]
        whole = {name: np.concatenate([part[name] for part in parts]) for name in kept}
        return whole if np.ndim(weight) > 1 else {name: one[0] for name, one in whole.items()}

    return statistic


def wrong_a_case(scores: FindingScores, threshold: float) -> np.ndarray:
    """Return of each case (n,) how many lesions are missed and findings made up from a score on."""
    wrong = np.zeros(len(scores))
    for marks in marks_of(scores):
        shown = marks.score >= threshold
        found = np.bincount(marks.scan[shown & marks.hit], minlength=len(scores))
        alarms = np.bincount(marks.scan[shown & ~marks.hit], minlength=len(scores))
        wrong += marks.lesions - found + alarms
    return wrong


def marks_of(scores: FindingScores) -> list[Marks]:
    """Return the marks of each class, by which FROC and the figures of calls count."""
    return [match_marks(scores.of_class(j)) for j in range(len(scores.classes))]


def _matched(
    scores: FindingScores, number: int, threshold: float | None, names: Sequence[str] | None
) -> _Matched:
    found = scores.of_class(number)
    marks = match_marks(found)
    ways = {"ap": scores.overlap} | {f"ap/{way}": way for way in (*OVERLAPS, CENTRE)}
    label = f"/{scores.classes[number]}"
    wanted = names is None or {name.removesuffix(label) for name in names}
    calls = {
        name: match_boxes(found, way)
        for name, way in ways.items()
        if wanted is True or name in wanted
    }
    shown = marks.score >= (np.inf if threshold is None else threshold)
    n = len(scores)
    hits = np.bincount(marks.scan[shown & marks.hit], minlength=n)
    alarms = np.bincount(marks.scan[shown & ~marks.hit], minlength=n)
    return _Matched(marks, calls, marks.lesions, hits, alarms)


def _figures(
    scores: FindingScores, matched: Sequence[_Matched], threshold: float | None, weight: np.ndarray
) -> dict[str, np.ndarray]:
    each = [_of_one(one, threshold, weight) for one in matched]
    found = {name: _mean([row[name] for row in each]) for name in each[0]}
    if threshold is not None:
        # Whoever reads a scan sees the false alarms of all classes, as the threshold counts them.
        found["false_alarms"] = np.sum([row["false_alarms"] for row in each], axis=0)
    if len(each) > 1:
        for name in ("cpm", "ap", *OF_FINDINGS_CALLED):
            for label, row in zip(scores.classes, each, strict=True):
                if name in row:
                    found[f"{name}/{label}"] = row[name]
    return found


def _of_one(one: _Matched, threshold: float | None, weight: np.ndarray) -> dict[str, np.ndarray]:
    read = sensitivities(one.marks, weight)
    figures = {"cpm": read.mean(-1)}
    figures |= {name: average_box_precision(calls, weight) for name, calls in one.calls.items()}
    figures |= {f"froc/{at:g}": read[:, j] for j, at in enumerate(FALSE_ALARMS)}
    if threshold is not None:
        hits, alarms, there = (weight @ a for a in (one.hits, one.alarms, one.lesions))
        figures["lesion_recall"] = _share(hits, there)
        figures["lesion_precision"] = _share(hits, np.where(there > 0, hits + alarms, 0))
        figures["false_alarms"] = alarms / weight.sum(-1)
    return figures


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _mean(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of what is defined, NaN where nothing is."""
    stacked = np.stack(rows)
    known = ~np.isnan(stacked)
    return _share(np.where(known, stacked, 0.0).sum(0), known.sum(0).astype(float))


def pooled_curve(scores: FindingScores) -> Iterator[tuple[float, int, int, int]]:
    """Yield each threshold from the highest, with what it shows of all classes together.

    Yields
    ------
    threshold, hits, false alarms, lesions
    """
    marks = marks_of(scores)
    score = np.concatenate([one.score for one in marks])
    hit = np.concatenate([one.hit for one in marks])
    lesions = int(sum(one.lesions.sum() for one in marks))
    order = np.argsort(-score, kind="stable")
    hits, alarms = np.cumsum(hit[order]), np.cumsum(~hit[order])
    for end in np.flatnonzero(np.r_[np.diff(score[order]) != 0, True][: len(order)]):
        yield float(score[order][end]), int(hits[end]), int(alarms[end]), lesions
