"""One finding of many views of it: tiles that overlap, mirrorings, and the folds' networks.

Weighted box fusion (Solovyev et al. 2021) with the weights and the expected views of nnDetection
(Baumgartner et al. 2021): a box is the mean of the boxes that overlap, weighted by their scores and
by how near the middle of its tile each was seen; its score is the mean over all views that looked
there, so what only one of four saw keeps a quarter.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.evaluate.box_ap import intersection_over_union
from tasks.learn.boxes import Findings

SIGMA = 1 / 8
"""Standard deviation of the weight over the side of the tile (nnU-Net)."""

LEAST_WEIGHT = 1e-2
"""Weight in a tile's corner: a finding that only corners see must not vanish."""


@dataclass(frozen=True, eq=False)
class View:
    """What one network saw in one tile of an image."""

    start: np.ndarray
    """(3,) first voxel (z, y, x) of the tile."""
    size: np.ndarray
    """(3,) voxels of the tile."""
    found: Findings
    """In index coordinates of the image."""
    whole: bool = False
    """Whether the tile is the image, which has no corners to be careful with."""

    def weight(self, centre: np.ndarray) -> np.ndarray:
        """Return how much the view's word counts at places (b, 3), (b,); 0 outside of it."""
        inside = ((centre >= self.start - 0.5) & (centre <= self.start + self.size - 0.5)).all(-1)
        if self.whole:
            return inside.astype(float)
        away = (centre - self.start - (self.size - 1) / 2) / (self.size * SIGMA)
        weight = np.exp(-0.5 * (np.where(self.size > 1, away, 0.0) ** 2).sum(-1))
        return np.where(inside, np.maximum(weight, LEAST_WEIGHT), 0.0)


def fuse(views: Sequence[View], overlap: float, most: int) -> Findings:
    """Return the findings of an image out of all views of it.

    Parameters
    ----------
    views : sequence of View
        Each without overlaps of its own, as suppression leaves it.
    overlap : float
        Intersection over union from which boxes of one class are one finding.
    most : int
        The best so many are kept.

    Returns
    -------
    Findings
        The best first. A mask is that of the view whose word counted most.
    """
    held = [view for view in views if len(view.found)]
    if not held:
        return Findings.none()
    label, score, box = (
        np.concatenate([getattr(view.found, name) for view in held])
        for name in ("label", "score", "box")
    )
    of_view = np.repeat(np.arange(len(held)), [len(view.found) for view in held])
    weight = np.concatenate([view.weight(view.found.box.mean(1)) for view in held])
    masks = None
    if all(view.found.mask is not None for view in held):
        masks = [mask for view in held for mask in view.found.mask]
    groups = _groups(label, score * weight, box, of_view, overlap)
    rows = [_one(views, rows, score, box, weight) for rows in groups]
    fused = Findings(
        [label[rows[0]] for rows in groups],
        [score for score, _ in rows],
        np.array([box for _, box in rows]),
        None if masks is None else tuple(masks[rows[0]] for rows in groups),
    )
    return fused.take(np.argsort(-fused.score, kind="stable")[:most])


def _groups(
    label: np.ndarray, worth: np.ndarray, box: np.ndarray, of_view: np.ndarray, overlap: float
) -> list[np.ndarray]:
    """Return the rows of each finding, the worthiest first; of a view at most one."""
    left = np.ones(len(label), bool)
    groups = []
    for best in np.argsort(-worth, kind="stable"):
        if not left[best]:
            continue
        near = intersection_over_union(box[best], box)
        rows = np.flatnonzero(left & (label == label[best]) & (near >= overlap))
        rows = np.union1d(rows, [best])
        rows = rows[np.lexsort((-worth[rows], rows != best))]
        # What else the same view saw there is the same thing once more.
        _, first = np.unique(of_view[rows], return_index=True)
        left[rows] = False
        groups.append(rows[np.sort(first)])
    return groups


def _one(
    views: Sequence[View],
    rows: np.ndarray,
    score: np.ndarray,
    box: np.ndarray,
    weight: np.ndarray,
) -> tuple[float, np.ndarray]:
    """Return the score and the box (2, 3) of the finding that rows are views of."""
    share = weight[rows] * score[rows]
    middle = (share[:, None, None] * box[rows]).sum(0) / share.sum()
    looked = sum(float(view.weight(middle.mean(0))) for view in views)
    said = float(share.sum())
    # Weights are taken at each view's own centre, so rounding may exceed the mean.
    return min(said / max(looked, float(weight[rows].sum())), 1.0), middle
