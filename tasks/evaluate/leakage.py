"""Alarms for figures that are too good: shared patients, label-blind skill, header shortcuts."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from tasks.errors import LeakageError
from tasks.evaluate.compare import Difference, paired_metric
from tasks.evaluate.estimates import Estimates
from tasks.evaluate.intervals import patient_index
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.metrics import auroc
from tasks.evaluate.predictions import Predictions

if TYPE_CHECKING:
    from tasks.archive.catalog import Case

NAMED = 5
"""Offenders a message names; the others it counts."""

ALARM_DEVIATIONS = 3.0
"""Standard errors above chance at which random labels raise the alarm (one false alarm in 700)."""


def check_disjoint(
    sides: Mapping[str, Collection[str]], cases: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Refuse a patient who stands on two sides (or in the validation part of two folds).

    Parameters
    ----------
    sides : mapping side -> patient keys
    cases : mapping patient key -> case ids, optional
        By which the message names the offenders.

    Raises
    ------
    LeakageError
        With counts and cases, never with a patient's key.
    """
    sets = {str(name): set(keys) for name, keys in sides.items()}
    both = {(a, b): sets[a] & sets[b] for a, b in combinations(sets, 2) if sets[a] & sets[b]}
    if not both:
        return
    shared = "; ".join(f"{len(keys)} in both {a} and {b}" for (a, b), keys in both.items())
    known = cases or {}
    offenders = sorted(
        " with ".join(sorted(one[:12] for one in known[key]))
        for key in set().union(*both.values()) & known.keys()
    )
    raise LeakageError(
        f"patients stand on two sides of the split ({shared}"
        + (f": cases {named(offenders)}" if offenders else "")
        + "): assign sides by patient and check for patients under two ids"
    )


def named(offenders: Iterable[str]) -> str:
    """Return the first offenders and how many more there are."""
    every = list(offenders)
    more = f" and {len(every) - NAMED} more" if len(every) > NAMED else ""
    return "; ".join(every[:NAMED]) + more


def check_study(cases: Sequence["Case"], place: Mapping[str, str]) -> list[str]:
    """Refuse a study that stands in two places of the split under two patients.

    Parameters
    ----------
    cases : sequence of Case
    place : mapping of case id to text
        Side or fold.

    Returns
    -------
    list of str
        What is no proof: an accession number, or a study of a file that somebody mapped, may be
        the same by chance.

    Raises
    ------
    LeakageError
        With the cases; a Study Instance UID is unique by the standard.
    """
    certain = _two_places(cases, place, "study_key", lambda case: case.kind == "dicom")
    if certain:
        raise LeakageError(
            f"{len(certain)} studies stand under two patients on two sides or in two folds: "
            f"{named(certain)}. It is one patient under two ids: leave the cases of one of them "
            "out with `without` under cohort"
        )
    doubtful = {
        "studies": _two_places(cases, place, "study_key", lambda case: case.kind != "dicom"),
        "accession numbers": _two_places(cases, place, "accession_key", lambda case: True),
    }
    return [
        f"{len(found)} {what} stand under two patients on two sides or in two folds, which may be "
        f"one patient under two ids: {named(found)}"
        for what, found in doubtful.items()
        if found
    ]


def _two_places(
    cases: Sequence["Case"], place: Mapping[str, str], key: str, counts: Callable[["Case"], bool]
) -> list[str]:
    """Name the cases that share a key across places, a text a key."""
    of_key: dict[str, list[Case]] = {}
    for case in cases:
        if counts(case) and getattr(case, key):
            of_key.setdefault(getattr(case, key), []).append(case)
    shared = [
        together
        for together in of_key.values()
        if len({place[case.case_id] for case in together}) > 1
    ]
    return [
        " and ".join(sorted(f"{case.case_id[:12]} ({place[case.case_id]})" for case in together))
        for together in shared
    ]


def check_fit(fitted: Mapping[str, str], side: Mapping[str, str], scenario: str) -> None:
    """Refuse a recipe that was fitted on cases of patients who are not on the training side.

    Parameters
    ----------
    fitted : mapping of case id to patient key
        The cases of the fit.
    side : mapping of patient key to side
        Of today's split; a patient who is not in it is judged by nothing and may have been fitted.
    scenario : str
        For the remedy.

    Raises
    ------
    LeakageError
        With the cases.
    """
    wrong = sorted(
        f"{case_id[:12]} ({side[patient]})"
        for case_id, patient in fitted.items()
        if side.get(patient, "train") != "train"
    )
    if wrong:
        raise LeakageError(
            f"the recipe was fitted on {len(wrong)} cases of {len(fitted)} that are not on the "
            f"training side: {named(wrong)}. The split changed after the fit: fit anew with "
            f"`radloop preprocess {scenario} --refit`"
        )


