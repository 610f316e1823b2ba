"""Boxes of a case as a label set holds them: one JSON text a case, and their place on its grid.

A list without boxes says that somebody looked and found nothing. A box is told where its file told
it: in LPS mm of the patient, in index coordinates of the source image (voxel i reaches from
i - 1/2 to i + 1/2), or in shares of a picture whose size is not known yet.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tasks.errors import BadCase
from tasks.hashing import canonical_json
from tasks.labels.runs import Runs
from tasks.labels.shapes import Box, PixelBox, box_from_index

MASK_DTYPE = np.uint8
MOST_BOXES = int(np.iinfo(MASK_DTYPE).max)
"""Instances that a stored mask can number."""

Unit = Literal["mm", "px", "share"]
_NUMBERS: dict[Unit, int] = {"mm": 12, "px": 6, "share": 6}
Ring = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class CaseBox:
    """One thing to be found in a case.

    Raises
    ------
    ValueError
        The numbers are not as many as the unit wants, not finite, or of no box.
    """

    name: str
    """Class."""
    unit: Unit
    numbers: tuple[float, ...]
    """``mm``: centre (3) and three edges (9) in LPS mm; else lowest and highest corner (z, y, x),
    in index coordinates (``px``) or shares of the image from 0 to 1."""
    irrelevant: bool = False
    """Finding or missing it counts for nothing."""
    ball: bool = False
    """Known by a diameter: a ball within the box."""
    rings: tuple[Ring, ...] = ()
    """Polygons (y, x) in index coordinates of a picture, where the file outlines it."""
    size: tuple[int, int] | None = None
    """(rows, columns) of the picture it was drawn on, where the file says."""
    runs: tuple[int, ...] = ()
    """Of a picture of that size the lengths of a mask's runs (`tasks.labels.runs`), if it has one.
    """

    @property
    def outlined(self) -> bool:
        """Whether more than a box is known."""
        return bool(self.rings or self.runs)

    def __post_init__(self) -> None:
        n = _NUMBERS[self.unit]
        if len(self.numbers) != n or not all(map(math.isfinite, self.numbers)):
            raise ValueError(f"a box in {self.unit} is told by {n} finite numbers")
        if self.unit != "mm" and not all(map(np.less, self.numbers[:3], self.numbers[3:])):
            raise ValueError("the box ends before it begins, or has no area")

    def to_json(self) -> dict[str, Any]:
        """Return what a label set keeps of it."""
        said: dict[str, Any] = {"class": self.name, self.unit: list(self.numbers)}
        said |= {name: True for name in ("irrelevant", "ball") if getattr(self, name)}
        said |= {"size": list(self.size)} if self.size else {}
        said |= {"runs": list(self.runs)} if self.runs else {}
        return said | ({"rings": self.rings} if self.rings else {})


def box_in_patient(box: Box) -> CaseBox:
    """Return a box of the patient as a case's."""
    numbers = (*box.centre, *(n for edge in box.edges for n in edge))
    return CaseBox(box.name, "mm", numbers, box.irrelevant, ball=box.diameter_mm is not None)


def box_of_picture(
    box: PixelBox, *, irrelevant: bool = False, size: tuple[int, int] | None = None
) -> CaseBox:
    """Return a box of a picture as a case's."""
    # Its files count pixel i from i to i + 1.
    (top, left), (bottom, right) = box.start, box.stop
    numbers = (-0.5, top - 0.5, left - 0.5, 0.5, bottom - 0.5, right - 0.5)
    rings = tuple(tuple((y - 0.5, x - 0.5) for y, x in ring) for ring in box.outline)
    runs = () if box.runs is None else box.runs.lengths
    size = size if box.runs is None else box.runs.size
    return CaseBox(box.name, "px", numbers, irrelevant, rings=rings, size=size, runs=runs)


def written(boxes: Iterable[CaseBox]) -> str:
    """Return the boxes of a case as the value of its label row, whatever their order."""
    return canonical_json(sorted((box.to_json() for box in boxes), key=canonical_json))


def read_written(text: str) -> tuple[CaseBox, ...]:
    """Return the boxes of a label row."""
    return tuple(map(_of_json, json.loads(text)))


def _of_json(said: dict[str, Any]) -> CaseBox:
    (unit,) = _NUMBERS.keys() & said.keys()
    rings = tuple(tuple(map(tuple, ring)) for ring in said.get("rings", ()))
    flags = {name: bool(said.get(name)) for name in ("irrelevant", "ball")}
    size = tuple(said["size"]) if "size" in said else None
    more = {"rings": rings, "size": size, "runs": tuple(said.get("runs", ()))}
    return CaseBox(said["class"], unit, tuple(said[unit]), **more, **flags)


