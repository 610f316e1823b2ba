"""Overlap of masks: Dice per class with a stated answer for empty masks."""

from collections.abc import Sequence

import numpy as np

BOTH_EMPTY, ONE_EMPTY = 1, 2
"""What is said of a class whose masks are both empty, or exactly one of them."""

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
        (size_t == 0) & (size_p == 0),
        BOTH_EMPTY,
        np.where((size_t == 0) | (size_p == 0), ONE_EMPTY, 0),
    )
    dice = 2 * shared / np.maximum(size_t + size_p, 1)
    dice = np.where(empty == BOTH_EMPTY, EMPTY_POLICY["both"], dice)
    return np.where(empty == ONE_EMPTY, EMPTY_POLICY["one"], dice), empty


def region_dice(
    truth, prediction, regions: Sequence[Sequence[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the Dice of each region, a union of labels, as `dice_per_class` does of classes.

    Parameters
    ----------
    truth, prediction : integer arrays of the same shape, e.g. (z, y, x)
        Label maps.
    regions : r sequences of int
        Label values of each region; they may overlap.

    Returns
    -------
    dice, empty : arrays (r,)
    """
    pairs = [
        dice_per_class(np.isin(truth, values), np.isin(prediction, values), 1) for values in regions
    ]
    dice, empty = zip(*pairs, strict=True)
    return np.concatenate(dice), np.concatenate(empty)
