"""Boxes of findings: on a grid, in the patient, and read off an instance mask.

On a grid a box is its lowest and highest corner (z, y, x) in index coordinates, where voxel i
reaches from i - 1/2 to i + 1/2. In the patient it is a centre and three edges in LPS mm, as
`tasks.labels.shapes.Box`; affines map index (z, y, x, 1) to LPS mm.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

ROW = 14
"""Numbers of a box of a case, as jobs and records hold it: class, centre (3) and edges (9) in LPS
mm, irrelevant; of a finding: class, score, centre (3) and edges (9)."""

_CORNERS = np.array(np.meshgrid(*[(-0.5, 0.5)] * 3)).reshape(3, 8).T


@dataclass(frozen=True, eq=False)
class Findings:
    """What a detector found in one case, on one grid; as many as it says, also none.

    Raises
    ------
    ValueError
        If the arrays do not fit each other, a score lies outside 0..1, or a box ends before it
        begins.
    """

    label: np.ndarray
    """(b,) int64, class number from 0 among the scenario's classes; there is no background."""
    score: np.ndarray
    """(b,) float64 in 0..1."""
    box: np.ndarray
    """(b, 2, 3) float64, lowest and highest corner (z, y, x), in index coordinates."""
    mask: tuple[np.ndarray | None, ...] | None = None
    """Of each, (z, y, x) bool on the grid, where the network outlines what it finds; on the grid of
    the source None of one that is not shown."""

    def __post_init__(self) -> None:
        kinds = {"label": np.int64, "score": np.float64, "box": np.float64}
        for name, kind in kinds.items():
            object.__setattr__(self, name, np.asarray(getattr(self, name), kind))
        n = len(self.label)
        if self.score.shape != (n,) or self.box.shape != (n, 2, 3) or self.label.ndim != 1:
            raise ValueError(
                f"{n} findings have scores of shape {self.score.shape} and boxes of shape "
                f"{self.box.shape}; give ({n},) and ({n}, 2, 3)"
            )
        if self.mask is not None and len(self.mask) != n:
            raise ValueError(f"{n} findings have {len(self.mask)} masks; give one each, or none")
        if not ((self.score >= 0) & (self.score <= 1)).all():
            raise ValueError("a finding's score is not a number from 0 to 1")
        if not np.isfinite(self.box).all() or (self.box[:, 1] < self.box[:, 0]).any():
            raise ValueError("a finding's box is not finite, or ends before it begins")

    def __len__(self) -> int:
        return len(self.label)

    def take(self, index: np.ndarray) -> Self:
        """Return those that an index, an order or a mask (b,) bool chooses."""
        places = np.arange(len(self))[index]
        mask = None if self.mask is None else tuple(self.mask[i] for i in places)
        label, score, box = (a[places] for a in (self.label, self.score, self.box))
        return replace(self, label=label, score=score, box=box, mask=mask)

    @classmethod
    def none(cls) -> Self:
        """Return no finding at all."""
        return cls(np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 2, 3)))


def boxes_of_instances(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the box around each instance of an instance mask.

    Parameters
    ----------
    mask : (z, y, x) int
        0 is background; instance i is all voxels of value i.

    Returns
    -------
    numbers : (b,) int64
        Values that occur, ascending; one that lies all under others does not occur.
    box : (b, 2, 3) float64
    """
    places = np.argwhere(mask > 0)
    numbers, which = np.unique(mask[tuple(places.T)].astype(np.int64), return_inverse=True)
    low = np.full((len(numbers), 3), np.iinfo(np.int64).max)
    high = np.full((len(numbers), 3), -1)
    np.minimum.at(low, which, places)
    np.maximum.at(high, which, places)
    return numbers, np.stack([low - 0.5, high + 0.5], axis=1)


def world_of(box: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where boxes of a grid lie in the patient.

    Parameters
    ----------
    box : (b, 2, 3) array
        Index coordinates.
    affine : (4, 4) array

    Returns
    -------
    centre : (b, 3)
        LPS mm.
    edges : (b, 3, 3)
        Of each box three rows: from one side to the opposite one along the grid's axes z, y, x.
    """
    affine = np.asarray(affine, float)
    axes = affine[:3, :3]
    centre = box.mean(1) @ axes.T + affine[:3, 3]
    return centre, (box[:, 1] - box[:, 0])[:, :, None] * axes.T


def box_on(centre: np.ndarray, edges: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return the smallest boxes of a grid around boxes in the patient.

    Exact where a box lies along the grid's axes, in whatever order and direction they run.

    Parameters
    ----------
    centre : (b, 3) array
    edges : (b, 3, 3) array
        As :func:`world_of` returns them; LPS mm.
    affine : (4, 4) array
        Of the grid.

    Returns
    -------
    (b, 2, 3) float64
        Index coordinates.
    """
    affine = np.asarray(affine, float)
    corners = centre[:, None] + _CORNERS @ edges
    index = (corners - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    return np.stack([index.min(1), index.max(1)], axis=1)


def in_mm(box: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return boxes (b, 2, 3) in mm along the grid's own axes, as `Detections` takes them."""
    return box * np.linalg.norm(np.asarray(affine, float)[:3, :3], axis=0)


def rows_of(boxes: Sequence[Sequence[float]]) -> np.ndarray:
    """Return the boxes of a case as (b, `ROW`), also when there are none."""
    return np.asarray(boxes, float).reshape(-1, ROW)


def boxes_on(rows: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return the boxes of a case (b, `ROW`) in index coordinates of a grid, (b, 2, 3)."""
    return box_on(rows[:, 1:4], rows[:, 4:13].reshape(-1, 3, 3), affine)


def boxes_of_case(
    boxes: Sequence[Sequence[float]], affine: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a case's boxes (b, 2, 3) on a grid, their classes and which count for nothing."""
    rows = rows_of(boxes)
    return boxes_on(rows, affine), rows[:, 0].astype(np.int64), rows[:, 13] > 0


def classes_of_places(
    place: np.ndarray, box: np.ndarray, label: np.ndarray, ignored: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what each place hits, and whether it counts.

    A place hits a box whose inscribed ellipsoid holds its middle, about as FROC counts. One that
    hits nothing but ignored boxes is neither right nor wrong.

    Parameters
    ----------
    place : array (m, 2, 3)
    box : array (b, 2, 3)
        On the same grid.
    label : (b,) int
        Class number from 0.
    ignored : (b,) bool

    Returns
    -------
    (m,) int64
        1 + the class, 0 where nothing is hit.
    (m,) bool
    """
    middle, half = box.mean(1), np.maximum(box[:, 1] - box[:, 0], 1e-6) / 2
    away = (place.mean(1)[None] - middle[:, None]) / half[:, None]
    hits = (away**2).sum(-1) < 1
    target = np.zeros(len(place), np.int64)
    for one, number in zip(hits[~ignored], label[~ignored], strict=True):
        target[one] = number + 1
    return target, (target > 0) | ~hits[ignored].any(0)


def rows_of_findings(found: Findings, affine: np.ndarray) -> np.ndarray:
    """Return findings as rows (b, `ROW`): class, score, centre and edges in LPS mm."""
    centre, edges = world_of(found.box, affine)
    return np.column_stack([found.label, found.score, centre, edges.reshape(-1, 9)])
