"""One case's masks to its figures, class by class, with a stated answer for empty masks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.evaluate.config import MaskConfig
from tasks.evaluate.lesions import lesion_scores
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.overlap import BOTH_EMPTY, ONE_EMPTY, dice_per_class, region_dice
from tasks.evaluate.surface import hd95, nsd, surface_distances

ML = 1000.0
"""Cubic millimetres in a millilitre."""


@dataclass(frozen=True, eq=False)
class MaskFigures:
    """Figures of one case: Dice, the others by name, and which masks were empty; (k,) each."""

    dice: np.ndarray
    others: dict[str, np.ndarray]
    empty: np.ndarray


def mask_figures(
    truth,
    prediction,
    spacing: Sequence[float],
    n_classes: int,
    config: MaskConfig,
    regions: Sequence[Sequence[int]] = (),
) -> MaskFigures:
    """Measure the masks of one case.

    Where both masks of a class are empty NSD is 1 and HD95 0; where one is, NSD is 0, HD95 the
    image's diagonal and the relative error of the volume 1, whether it was missed or made up.

    Parameters
    ----------
    truth, prediction : integer arrays (z, y, x)
        Label maps: 0 background, 1..n_classes the classes.
    spacing : three floats, mm
        Of the axes z, y, x.
    n_classes : int
    config : MaskConfig
        Tolerance of NSD, and whether lesions are scored one by one.
    regions : r sequences of int, optional
        Label values of each region; where there are any, the figures are theirs, (r,) each.
    """
    parts = tuple(regions) or tuple((label,) for label in range(1, n_classes + 1))
    dice, empty = (
        region_dice(truth, prediction, parts)
        if regions
        else dice_per_class(truth, prediction, n_classes)
    )
    rows = [
        _figures_of_class(
            np.isin(truth, part), np.isin(prediction, part), spacing, int(none), config
        )
        for part, none in zip(parts, empty, strict=True)
    ]
    return MaskFigures(
        dice, {name: np.array([row[name] for row in rows]) for name in rows[0]}, empty
    )


def mask_scores(
    case_ids: Sequence[str],
    patient_keys: Sequence[str],
    classes: Sequence[str],
    rows: Sequence[MaskFigures],
) -> MaskScores:
    """Put cases together, one row each."""
    shape = (len(rows), len(classes))
    names = rows[0].others if rows else ()
    return MaskScores(
        tuple(case_ids),
        tuple(patient_keys),
        tuple(classes),
        np.array([row.dice for row in rows]).reshape(shape),
        np.array([row.empty for row in rows], np.int64).reshape(shape),
        {name: np.array([row.others[name] for row in rows]) for name in names},
    )


def _figures_of_class(
    truth: np.ndarray, prediction: np.ndarray, spacing, empty: int, config: MaskConfig
) -> dict[str, float]:
    if empty == BOTH_EMPTY:
        near, far = 1.0, 0.0
    elif empty == ONE_EMPTY:
        near, far = 0.0, diagonal(truth.shape, spacing)
    else:
        found = surface_distances(truth, prediction, spacing)
        near, far = nsd(found, config.tolerance_mm), hd95(found)
    figures = {"nsd": near, "hd95": far} | _volumes(truth, prediction, spacing)
    if config.lesions is not None:
        by_lesion = lesion_scores(truth, prediction, spacing, config.lesions)
        figures |= {"lesion_dice": by_lesion.dice, "lesion_hd95": by_lesion.hd95}
    return figures


def diagonal(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Return the length of an image's diagonal in mm; an axis of one voxel has none."""
    sides = [n * mm for n, mm in zip(shape, spacing, strict=True) if n > 1]
    return float(np.linalg.norm(sides))


def _volumes(truth: np.ndarray, prediction: np.ndarray, spacing) -> dict[str, float]:
    voxel = float(np.prod(spacing)) / ML
    is_there, said = float(truth.sum()) * voxel, float(prediction.sum()) * voxel
    bias = said - is_there
    made_up = float(said > 0)
    return {
        "volume_error": abs(bias),
        "volume_bias": bias,
        "relative_volume_error": abs(bias) / is_there if is_there else made_up,
    }
