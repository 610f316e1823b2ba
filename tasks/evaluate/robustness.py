"""How a model's figures fall as images get worse: one curve a corruption, five severities.

After MedMNIST-C (Di Salvo et al. 2024) with one change: there the error added is divided by that of
a reference network, which a hospital does not have; here by the skill there was to lose.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np

from tasks.evaluate.agreement import weighted_agreement
from tasks.evaluate.compare import paired_metric
from tasks.evaluate.estimates import Estimates
from tasks.evaluate.finding_scores import FindingScores, weighted_findings
from tasks.evaluate.intervals import (
    REPLICATES,
    Interval,
    bootstrap_replicates,
    percentile_limits,
)
from tasks.evaluate.masks import MaskScores, patient_means
from tasks.evaluate.metrics import weighted_metrics
from tasks.evaluate.predictions import Predictions
from tasks.evaluate.stress import SEVERITIES, Corruption, corrupt
from tasks.evaluate.table import metric_table

Scores = Predictions | MaskScores | FindingScores | Estimates

CLEAN = "clean"

SKILL = "balanced_accuracy"
"""What a classifier may lose: it holds the threshold, which a change of brightness leaves behind
while it may leave every ranking."""


@dataclass(frozen=True)
class Point:
    """A corruption at one severity; ``fall`` is clean minus corrupted, worse counted positive."""

    corruption: str
    severity: int
    strength: float
    figure: Interval
    fall: Interval | None


@dataclass(frozen=True)
class Robustness:
    """Curves of one model on one sample of cases.

    Parameters
    ----------
    kind : str
        Whose list of corruptions it is.
    primary : str
        The figure of the curves.
    points : tuple of Point
        The clean image first.
    lost : mapping of family to Interval
        Share of the skill that is lost, as a mean over the severities: 0 nothing, 1 all of it.
    balanced : Interval
        Its mean over the families: the balanced relative degradation.
    refused : mapping of corruption to int
        Pictures that the recipe would not take; their cases are in no curve.
    n_cases, n_patients : int
    """

    kind: str
    primary: str
    points: tuple[Point, ...]
    lost: Mapping[str, Interval]
    balanced: Interval
    refused: Mapping[str, int]
    n_cases: int
    n_patients: int

    @property
    def clean(self) -> Interval:
        """The figure without corruption."""
        return self.points[0].figure

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one row a point for a table."""
        rows = []
        for point in self.points:
            fall = point.fall or Interval(nan, nan, nan, "", 0)
            rows.append(
                {
                    "corruption": point.corruption,
                    "severity": point.severity,
                    "strength": point.strength,
                    "metric": self.primary,
                    "value": point.figure.value,
                    "lo": point.figure.lo,
                    "hi": point.figure.hi,
                    "fall": fall.value,
                    "fall_lo": fall.lo,
                    "fall_hi": fall.hi,
                    "patients": point.figure.n_patients,
                    "refused": self.refused.get(point.corruption, 0),
                }
            )
        return rows

    def sentence(self) -> str:
        """Say what is lost on the whole, and to what most."""
        if not np.isfinite(self.balanced.value):
            return "On these cases the model is no better than chance: there is no skill to lose."
        worst = max(self.lost, key=lambda name: self.lost[name].value)
        return (
            f"Balanced relative degradation {_words(self.balanced)}: the share of the model's "
            f"skill that is lost, as a mean over {len(self.lost)} kinds of corruption. Most is "
            f"lost to {worst.replace('_', ' ')}: {_words(self.lost[worst])}."
        )


def variants(
    image: np.ndarray,
    corruptions: Sequence[Corruption],
    spacing: Sequence[float],
    case_id: str,
    seed: int,
) -> Iterator[tuple[str, int, np.ndarray]]:
    """Give an image as it is, then every corruption at every severity: name, severity, image."""
    yield CLEAN, 0, image
    for corruption in corruptions:
        for severity in SEVERITIES:
            yield (
                corruption.name,
                severity,
                corrupt(image, corruption, severity, spacing, case_id, seed),
            )


def fitting(corruptions: Iterable[Corruption], slices: int) -> tuple[Corruption, ...]:
    """Return the corruptions that images of at least so many slices can show."""
    return tuple(one for one in corruptions if slices > 1 or not one.needs_slices)


