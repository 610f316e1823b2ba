"""Overlap of masks: Dice per class with a stated answer for empty masks."""

from collections.abc import Iterable, Sequence

import numpy as np

from tasks.evaluate.predictions import DiceScores

EMPTY_POLICY = {"both": 1.0, "one": 0.0}
"""Dice when both masks of a class are empty, and when exactly one is.

A false positive in a healthy case must cost something; leaving such cases out (NaN, the default
of common libraries) rewards it.
"""


def dice_per_class(truth, prediction, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the Dice of each foreground class of one case.

    Parameters
    ----------
    truth, prediction : integer arrays of the same shape, e.g. (z, y, x)
        Label maps: 0 background, 1..n_classes the classes.
    n_classes : int

    Returns
    -------
    dice : array (n_classes,) of float
    empty : array (n_classes,) of int, 0 neither empty, 1 both, 2 exactly one
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    if truth.shape != prediction.shape:
        raise ValueError(
            f"the masks have shapes {truth.shape} and {prediction.shape}; "
            "bring the prediction back to the source grid first"
        )
    for name, mask in (("truth", truth), ("prediction", prediction)):
        if mask.dtype.kind not in "iub":
            raise ValueError(f"{name} has type {mask.dtype}; a label map holds whole numbers")
        if mask.size and (mask.min() < 0 or mask.max() > n_classes):
            raise ValueError(
                f"{name} holds labels {mask.min()}..{mask.max()}, outside 0..{n_classes}"
            )
    truth, prediction = truth.ravel().astype(np.int64), prediction.ravel().astype(np.int64)
    size_t = np.bincount(truth, minlength=n_classes + 1)[1:]
    size_p = np.bincount(prediction, minlength=n_classes + 1)[1:]
    shared = np.bincount(truth[truth == prediction], minlength=n_classes + 1)[1:]
    empty = np.where(
        (size_t == 0) & (size_p == 0), 1, np.where((size_t == 0) | (size_p == 0), 2, 0)
    )
    dice = 2 * shared / np.maximum(size_t + size_p, 1)
    dice = np.where(empty == 1, EMPTY_POLICY["both"], dice)
    return np.where(empty == 2, EMPTY_POLICY["one"], dice), empty


def dice_scores(
    case_ids: Sequence[str],
    patient_keys: Sequence[str],
    classes: Sequence[str],
    masks: Iterable[tuple[np.ndarray, np.ndarray]],
) -> DiceScores:
    """Score pairs (truth, prediction), one a case, read one after the other."""
    rows = [dice_per_class(truth, prediction, len(classes)) for truth, prediction in masks]
    shape = (len(rows), len(classes))
    return DiceScores(
        tuple(case_ids),
        tuple(patient_keys),
        tuple(classes),
        np.array([dice for dice, _ in rows]).reshape(shape),
        np.array([empty for _, empty in rows], dtype=np.int64).reshape(shape),
    )


def patient_dice(scores: DiceScores) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the patients, sorted, and the mean Dice of each patient's cases, (patients, k)."""
    patients, index = np.unique(np.asarray(scores.patient_keys, dtype=str), return_inverse=True)
    total = np.zeros((len(patients), len(scores.classes)))
    np.add.at(total, index, scores.dice)
    mean = total / np.bincount(index, minlength=len(patients))[:, None]
    return tuple(map(str, patients)), mean


def segmentation_metrics(scores: DiceScores) -> dict[str, float]:
    """Return dice, dice/<class> (means over cases of a patient, then over patients), n_empty."""
    _, mean = patient_dice(scores)
    out = {"dice": float(mean.mean()) if mean.size else float("nan")}
    for j, name in enumerate(scores.classes):
        out[f"dice/{name}"] = float(mean[:, j].mean()) if mean.size else float("nan")
    out["n_empty"] = float(np.sum(scores.empty > 0))
    return out
