"""Both lungs in CT, with their vessels and nodules and without trachea and main bronchi."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
from pydantic import Field

from tasks.errors import BadCase
from tasks.imaging.masks import planes
from tasks.imaging.masks.airways import airways
from tasks.imaging.masks.body import body_planes
from tasks.imaging.masks.components import label
from tasks.imaging.masks.grid import (
    MM3_PER_ML,
    Spacing,
    axial_spacing,
    box_of,
    from_axial,
    need_modality,
    side_axis,
    to_axial,
    voxel_ml,
)
from tasks.imaging.masks.names import MaskName
from tasks.imaging.step import Image, Parameters, Step, own_name

LUNG_HU = -320.0
"""Lung lies below and tissue above: half way between a lung's -700 and muscle's 50 HU."""

DENSEST_HU = -450.0
"""Median above which a part is the blurred edge of skin or bowel (-500 to -320 HU), no lung."""

GAS_HU, GAS_PERCENTILE, LARGEST_GAS_ML = -960.0, 20, 500.0
"""A part up to this volume of which a fifth is emptier than this is bowel gas.  Lungs of severe
emphysema can be as empty (half below -950 HU); they are larger."""

SMALLEST_LUNGS_ML = 50.0
"""Both lungs of a term newborn hold about 100 mL; less is bowel gas, or a slice of their base."""

LARGEST_LUNGS_ML = 12_000.0
"""The largest total capacity of adults is near 10 L; more is air around the patient."""

SMALLEST_SHARE = 0.02
"""A part of less than this share of the larger lung is the pharynx, oesophagus or a bowel loop."""

ONE_LUNG_SHARE = 0.2
"""With this share of it on either side of the body's middle, a part is two lungs that touch."""

SAMPLE = 16
"""A component's percentiles are taken over every so many-th voxel."""

CLOSE_MM = 8.0
"""Gaps of twice this are closed: vessels at the hilum and nodules at the pleura are 5 to 15 mm."""


def lungs(
    hu: np.ndarray, spacing: Spacing, threshold: float, close_mm: float, side: int
) -> np.ndarray:
    """Find the lungs.

    Air inside the body (`body_planes`) without the airways (`airways`) falls into components; those
    as large as a lung and not as empty as gas are kept.  Each is closed by a disc in its axial
    planes and its holes are filled there: one lung at a time, so that the mediastinum between two
    stays out.  After Hu, Hoffman and Reinhardt 2001 (IEEE Trans. Med. Imaging 20(6):490-498).

    Parameters
    ----------
    hu : ndarray
        As `to_axial` returns it, in Hounsfield units.
    spacing : tuple of float
        Of the same axes, in mm.
    threshold : float
        Lung lies below it.
    close_mm : float
        Radius of the disc.
    side : int
        Axis from right to left, 1 or 2.

    Returns
    -------
    ndarray of uint8
        Empty when nothing is like a lung.
    """
    mask = np.zeros(hu.shape, np.uint8)
    body = body_planes(hu, spacing)
    air = body & (hu < threshold).view(np.uint8)
    kernel = planes.disc(close_mm, spacing[1:])
    # Room for the disc, so that nothing is closed against the edge of the box.
    box = box_of(air, (0, kernel.shape[0], kernel.shape[1]))
    if box is None:
        return mask
    air, hu, found = air[box], hu[box], mask[box]
    tubes = airways(air, hu, spacing)
    middle = _middle(body, side) - box[side].start
    for part in _parts(air & ~tubes, hu, math.prod(spacing) / MM3_PER_ML):
        halves = _halves(part, side, middle)
        least = ONE_LUNG_SHARE * np.count_nonzero(part)
        touching = min(np.count_nonzero(half) for half in halves) >= least
        for lung in halves if touching else (part,):
            around = box_of(lung, (0, *kernel.shape))
            closed = planes.fill(planes.close(lung[around], kernel) & ~tubes[around])
            found[around] |= closed
    return mask


def _middle(body: np.ndarray, side: int) -> int:
    """Return the index of the body's middle from right to left."""
    counts = body.sum(axis=tuple(axis for axis in range(3) if axis != side), dtype=np.int64)
    return round(float(np.average(np.arange(counts.size), weights=counts)))


def _parts(air: np.ndarray, hu: np.ndarray, ml: float) -> Iterator[np.ndarray]:
    """Yield each component that is like a lung; two lungs that touch are one."""
    labels, sizes = label(air)
    kept = []
    for number in np.argsort(-sizes, kind="stable").tolist():
        if sizes[number] <= SMALLEST_SHARE * (sizes[kept[0]] if kept else sizes.max()):
            break
        if _like_a_lung(hu[labels == number], ml):
            kept.append(number)
    for number in kept:
        yield (labels == number).view(np.uint8)


def _like_a_lung(values: np.ndarray, ml: float) -> bool:
    """Tell lung from gas and from blurred edges, by the HU of a part and the mL of a voxel."""
    sample = values[::SAMPLE]
    empty = np.percentile(sample, GAS_PERCENTILE) < GAS_HU and values.size * ml < LARGEST_GAS_ML
    return bool(np.median(sample) < DENSEST_HU and not empty)


def _halves(part: np.ndarray, side: int, middle: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut a component at the middle of the body."""
    first, second = part.copy(), part.copy()
    np.moveaxis(first, side, 0)[middle:] = 0
    np.moveaxis(second, side, 0)[:middle] = 0
    return first, second


def _check(volume_ml: float) -> None:
    if not SMALLEST_LUNGS_ML <= volume_ml <= LARGEST_LUNGS_ML:
        detail = (
            f"the lungs found hold {volume_ml:.0f} mL; plausible are {SMALLEST_LUNGS_ML:g} to "
            f"{LARGEST_LUNGS_ML:g} mL: is it a chest CT in Hounsfield units?"
        )
        raise BadCase("lung_implausible", detail)


class LungParameters(Parameters):
    """Upper limit of lung in HU, and radius of the closing in mm."""

    threshold: float = Field(default=LUNG_HU, ge=-900, le=-100)
    close_mm: float = Field(default=CLOSE_MM, ge=0, le=30)
    name: MaskName = "lung"


def _lung(image: Image, params: LungParameters) -> tuple[Image, dict]:
    need_modality(image, "lung", "CT")
    hu, spacing = to_axial(image.array, image.affine), axial_spacing(image.affine)
    mask = lungs(hu, spacing, params.threshold, params.close_mm, side_axis(image.affine))
    _check(np.count_nonzero(mask) * voxel_ml(image.affine))
    return Image(image.array, image.affine, {params.name: from_axial(mask, image.affine)}), {}


LUNG = Step(version=1, parameters=LungParameters, apply=_lung, marks=own_name)

STEPS: Mapping[str, Step] = {"lung": LUNG}