def robustness(
    answers: Mapping[str, Mapping[tuple[str, int], Any]],
    collect: Callable[[Sequence[str], Sequence[Any]], Scores],
    corruptions: Sequence[Corruption],
    *,
    kind: str,
    primary: str,
    threshold: float | None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> Robustness:
    """Measure what a model said of corrupted images.

    Parameters
    ----------
    answers : mapping of case id to mapping of (corruption, severity) to answer
        An answer that is None was refused.  Of (`CLEAN`, 0) too.
    collect : callable (case ids, answers) -> Predictions, MaskScores or FindingScores
    corruptions : sequence of Corruption
    kind, primary : str
    threshold : float, optional
        The stored operating point of two classes.
    replicates, seed : int
        Of the bootstrap over patients; every point draws the same ones.

    Raises
    ------
    ValueError
        When no case was judged at every point.
    """
    order = [(CLEAN, 0), *((one.name, s) for one in corruptions for s in SEVERITIES)]
    kept = [
        name for name, of_case in answers.items() if all(of_case[at] is not None for at in order)
    ]
    refused = {
        one.name: sum(
            of_case[one.name, s] is None for of_case in answers.values() for s in SEVERITIES
        )
        for one in corruptions
    }
    if not kept:
        raise ValueError("no case could be judged at every severity; see which step refuses them")
    scores = {at: collect(kept, [answers[name][at] for name in kept]) for at in order}
    clean = scores[CLEAN, 0]

    def figure(at: tuple[str, int]) -> Interval:
        return metric_table(scores[at], threshold, replicates=replicates, seed=seed)[primary]

    points = [Point(CLEAN, 0, 0.0, figure((CLEAN, 0)), None)]
    for one in corruptions:
        for severity, strength in zip(SEVERITIES, one.levels, strict=True):
            at = (one.name, severity)
            gap = paired_metric(
                clean, scores[at], primary,
                thresholds=(threshold, threshold), replicates=replicates, seed=seed,
            )  # fmt: skip
            fall = Interval(gap.value, gap.lo, gap.hi, gap.test, gap.n_patients)
            points.append(Point(one.name, severity, strength, figure(at), fall))
    lost, balanced = _lost(scores, corruptions, primary, threshold, replicates, seed)
    return Robustness(
        kind, primary, tuple(points), lost, balanced, refused, len(kept), clean.n_patients
    )


def _lost(
    scores: Mapping[tuple[str, int], Scores],
    corruptions: Sequence[Corruption],
    primary: str,
    threshold: float | None,
    replicates: int,
    seed: int,
) -> tuple[dict[str, Interval], Interval]:
    """Return the share of the skill lost to each family, and its mean over the families."""
    clean = scores[CLEAN, 0]
    chance = 1 / len(clean.classes) if isinstance(clean, Predictions) else 0.0
    skills = {at: _skill(one, primary, threshold) for at, one in scores.items()}
    families: dict[str, list[str]] = {}
    for one in corruptions:
        families.setdefault(one.family, []).append(one.name)

    def shares(weight: np.ndarray) -> dict[str, np.ndarray]:
        whole = skills[CLEAN, 0](weight)
        there = np.where(whole > chance, whole - chance, np.nan)
        out = {
            family: np.mean(
                [(whole - skills[name, s](weight)) / there for name in names for s in SEVERITIES], 0
            )
            for family, names in families.items()
        }
        return out | {"": np.mean(list(out.values()), axis=0)}

    keys = _units(clean)
    values = shares(np.ones((1, len(keys))))
    drawn = bootstrap_replicates(shares, keys, replicates, seed)
    n = clean.n_patients
    table = {
        name: Interval(float(v[0]), *percentile_limits(drawn[name], n), "patient bootstrap", n)
        for name, v in values.items()
    }
    return {name: found for name, found in table.items() if name}, table[""]


def _units(scores: Scores) -> tuple[str, ...]:
    return patient_means(scores)[0] if isinstance(scores, MaskScores) else scores.patient_keys


def _skill(
    scores: Scores, primary: str, threshold: float | None
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the skill as a function of the weights of `_units`."""
    if isinstance(scores, MaskScores):
        mean = patient_means(scores)[1].mean(1)
        return lambda weight: weight @ mean / weight.sum(-1)
    if isinstance(scores, FindingScores):
        found = weighted_findings(scores, threshold, [primary])
        return lambda weight: found(weight)[primary]
    if isinstance(scores, Estimates):
        # What is explained of the variance: 0 is the mean, said of everybody.
        explained = weighted_agreement(scores, ["r2"])
        return lambda weight: explained(weight)["r2"]
    statistic = weighted_metrics(scores, threshold, [SKILL])
    return lambda weight: statistic(weight)[SKILL]


def _words(found: Interval) -> str:
    if not np.isfinite(found.lo):
        return f"{found.value:.2f}"
    return f"{found.value:.2f} ({found.lo:.2f} to {found.hi:.2f})"
