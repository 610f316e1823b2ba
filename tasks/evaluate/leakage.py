"""Alarms for figures that are too good: shared patients, label-blind skill, header shortcuts."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt

import numpy as np

from tasks.errors import LeakageError
from tasks.evaluate.compare import Difference, paired_metric
from tasks.evaluate.intervals import patient_index
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.metrics import auroc
from tasks.evaluate.predictions import Predictions

ALARM_DEVIATIONS = 3.0
"""Standard errors above chance at which random labels raise the alarm (one false alarm in 700)."""


def check_disjoint(sides: Mapping[str, Collection[str]]) -> None:
    """Refuse a patient who stands on two sides (or in the validation part of two folds).

    Parameters
    ----------
    sides : mapping side -> patient keys

    Raises
    ------
    LeakageError
        With counts, never with a key.
    """
    sets = {str(name): set(keys) for name, keys in sides.items()}
    shared = [
        f"{len(sets[a] & sets[b])} in both {a} and {b}"
        for a, b in combinations(sets, 2)
        if sets[a] & sets[b]
    ]
    if shared:
        raise LeakageError(
            f"patients stand on two sides of the split ({'; '.join(shared)}): "
            "assign sides by patient and check for patients under two ids"
        )


def check_folds(folds: Sequence[tuple[Collection[str], Collection[str]]]) -> None:
    """Refuse folds, pairs (training, validation patients), that share patients where forbidden.

    Within a fold the two parts are disjoint; across folds the validation parts are.
    """
    for number, (training, validation) in enumerate(folds):
        check_disjoint(
            {f"fold {number} training": training, f"fold {number} validation": validation}
        )
    check_disjoint({f"fold {i} validation": part for i, (_, part) in enumerate(folds)})


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
    image: Predictions | MaskScores,
    header: Predictions | MaskScores,
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
