"""Boxes, points and masks as every reader gives them, and their way between voxels and the patient.

Boxes and points in a volume are in LPS mm and name their frame of reference or series: a model
may then see any grid. Boxes of pictures, which lie in no patient, stay in pixels. Affines map
index (z, y, x, 1) to LPS mm, and voxel i reaches from i - 1/2 to i + 1/2.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tasks.errors import BadCase
from tasks.labels.runs import Runs

Point = tuple[float, float, float]


@dataclass(frozen=True)
class PixelBox:
    """A box on a picture; pixel i reaches from i to i + 1, as COCO counts."""

    line: int
    """Where it stands in its file, counted from 1."""
    image: str = field(repr=False)
    """Name of the picture in its data set."""
    name: str
    """Class."""
    start: tuple[float, float]
    """(row, column) of the upper left corner."""
    stop: tuple[float, float]
    """(row, column) of the lower right corner."""
    outline: tuple[tuple[tuple[float, float], ...], ...] = ()
    """Polygons of (row, column), where the file gives more than a box."""
    runs: Runs | None = None
    """Its mask, where the file gives one."""


@dataclass(frozen=True)
class Box:
    """A box in a patient, along any three axes at right angles; a point has no edges."""

    line: int
    """Where it stands in its file, counted from 1."""
    series: str = field(repr=False)
    """Series Instance UID, or "" where the frame of reference is what is known."""
    name: str
    """Class."""
    centre: Point
    """LPS mm."""
    edges: tuple[Point, Point, Point] = ((0.0,) * 3,) * 3
    """From one side to the opposite one in LPS mm, along slices, rows and columns of its image."""
    frame_of_reference: str = field(default="", repr=False)
    diameter_mm: float | None = None
    """As its file says it; None when none was measured."""
    irrelevant: bool = False
    """Finding or missing it counts for nothing."""
    facts: Mapping[str, float] = field(default_factory=dict)
    """What readers said of it, as means."""


@dataclass(frozen=True, eq=False)
class Segment:
    """One named structure: array (z, y, x) of bool."""

    number: int
    name: str
    mask: np.ndarray = field(repr=False)


@dataclass(frozen=True, eq=False)
class Masks:
    """Structures on one grid, which may overlap."""

    segments: tuple[Segment, ...]
    affine: np.ndarray = field(repr=False)
    """(4, 4), index (z, y, x, 1) to LPS mm."""
    series: str = field(default="", repr=False)
    """Series Instance UID of the image, or "" when the file names none."""
    frame_of_reference: str = field(default="", repr=False)


def checked_box(line: int, image: str, name: str, x, y, width, height) -> PixelBox:
    """Return a box from its left, top, width and height in pixels.

    Raises
    ------
    ValueError
        A side is no number, or the box is empty or begins left of or above the picture.
    """
    try:
        left, top, wide, high = (float(value) for value in (x, y, width, height))
    except (TypeError, ValueError):
        raise ValueError("the box has a side that is no number") from None
    if not all(map(math.isfinite, (left, top, wide, high))) or wide <= 0 or high <= 0:
        raise ValueError("the box has no area")
    if left < 0 or top < 0:
        raise ValueError("the box begins outside of its picture")
    return PixelBox(line, image, name, (top, left), (top + high, left + wide))


def box_from_index(
    start: Sequence[float], stop: Sequence[float], affine: np.ndarray, **more
) -> Box:
    """Return the box in the patient between two corners in index coordinates (z, y, x).

    Parameters
    ----------
    start, stop : sequences of 3 float
        Corners, where the first voxel begins at -1/2.
    affine : array (4, 4)
    **more
        Other fields of `Box`.
    """
    low, high = np.asarray(start, float), np.asarray(stop, float)
    axes = np.asarray(affine)[:3, :3]
    centre = axes @ ((low + high) / 2) + np.asarray(affine)[:3, 3]
    edges = (axes * (high - low)).T
    return Box(centre=_point(centre), edges=tuple(_point(edge) for edge in edges), **more)


def corners_of(box: Box) -> np.ndarray:
    """Return the eight corners in LPS mm, shape (8, 3)."""
    signs = np.array(np.meshgrid(*[(-0.5, 0.5)] * 3)).reshape(3, 8).T
    return np.asarray(box.centre) + signs @ np.asarray(box.edges)


def world_bounds(box: Box) -> np.ndarray:
    """Return the lowest and highest corner along LPS, shape (2, 3), as detection figures take it.

    Of an oblique box it is the smallest upright box around it.
    """
    corners = corners_of(box)
    return np.array([corners.min(axis=0), corners.max(axis=0)])


def index_bounds(box: Box, affine: np.ndarray) -> np.ndarray:
    """Return the smallest box around it in a grid's index coordinates (z, y, x), shape (2, 3)."""
    homogeneous = np.c_[corners_of(box), np.ones(8)]
    index = np.linalg.solve(np.asarray(affine, float), homogeneous.T).T[:, :3]
    return np.array([index.min(axis=0), index.max(axis=0)])


