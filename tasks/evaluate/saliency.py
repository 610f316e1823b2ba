"""Whether a map of where a model looks says anything: arrays in, figures out.

Three questions. Does the map change when the model is ruined (cascading randomisation of weights,
Adebayo et al. 2018, "Sanity checks for saliency maps")? Does its maximum lie in what a reader
outlined (the pointing game, Zhang et al. 2018)? How much of it lies there (energy, Wang et al.
2020, Score-CAM)?
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.evaluate.intervals import (
    REPLICATES,
    Interval,
    bootstrap_replicates,
    percentile_limits,
    wilson,
)

SIMILAR = 0.3
"""A map that keeps a rank correlation of more than this with that of a ruined model shows the image
and not the model."""

YES = "yes"
"""What a method is called whose maps the weights decide."""

SSIM_WINDOW = 7
"""Side of the window of the structural similarity (Wang et al. 2004), in pixels."""

TOLERANCE = 1 / 32
"""How far beside a mask a maximum still counts, as a share of the longer side: on 28 to 32 pixels
one, where the pointing game allows 15 of some 500."""


@dataclass(frozen=True)
class Looked:
    """One map of one case.

    Parameters
    ----------
    case_id, method : str
    rank : tuple of float
        Rank correlation with the map of the model ruined stage by stage, from the output inwards.
    ssim : tuple of float
        Structural similarity of the same pairs.
    masks : mapping of name to (hit, energy, area)
        Whether the maximum lies in the mask, the share of the map in it, its share of the image.
    """

    case_id: str
    method: str
    rank: tuple[float, ...]
    ssim: tuple[float, ...]
    masks: Mapping[str, tuple[bool, float, float]]

    def to_row(self) -> dict[str, Any]:
        """Return the row of a table."""
        row: dict[str, Any] = {"case_id": self.case_id, "method": self.method}
        for stage, (rank, ssim) in enumerate(zip(self.rank, self.ssim, strict=True), start=1):
            row |= {f"rank/{stage}": rank, f"ssim/{stage}": ssim}
        return row | _mask_columns(self.masks)


@dataclass(frozen=True)
class Pointed:
    """One map of one finding: what covering parts of the image does to its score.

    Parameters
    ----------
    case_id : str
    fall : float
        The most of its score that a covering takes, as a share.
    masks : mapping of name to (hit, energy, area)
        As of `Looked`.
    """

    case_id: str
    fall: float
    masks: Mapping[str, tuple[bool, float, float]]

    def to_row(self) -> dict[str, Any]:
        """Return the row of a table."""
        row: dict[str, Any] = {"case_id": self.case_id, "fall": self.fall}
        return row | _mask_columns(self.masks)


def _mask_columns(masks: Mapping[str, tuple[bool, float, float]]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, (hit, energy, area) in masks.items():
        row |= {f"hit/{name}": int(hit), f"energy/{name}": energy, f"area/{name}": area}
    return row


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's correlation over all voxels with what became of a map.

    NaN where the first map is the same everywhere, for it shows nothing that could be kept, and
    else 0 where the second one is.
    """
    from scipy.stats import spearmanr

    first, second = np.ravel(first), np.ravel(second)
    if np.ptp(first) == 0:
        return float("nan")
    if np.ptp(second) == 0:
        return 0.0
    return float(spearmanr(first, second).statistic)


