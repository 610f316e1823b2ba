"""Masks lesion by lesion, by the rule of BraTS 2023: a lesion that is missed or made up costs."""

from dataclasses import dataclass

import numpy as np

from tasks.evaluate.config import LesionConfig
from tasks.evaluate.surface import hd95, surface_distances

CONNECTIVITY = 26
"""Voxels that share a corner are of one lesion."""


@dataclass(frozen=True)
class LesionScores:
    """Means over the lesions of one case, those made up included, and how many there were."""

    dice: float
    hd95: float
    found: int
    missed: int
    made_up: int


def lesion_scores(truth, prediction, spacing, config: LesionConfig) -> LesionScores:
    """Score one class of one case lesion by lesion.

    Parts of the truth whose dilations touch are one lesion. It is matched with every part of the
    prediction that touches its dilation. A lesion without a match, and a part that matches none,
    has Dice 0 and HD95 `missed_mm`. Lesions of at most `smallest_mm3` are left out, and what
    matches only them as well. Without any lesion, true or made up, Dice is 1 and HD95 0.

    Parameters
    ----------
    truth, prediction : bool arrays (z, y, x)
    spacing : three floats, mm
    config : LesionConfig
    """
    import cc3d
    from scipy.ndimage import binary_dilation, generate_binary_structure

    truth, prediction = np.asarray(truth, bool), np.asarray(prediction, bool)
    grown = truth
    if config.dilation and truth.any():
        near = generate_binary_structure(3, 2)
        grown = binary_dilation(truth, near, iterations=config.dilation)
    # What one lesion alone dilates to is the whole of its part here.
    zone, lesions = cc3d.connected_components(grown, connectivity=CONNECTIVITY, return_N=True)
    part, parts = cc3d.connected_components(prediction, connectivity=CONNECTIVITY, return_N=True)
    matched: set[int] = set()
    dice, far, missed = [], [], 0
    for number in range(1, lesions + 1):
        lesion = truth & (zone == number)
        mine = set(np.unique(part[zone == number]).tolist()) - {0}
        matched |= mine
        if lesion.sum() * np.prod(spacing) <= config.smallest_mm3:
            continue
        is_mine = np.zeros(parts + 1, bool)
        is_mine[list(mine)] = True
        found = is_mine[part]
        dice.append(2 * float((found & lesion).sum()) / float(found.sum() + lesion.sum()))
        far.append(hd95(surface_distances(lesion, found, spacing)) if mine else config.missed_mm)
        missed += not mine
    made_up = parts - len(matched)
    counted = len(dice) + made_up
    if not counted:
        return LesionScores(1.0, 0.0, 0, 0, 0)
    return LesionScores(
        sum(dice) / counted,
        (sum(far) + made_up * config.missed_mm) / counted,
        len(dice) - missed,
        missed,
        made_up,
    )
