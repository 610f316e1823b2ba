"""LIDC's outlines of one CT as boxes and instances, place by place, which bounds memory."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tasks.errors import BadCase
from tasks.labels.boxes import MASK_DTYPE, MOST_BOXES, box_in_patient
from tasks.labels.lidc import Outline, Reading, Readings, consensus, parse_lidc
from tasks.labels.shapes import Box

Corners = tuple[np.ndarray, np.ndarray]
"""First index (z, y, x) of a part of the grid, and the one after its last."""


def lidc_instances(
    data: bytes, shape: Sequence[int], affine: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the readers of a CT agree on, see `tasks.labels.lidc.consensus`.

    Parameters
    ----------
    data : bytes
        The XML file.
    shape, affine
        Of the axial series (z, y, x), LPS mm.

    Returns
    -------
    mask : (z, y, x) uint8
        1 + the number of the nodule, as its readers outlined it; larger ones first.
    rows : (b, 14) float64
        Class 0, centre (3) and edges (9) in LPS mm, irrelevant or not.

    Raises
    ------
    BadCase
        ``not_of_this_series``: the file is damaged, or an outline lies on no slice or leaves the
        image. ``too_many_boxes``.
    """
    affine = np.asarray(affine, float)
    try:
        readings = parse_lidc(data)
        parts = [(_part(one, shape, affine), [one]) for one in readings.nodules]
        found = [item for place in _places(parts) for item in _agreed(readings, place, affine)]
    except ValueError as error:
        raise BadCase("not_of_this_series", str(error)) from None
    if len(found) > MOST_BOXES:
        raise BadCase("too_many_boxes", f"{len(found)} nodules where a mask numbers {MOST_BOXES}")
    mask = np.zeros(tuple(shape), MASK_DTYPE)
    for number in sorted(range(len(found)), key=lambda i: -found[i][2].sum()):
        _, part, inside = found[number]
        mask[part][inside] = number + 1
    rows = [[0.0, *box_in_patient(box).numbers, float(box.irrelevant)] for box, *_ in found]
    return mask, np.array(rows, float).reshape(-1, 14)


def _part(reading: Reading, shape: Sequence[int], affine: np.ndarray) -> Corners:
    """Return the part of the grid that holds a reading's outlines."""
    points = np.array([point for one in reading.outlines for point in one.points])
    heights = np.array([one.z_mm for one in reading.outlines])
    slices = np.rint((heights - affine[2, 3]) / affine[2, 0]).astype(int)
    low = np.array([slices.min(), points[:, 1].min(), points[:, 0].min()])
    high = np.array([slices.max(), points[:, 1].max(), points[:, 0].max()]) + 1
    # Outlines may run just outside of the image; one that is farther off is refused when filled.
    low = np.clip(low, 0, np.array(shape) - 1)
    return low, np.maximum(np.minimum(high, shape), low + 1)


def _places(parts: Sequence[tuple[Corners, list[Reading]]]) -> list[tuple[Corners, list[Reading]]]:
    """Bring readings together whose parts overlap: only they can share a voxel."""
    places: list[tuple[Corners, list[Reading]]] = []
    for (low, high), readings in parts:
        together, apart = list(readings), []
        for place in places:
            (first, last), others = place
            if (low < last).all() and (first < high).all():
                low, high = np.minimum(low, first), np.maximum(high, last)
                together = others + together
            else:
                apart.append(place)
        places = [*apart, ((low, high), together)]
    # A part that grew may have come to overlap one that was passed.
    return places if len(places) == len(parts) else _places(places)


def _agreed(
    readings: Readings, place: tuple[Corners, list[Reading]], affine: np.ndarray
) -> list[tuple[Box, tuple[slice, ...], np.ndarray]]:
    """Return box, part of the grid and voxels of each nodule of a place."""
    (low, high), here = place
    own = affine.copy()
    own[:3, 3] += affine[:3, :3] @ low
    moved = replace(readings, nodules=tuple(_moved(one, low) for one in here))
    boxes, masks = consensus(moved, tuple(high - low), own)
    part = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    return [(box, part, one.mask) for box, one in zip(boxes, masks.segments, strict=True)]


def _moved(reading: Reading, low: np.ndarray) -> Reading:
    def shift(one: Outline) -> Outline:
        return replace(one, points=tuple((x - low[2], y - low[1]) for x, y in one.points))

    return replace(reading, outlines=tuple(map(shift, reading.outlines)))