def structural_similarity(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean over slices of the SSIM of two maps as they are drawn.

    Parameters
    ----------
    first, second : (z, y, x) arrays
        Their positive parts are scaled to 0..1.
    """
    from skimage.metrics import structural_similarity as ssim

    first, second = drawn(first), drawn(second)
    side = min(SSIM_WINDOW, *first.shape[1:])
    side -= side % 2 == 0
    if side < 3:
        raise ValueError(f"maps of {first.shape} are too small: 3 pixels a side are the least")
    planes = zip(first, second, strict=True)
    return float(np.mean([ssim(a, b, win_size=side, data_range=1.0) for a, b in planes]))


def drawn(looked: np.ndarray) -> np.ndarray:
    """Return what speaks for the class, 0 to 1: the positive part over its maximum."""
    positive = np.maximum(np.asarray(looked, np.float64), 0)
    highest = positive.max()
    return positive / highest if highest > 0 else positive


def points_into(looked: np.ndarray, mask: np.ndarray) -> bool:
    """Say whether the maximum of a map lies in a mask, or within `TOLERANCE` of it.

    A map that is the same everywhere points nowhere.
    """
    from scipy.ndimage import distance_transform_edt

    inside = np.asarray(mask, bool)
    if not inside.any() or np.ptp(looked) == 0:
        return False
    place = np.unravel_index(np.argmax(looked), looked.shape)
    away = distance_transform_edt(~inside)[place]
    return bool(away <= TOLERANCE * max(looked.shape))


def energy_in(looked: np.ndarray, mask: np.ndarray) -> float:
    """Return the share of what speaks for the class that lies in a mask; NaN of an empty map."""
    positive = drawn(looked)
    whole = positive.sum()
    return float(positive[np.asarray(mask, bool)].sum() / whole) if whole > 0 else float("nan")


def summary(
    found: Sequence[Looked], *, replicates: int = REPLICATES, seed: int = 0
) -> list[dict[str, Any]]:
    """Return one row a method for the report.

    Parameters
    ----------
    found : sequence of Looked
        One case a patient.
    replicates, seed : int
        Of the bootstrap over cases.

    Returns
    -------
    list of dict
        The method, what is left of rank correlation and SSIM with the wholly ruined model, whether
        the maps show the model, and for every mask how often they point into it, which share lies
        in it, and its own share of the image.
    """
    rows = []
    for method in dict.fromkeys(one.method for one in found):
        ours = [one for one in found if one.method == method]
        left = _mean([one.rank[-1] for one in ours], replicates, seed)
        row: dict[str, Any] = {
            "method": method.replace("_", " "),
            "rank correlation with a ruined model": left,
            "SSIM with it": _mean([one.ssim[-1] for one in ours], replicates, seed),
            "shows the model": _shown(left),
        }
        rows.append(row | _in_masks(ours, replicates, seed))
    return rows


def pointing(
    found: Sequence[Pointed], *, replicates: int = REPLICATES, seed: int = 0
) -> dict[str, Any]:
    """Return a row of the report on findings that are explained by covering.

    Parameters are those of `summary`.

    Returns
    -------
    dict
        How many, how far a score falls at most, and of each mask how often the maximum lies in it,
        which share of the fall does, and its own share of what was looked at.
    """
    fall = _mean([one.fall for one in found], replicates, seed)
    row = {"findings": len(found), "most of the score that a covering takes": fall}
    return row | _in_masks(found, replicates, seed)


def _in_masks(
    found: Sequence[Looked] | Sequence[Pointed], replicates: int, seed: int
) -> dict[str, Interval]:
    row = {}
    for name in dict.fromkeys(name for one in found for name in one.masks):
        seen = [one.masks[name] for one in found if name in one.masks]
        hits = sum(hit for hit, *_ in seen)
        lo, hi = wilson(hits, len(seen))
        row[f"points into {name}"] = Interval(hits / len(seen), lo, hi, "wilson", len(seen))
        row[f"energy in {name}"] = _mean([energy for _, energy, _ in seen], replicates, seed)
        row[f"area of {name}"] = _mean([area for *_, area in seen], replicates, seed)
    return row


def _shown(left: Interval) -> str:
    """Say whether the weights decide a map, as far as the interval does."""
    if max(abs(left.lo), abs(left.hi)) < SIMILAR:
        return YES
    return "no, do not read it" if left.lo > SIMILAR else "undecided, too few cases"


def _mean(values: Sequence[float], replicates: int, seed: int) -> Interval:
    kept = np.array([value for value in values if np.isfinite(value)])
    if not len(kept):
        return Interval(float("nan"), float("nan"), float("nan"), "none", 0)
    keys = [str(number) for number in range(len(kept))]
    drawn_means = bootstrap_replicates(
        lambda weight: {"mean": weight @ kept / weight.sum(-1)}, keys, replicates, seed
    )["mean"]
    limits = percentile_limits(drawn_means, len(kept))
    return Interval(float(kept.mean()), *limits, "bootstrap", len(kept))
