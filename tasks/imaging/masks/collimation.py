"""The collimated field of a radiograph: what the beam reached, between four straight shutters.

Along most of a shutter's edge the image changes within a few millimetres; anatomy is not so
straight.  So each side is looked for where most of a line changes, over lines of small tilt, and
taken only when what lies outside is nearly even: a projection of edges on candidate lines, as in a
Hough transform of four lines.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from tasks.errors import BadCase
from tasks.imaging.masks import planes
from tasks.imaging.masks.grid import need_modality, spacing_mm
from tasks.imaging.masks.names import MaskName
from tasks.imaging.step import Image, Parameters, Step, own_name

PROJECTIONS = ("CR", "DX", "MG", "RG", "RF", "XA")
"""Modalities whose images are made by a beam between shutters."""

GRID_MM = 1.0
"""Edges are looked for on pixels of about this size; finer ones are averaged."""

EDGE_MM = 3.0
"""An edge is blurred over about so much."""

SLOPES = tuple(np.tan(np.radians(np.arange(-4, 4.25, 0.5))).tolist())
"""Tilts of the shutter that are tried: up to 4 degrees either way."""

EDGE_CONTRAST = 0.05
"""Least change across an edge, as a share of the image's range without outliers."""

EDGE_SHARE = 0.8
"""Share of a line that must change.  A trunk's straight side beside air may: then air is lost."""

VOTING_SPREAD = 0.15
"""A line across (from side to side) that varies by less of the range lies in a shutter beside the
field, or in plain air: it says nothing about this edge."""

EVEN = 0.35
"""Outside a shutter values spread along a line by less than this share of what they do inside."""

DEEPEST = 0.45
"""An edge lies within this share of the image from its side."""

SMALLEST_SHARE = 0.05
"""A field below this share of the image is no radiograph."""

SHORTEST = 8
"""A view of less than so many blurred edges is too small to look for one."""

ROUNDS = 2
"""A side is looked for once more within the others: their borders cannot vote for an edge."""


@dataclass(frozen=True)
class Edge:
    """A shutter's edge: lines before ``offset + slope * (position - middle)`` are outside."""

    offset: float
    slope: float


def field(view: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Find the collimated field of one view.

    Parameters
    ----------
    view : ndarray (y, x)
    spacing : tuple of float
        (y, x) in mm.

    Returns
    -------
    ndarray (y, x) of uint8
        All ones where no shutter is found.
    """
    import cv2

    shape = tuple(
        max(1, round(size * min(1.0, step / GRID_MM)))
        for size, step in zip(view.shape, spacing, strict=True)
    )
    small = cv2.resize(view.astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA)
    low, high = np.percentile(small, (1, 99))
    small = np.clip((small - np.float32(low)) / np.float32(max(high - low, 1e-6)), 0, 1)
    inside = np.ones(shape, bool)
    for _ in range(ROUNDS):
        rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
        if not rows.size or not columns.size:
            break
        across = _between(small, slice(columns[0], columns[-1] + 1))
        along = _between(small.T, slice(rows[0], rows[-1] + 1)).T
        inside = across & along
    mask = inside.astype(np.uint8)
    return cv2.resize(mask, view.shape[::-1], interpolation=cv2.INTER_NEAREST)


def _between(lines: np.ndarray, part: slice) -> np.ndarray:
    """Return which pixels lie between the shutters at the first and the last line."""
    count, width = lines.shape
    inside = np.ones(lines.shape, bool)
    place = np.arange(width) - (part.start + part.stop - 1) / 2
    number = np.arange(count)[:, None]
    first, last = _side(lines[:, part]), _side(lines[::-1, part])
    if first is not None:
        inside &= number >= first.offset + first.slope * place
    if last is not None:
        inside &= count - 1 - number >= last.offset + last.slope * place
    return inside


def _side(lines: np.ndarray) -> Edge | None:
    """Return the edge of a shutter at the top, the one along which most of the line changes."""
    count, width = lines.shape
    reach = round(EDGE_MM / GRID_MM)
    deepest = int(DEEPEST * count)
    place = np.arange(width)
    votes = np.subtract(*np.percentile(lines, (90, 10), axis=0)) > VOTING_SPREAD
    if count < SHORTEST * reach or not votes.any():
        return None
    best, most = None, EDGE_SHARE
    for slope in sorted(SLOPES, key=abs):
        shift = np.rint(slope * (place - (width - 1) / 2)).astype(int)
        source = np.arange(deepest + reach)[:, None] + shift
        # Beyond the image a line has no value: it repeats the nearest and shows no change.
        level = lines[np.clip(source, 0, count - 1), place]
        change = level[reach:] - level[:-reach]
        agree = (np.abs(change) > EDGE_CONTRAST)[:, votes].mean(axis=1)
        at = int(agree.argmax())
        if agree[at] > most and _even(level[: at + 1], lines):
            steps = np.median(np.abs(np.diff(level[at : at + reach + 1][:, votes], axis=0)), axis=1)
            best, most = Edge(at + 1 + int(steps.argmax()), slope), agree[at]
    return best


def _even(outside: np.ndarray, lines: np.ndarray) -> bool:
    """Say whether values vary little along the lines outside, beside those of the whole view."""
    spreads = [
        np.median(np.subtract(*np.percentile(part, (90, 10), axis=1)))
        for part in (outside, lines[len(lines) // 3 : -len(lines) // 3])
    ]
    return bool(spreads[0] <= EVEN * spreads[1])


class CollimationParameters(Parameters):
    """Width in mm that is left out inside the edges: penumbra."""

    inside_mm: float = Field(default=0.0, ge=0, le=50)
    name: MaskName = "field"


def _collimation(image: Image, params: CollimationParameters) -> tuple[Image, dict]:
    need_modality(image, "collimation", *PROJECTIONS)
    spacing = spacing_mm(image.affine)[1:]
    mask = np.stack([field(view, spacing) for view in image.array])
    mask = planes.erode(mask, planes.disc(params.inside_mm, spacing))
    for view in mask:
        if view.mean() < SMALLEST_SHARE:
            detail = f"the field fills {view.mean():.1%} of a view; {SMALLEST_SHARE:.0%} is least"
            raise BadCase("field_implausible", detail)
    return Image(image.array, image.affine, {params.name: mask}), {}


COLLIMATION = Step(version=1, parameters=CollimationParameters, apply=_collimation, marks=own_name)

STEPS: Mapping[str, Step] = {"collimation": COLLIMATION}
