"""Trachea and main bronchi in CT, followed from slice to slice down to where they enter the lungs.

A round hole that persists over centimetres is the trachea; from its top the lumen is followed
towards the feet.  Where it runs together with a lung the threshold is made stricter, and where
that does not part them either, the branch ends.  The idea is the slice-wise region growing of Hu,
Hoffman and Reinhardt 2001 (IEEE Trans. Med. Imaging 20(6):490-498), section II.A.
"""

from dataclasses import dataclass

import numpy as np

from tasks.imaging.masks.grid import Spacing

LEAST_LUMEN_MM2 = 15.0
"""A newborn's trachea is 4 to 5 mm wide."""

MOST_LUMEN_MM2 = 900.0
"""An adult's trachea is at most 27 mm wide (Breatnach 1984): 570 mm2, and the carina is wider."""

LONGEST_RATIO = 2.5
"""Of width to height, either way: a trachea that breathes out or bends is flat, not a slit."""

LEAST_ROUND = 0.5
"""Share of its box that a hole fills; a disc fills 0.79."""

LEAST_LENGTH_MM = 25.0
"""Holes that persist over less are cut bowel, the oesophagus, or the very top of a lung."""

STRICTER_HU = (-700.0, -850.0, -920.0, -950.0)
"""Tried in turn where the lumen runs together with a lung; air is -1000, a lung -900 to -700 HU."""


@dataclass(frozen=True)
class _Hole:
    """A round hole of one slice, and the chain of holes it ends."""

    number: int
    length: float
    top: tuple[int, int]


def airways(air: np.ndarray, hu: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Find trachea and main bronchi.

    Parameters
    ----------
    air : ndarray of uint8
        Air inside the body, slices from head to feet.
    hu : ndarray
        Hounsfield units on the same grid.
    spacing : tuple of float
        Of these axes, in mm.

    Returns
    -------
    ndarray of uint8
        Empty where there is no trachea, as in a scan of the abdomen.
    """
    out = np.zeros(air.shape, np.uint8)
    found = _trachea(air, spacing)
    if found is None:
        return out
    first, lumen = found
    for index in range(first, len(air)):
        lumen = _next_lumen(lumen, air[index], hu[index], spacing)
        if not lumen.any():
            break
        out[index] = lumen
    return out


def _holes(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbered 4-connected parts of a plane and OpenCV's table of them."""
    import cv2

    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        np.ascontiguousarray(plane), connectivity=4
    )
    return labels, stats


def _round(stats: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Return the numbers of parts that are as large and as round as a trachea."""
    _, dy, dx = spacing
    # Columns of OpenCV: left, top, width, height, area.
    width, height, area = stats[:, 2] * dx, stats[:, 3] * dy, stats[:, 4] * dy * dx
    good = (area >= LEAST_LUMEN_MM2) & (area <= MOST_LUMEN_MM2)
    good &= area >= LEAST_ROUND * width * height
    good &= np.maximum(width, height) <= LONGEST_RATIO * np.minimum(width, height)
    good[0] = False
    return np.flatnonzero(good)


def _trachea(air: np.ndarray, spacing: Spacing) -> tuple[int, np.ndarray] | None:
    """Return the topmost slice of the longest chain of round holes, and the hole there."""
    best = _Hole(0, 0.0, (0, 0))
    before, holes = np.zeros(air.shape[1:], np.int32), {}
    for index, plane in enumerate(air):
        labels, stats = _holes(plane)
        now = {}
        for number in _round(stats, spacing).tolist():
            left, top, width, height = stats[number, :4]
            box = (slice(top, top + height), slice(left, left + width))
            above = np.bincount(before[box][labels[box] == number], minlength=1)
            above[0] = 0
            parent = holes.get(int(above.argmax()))
            length = spacing[0] + (parent.length if parent else 0.0)
            now[number] = _Hole(number, length, parent.top if parent else (index, number))
            if length > best.length:
                best = now[number]
        before, holes = labels, now
    if best.length < LEAST_LENGTH_MM:
        return None
    first, number = best.top
    return first, _holes(air[first])[0] == number


def _next_lumen(lumen: np.ndarray, air: np.ndarray, hu: np.ndarray, spacing: Spacing) -> np.ndarray:
    """Return those parts of the next slice's air below the lumen that are small enough for one."""
    most = MOST_LUMEN_MM2 / (spacing[1] * spacing[2])
    out = np.zeros(air.shape, bool)
    candidates = air != 0
    for stricter in (None, *STRICTER_HU):
        if stricter is not None:
            candidates = candidates & (hu < stricter)
        labels, stats = _holes(candidates.view(np.uint8))
        below = np.flatnonzero(np.bincount(labels[lumen]))
        below = below[below != 0]
        small = stats[below, 4] <= most
        out |= _among(labels, below[small], len(stats))
        if small.all():
            break
        # What was too large is looked at again, more strictly.
        candidates = _among(labels, below[~small], len(stats))
    return out


def _among(labels: np.ndarray, numbers: np.ndarray, count: int) -> np.ndarray:
    table = np.zeros(count, bool)
    table[numbers] = True
    return table[labels]