@dataclass(frozen=True)
class RandomLabelAlarm:
    """AUROC reached on permuted labels, the limit, and whether it is beyond."""

    auroc: float
    limit: float
    alarmed: bool
    repeats: int
    sentence: str


def random_label_alarm(
    out_of_fold: Callable[[np.ndarray], np.ndarray],
    patient_keys: Sequence[str],
    truth: Sequence[int],
    *,
    repeats: int = 5,
    seed: int = 0,
) -> RandomLabelAlarm:
    """Train on labels that mean nothing: what is still "learned" leaked through the split.

    Labels are permuted between patients and all cases of a patient get the same one, as in real
    data; a split by patient then cannot beat chance, while one that spreads a patient's slices
    over both sides can (96 % were reached so, Yagis et al., Sci Rep 2021).

    Parameters
    ----------
    out_of_fold : callable
        Labels (n,) of 0/1 -> out-of-fold scores (n,), by exactly the split and training under test.
    patient_keys : sequence of str, length n
    truth : sequence of 0/1, length n
        Real labels: their balance over patients (majority of the cases) is kept.
    repeats : int
        Permutations to train on.
    """
    n_patients, index = patient_index(patient_keys)
    share = np.bincount(index, np.asarray(truth, float)) / np.bincount(index)
    labels = (share >= 0.5).astype(np.int64)
    positives = int(labels.sum())
    negatives = n_patients - positives
    if not positives or not negatives:
        raise ValueError(
            f"{positives} positive and {negatives} negative patients: random labels need both"
        )
    rng = np.random.default_rng(seed)
    areas = []
    for _ in range(repeats):
        permuted = rng.permutation(labels)[index]
        areas.append(float(auroc(permuted, out_of_fold(permuted))))
    reached = float(np.mean(areas))
    # Mann-Whitney variance under the null, counting patients: cases of a patient move together.
    error = sqrt((n_patients + 1) / (12 * positives * negatives))
    limit = 0.5 + ALARM_DEVIATIONS * error / sqrt(repeats)
    alarmed = reached > limit
    if alarmed:
        sentence = (
            f"Leak alarm: on labels permuted between patients the training still reaches AUROC "
            f"{reached:.3f}, more than chance allows ({limit:.3f}); the split lets patients "
            "through and no figure of it can be trusted."
        )
    else:
        sentence = (
            f"On labels permuted between patients the training reaches AUROC {reached:.3f}, "
            f"within chance (limit {limit:.3f})."
        )
    return RandomLabelAlarm(reached, limit, alarmed, repeats, sentence)


@dataclass(frozen=True)
class HeaderCheck:
    """Whether the image model is clearly better than header facts alone, and the words for it."""

    clearly_better: bool
    sentence: str
    difference: Difference


def better_than_header(
    image: Predictions | MaskScores | Estimates,
    header: Predictions | MaskScores | Estimates,
    *,
    metric: str = "auroc",
    replicates: int = 2000,
    seed: int = 0,
) -> HeaderCheck:
    """Compare an image model with one that sees only vendor, rows, syntax, view and spacing.

    Both have scored the same cases. Clearly better means that the lower 97.5 % bound of the
    paired difference lies above 0. Otherwise the sentence has to open the report.
    """
    found = paired_metric(image, header, metric, replicates=replicates, seed=seed)
    clearly = bool(found.lo > 0)
    figures = (
        f"difference in {metric} {found.value:+.3f}, 95 % interval {found.lo:+.3f} to "
        f"{found.hi:+.3f}, {found.test}, {found.n_patients} patients"
    )
    if clearly:
        sentence = f"The image model is better than header facts alone ({figures})."
    else:
        sentence = (
            f"The image model is not clearly better than a model that sees only header facts "
            f"such as vendor, matrix and spacing ({figures}); it may have learned where an image "
            "comes from instead of what it shows."
        )
    return HeaderCheck(clearly, sentence, found)