def box_around(segment: Segment, masks: Masks) -> Box | None:
    """Return the box around a structure, along the axes of its grid; None for an empty one."""
    found = np.nonzero(segment.mask)
    if not len(found[0]):
        return None
    start = [int(axis.min()) - 0.5 for axis in found]
    stop = [int(axis.max()) + 0.5 for axis in found]
    return box_from_index(
        start,
        stop,
        masks.affine,
        line=segment.number,
        series=masks.series,
        name=segment.name,
        frame_of_reference=masks.frame_of_reference,
    )


def label_map(masks: Masks, classes: Mapping[str, int]) -> np.ndarray:
    """Return one label map (z, y, x) of the named structures; others are background.

    It is uint8, or wider where a value exceeds 255.

    Raises
    ------
    BadCase
        ``segment_missing``: one is not there. ``segments_overlap``: two share voxels, so that no
        one number is right.
    """
    shape = masks.segments[0].mask.shape if masks.segments else (0, 0, 0)
    labels = np.zeros(shape, np.min_scalar_type(max(classes.values(), default=0)))
    for name, value in classes.items():
        same = [one for one in masks.segments if one.name == name]
        if not same:
            raise BadCase("segment_missing", "a class of the scenario is no segment of the file")
        for one in same:
            there = labels[one.mask]
            shared = int(np.count_nonzero((there != 0) & (there != value)))
            if shared:
                detail = f"{shared} voxels are of two classes: order them or leave one out"
                raise BadCase("segments_overlap", detail)
            labels[one.mask] = value
    return labels


def onto_grid(masks: Masks, shape: Sequence[int], affine: np.ndarray) -> Masks:
    """Return structures on another grid, each voxel as the nearest one of theirs says.

    Exact where both are one grid that was cut, turned or flipped; outside of theirs is background.
    """
    mapping = np.linalg.solve(np.asarray(masks.affine, float), np.asarray(affine, float))
    rows, columns = np.meshgrid(*map(np.arange, shape[1:]), indexing="ij")
    plane = np.stack([np.zeros(rows.size), rows.ravel(), columns.ravel(), np.ones(rows.size)])
    made = [np.zeros(tuple(shape), bool) for _ in masks.segments]
    for z in range(shape[0]):
        plane[0] = z
        # Halves are rounded after a nudge, so that dust of floating point decides nothing.
        index = np.floor((mapping @ plane)[:3] + 0.5 + 1e-6).astype(np.int64)
        for one, target in zip(masks.segments, made, strict=True):
            limits = np.array(one.mask.shape)[:, None]
            inside = ((index >= 0) & (index < limits)).all(axis=0)
            target[z].reshape(-1)[inside] = one.mask[tuple(index[:, inside])]
    segments = tuple(
        Segment(one.number, one.name, mask) for one, mask in zip(masks.segments, made, strict=True)
    )
    return Masks(segments, np.array(affine, float), masks.series, masks.frame_of_reference)


def middle_of(segment: Segment, masks: Masks) -> np.ndarray | None:
    """Return the mean place of a structure's voxels in LPS mm, shape (3,); None of an empty one."""
    total = np.count_nonzero(segment.mask)
    if not total:
        return None
    # By axis, since the places of a whole organ's voxels would fill more memory than its mask.
    counts = [
        segment.mask.sum(axis=tuple(other for other in range(3) if other != axis))
        for axis in range(3)
    ]
    index = [np.arange(len(count)) @ count / total for count in counts]
    return (np.asarray(masks.affine, float) @ [*index, 1.0])[:3]


def _point(values: Sequence[float]) -> Point:
    return tuple(float(value) for value in values)