def rows_on(
    boxes: Sequence[CaseBox], classes: Sequence[str], shape: Sequence[int], affine: np.ndarray
) -> np.ndarray:
    """Return the boxes of a case in the patient.

    Parameters
    ----------
    boxes : sequence of CaseBox
    classes : sequence of str
        Of the scenario; a box of another class is no box of the case.
    shape, affine
        Of the source image (z, y, x), LPS mm.

    Returns
    -------
    (b, 14) float64
        Class number, centre (3) and edges (9) in LPS mm, irrelevant or not.

    Raises
    ------
    BadCase
        ``box_outside``: the middle of one is not in the image, or it was drawn on a picture of
        another size.
    """
    rows = []
    for number, one in enumerate(boxes, start=1):
        if one.size is not None and one.size != tuple(shape[1:]):
            raise BadCase(
                "box_outside",
                f"box {number} of {len(boxes)} was drawn on a picture of {one.size} rows and "
                f"columns, the image has {tuple(map(int, shape[1:]))}",
            )
        placed = _in_patient(one, shape, affine)
        index = np.linalg.solve(np.asarray(affine, float), [*placed[:3], 1.0])[:3]
        if not ((index >= -0.5) & (index <= np.array(shape) - 0.5)).all():
            at = ", ".join(f"{value:.1f}" for value in index)
            raise BadCase(
                "box_outside",
                f"the middle of box {number} of {len(boxes)} is at voxel ({at}) of an image of "
                f"{tuple(map(int, shape))}",
            )
        rows.append([classes.index(one.name), *placed, float(one.irrelevant)])
    return np.array(rows, float).reshape(-1, 14)


def _in_patient(box: CaseBox, shape: Sequence[int], affine: np.ndarray) -> list[float]:
    if box.unit == "mm":
        return list(box.numbers)
    corners = np.array(box.numbers).reshape(2, 3)
    if box.unit == "share":
        corners = corners * np.array(shape) - 0.5
    placed = box_from_index(*corners, affine, line=0, series="", name=box.name)
    return [*placed.centre, *(n for edge in placed.edges for n in edge)]


def instance_mask(
    boxes: Sequence[CaseBox], rows: np.ndarray, shape: Sequence[int], affine: np.ndarray
) -> np.ndarray:
    """Draw the boxes of a case on its grid, larger ones first so that smaller ones lie on top.

    What counts for nothing is drawn before all that is to be found, of which it hides nothing.
    Each has one voxel at least, of a box the one its middle lies in, until another is drawn over
    it.

    Parameters
    ----------
    boxes : sequence of CaseBox
    rows : (b, 14) array
        Of the same boxes, from `rows_on`.
    shape, affine
        Of the grid (z, y, x), LPS mm.

    Returns
    -------
    (z, y, x) uint8
        1 + the number of the box; 0 is background.

    Raises
    ------
    BadCase
        ``too_many_boxes``: more than a mask can number.
    """
    if len(rows) > MOST_BOXES:
        raise BadCase("too_many_boxes", f"{len(rows)} boxes where a mask numbers {MOST_BOXES}")
    mask = np.zeros(tuple(shape), MASK_DTYPE)
    sizes = np.linalg.norm(rows[:, 4:13].reshape(-1, 3, 3), axis=2).prod(axis=1)
    for i in np.lexsort((-sizes, rows[:, 13] == 0)):
        _draw(mask, boxes[i], rows[i], np.asarray(affine, float), int(i) + 1)
    return mask


def _draw(mask: np.ndarray, box: CaseBox, row: np.ndarray, affine: np.ndarray, value: int) -> None:
    """Set the voxels whose middle lies within a box, a ball or an outline, or those of a mask."""
    if box.runs:
        mask[0][Runs(box.size, box.runs).mask()] = value
        return
    centre, edges = row[1:4], row[4:13].reshape(3, 3)
    # Of each axis of the grid, half of what the box spans there, and where its middle is.
    inverse = np.linalg.inv(affine[:3, :3])
    middle = inverse @ (centre - affine[:3, 3])
    half = np.abs(edges @ inverse.T).sum(axis=0) / 2
    nearest = np.clip(np.rint(middle), 0, np.array(mask.shape) - 1).astype(int)
    mask[tuple(nearest)] = value
    if box.rings:
        _fill(mask[0], box.rings, value)
        return
    low = np.clip(np.ceil(middle - half - 1e-6), 0, mask.shape).astype(int)
    high = np.clip(np.floor(middle + half + 1e-6) + 1, 0, mask.shape).astype(int)
    lengths = np.linalg.norm(edges, axis=1)
    if (high <= low).any() or not lengths.all():
        return
    part = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    index = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), axis=-1) - middle
    # Share of each edge from the middle: the box is all up to a half.
    share = np.abs(index @ affine[:3, :3].T @ np.linalg.inv(edges))
    far = np.linalg.norm(share, axis=-1) if box.ball else share.max(axis=-1)
    part[far <= 0.5 + 1e-6] = value


def _fill(plane: np.ndarray, rings: Sequence[Ring], value: int) -> None:
    from skimage.draw import polygon

    for ring in rings:
        rows, columns = np.array(ring).T
        plane[polygon(rows, columns, plane.shape)] = value
