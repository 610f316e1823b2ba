"""The brain in MR of the head, parted from scalp, skull and neck by erosion.

Between scalp and brain lie skull and CSF, dark on T1; what joins the two are vessels, nerves and
the cord, all thin.  So: a band of grey values around that of the brain, an erosion that cuts the
thin joints, the largest component, grown back within the band, gaps and holes closed, and the neck
cut off where the mask widens again below the cerebellum.  This is the
method of Brummer et al. 1993 (IEEE Trans. Med. Imaging 12(2):153-166) and Atkins and Mackiewich
1998 (IEEE Trans. Med. Imaging 17(1):98-107); the grey value of the brain is found as in BET (Smith
2002, Human Brain Mapping 17:143-155).
"""

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from tasks.errors import BadCase
from tasks.imaging.masks import planes
from tasks.imaging.masks.components import largest
from tasks.imaging.masks.grid import (
    Spacing,
    axial_spacing,
    from_axial,
    need_modality,
    to_axial,
    voxel_ml,
)
from tasks.imaging.masks.names import MaskName
from tasks.imaging.step import Image, Parameters, Step, own_name

DARKEST, BRIGHTEST = 0.6, 1.8
"""Shares of the brain's median grey value between which brain lies on T1: skull and CSF are darker,
the scalp's fat is brighter.  Enhancing tumour is brighter too, and comes back with the closing."""

ERODE_MM = 6.0
"""Cuts joints up to twice this wide: optic nerves, emissary veins, the cord (10 to 13 mm)."""

CLOSE_MM = 10.0
"""Sulci, and bright tumours or vessels at the surface, up to twice this wide are closed."""

ROBUST_PERCENTILES = (2, 98)
"""BET's range of grey values without outliers."""

HEAD_LEVEL = 0.1
"""BET's share of the robust range above which a voxel is head."""

HEAD_MM = 160.0
"""A brain lies within so much of the top of the head; neck and jaw below would move its middle."""

TOP_SHARE = 0.02
"""The head begins with the first slice of which so much is head."""

NECK_SHARE, NECK_GROWTH = 0.25, 1.25
"""Below a slice of less than this share of the widest one, what grows again by this factor is neck.
A whole brain is narrower than that in the last 2 or 3 cm, where it ends in cerebellum and cord."""

SMALLEST_BRAIN_ML = 250.0
"""A term newborn's brain holds about 350 mL; less is an eye, a ventricle or a crop of the brain."""

LARGEST_BRAIN_ML = 2200.0
"""The largest healthy adult brains hold about 1,800 mL; more has taken in scalp or neck."""


def brain(array: np.ndarray, spacing: Spacing, erode_mm: float = ERODE_MM) -> np.ndarray:
    """Find the brain.

    Parameters
    ----------
    array : ndarray
        MR of a head as `to_axial` returns it: slices from head to feet.
    spacing : tuple of float
        Of the same axes, in mm.
    erode_mm : float
        Radius of the disc that cuts brain from scalp.

    Returns
    -------
    ndarray of uint8
        Empty when nothing survives the erosion.

    Raises
    ------
    BadCase
        As `brain_level`.
    """
    middle = brain_level(array, spacing)
    band = ((array > DARKEST * middle) & (array < BRIGHTEST * middle)).view(np.uint8)
    core = largest(planes.erode(band, planes.disc(erode_mm, spacing[1:])))
    # One pixel further than the erosion, or rounded corners would be lost.
    back = planes.disc(erode_mm + max(spacing[1:]), spacing[1:])
    grown = planes.dilate(core, back) & band
    return without_neck(planes.fill(planes.close(grown, planes.disc(CLOSE_MM, spacing[1:]))))


def without_neck(mask: np.ndarray) -> np.ndarray:
    """Cut off what lies below the narrowest slice of the brain's lower end.

    Once bias is corrected, muscles of the neck are as bright as brain, and in thick slices they
    touch the cerebellum.  The brain narrows towards the cord; what widens again is neck.

    Parameters
    ----------
    mask : ndarray of uint8
        Slices from head to feet.

    Returns
    -------
    ndarray of uint8
        The same array.
    """
    areas = mask.sum(axis=(1, 2), dtype=np.int64)
    widest = int(areas.argmax())
    narrowest = None
    for below in range(widest + 1, len(areas)):
        if narrowest is None and areas[below] >= NECK_SHARE * areas[widest]:
            continue
        if narrowest is None or areas[below] < areas[narrowest]:
            narrowest = below
        elif areas[below] > NECK_GROWTH * areas[narrowest]:
            mask[narrowest + 1 :] = 0
            break
    return mask


def brain_level(array: np.ndarray, spacing: Spacing) -> float:
    """Return the brain's grey value: the median of a ball as large as the head, at its middle.

    Raises
    ------
    BadCase
        ``constant_image`` when the robust range is empty, ``brain_implausible`` when nothing is
        bright enough.
    """
    low, high = (float(value) for value in np.percentile(array, ROBUST_PERCENTILES))
    if low == high:
        share = ROBUST_PERCENTILES[1] - ROBUST_PERCENTILES[0]
        raise BadCase("constant_image", f"{share} % of the voxels are {low:g}: it shows no head")
    head = array > low + HEAD_LEVEL * (high - low)
    top = int(np.argmax(head.mean(axis=(1, 2)) > TOP_SHARE))
    bottom = top + max(1, round(HEAD_MM / spacing[0]))
    head, values = head[top:bottom], array[top:bottom]
    if not head.any():
        raise BadCase("brain_implausible", "no slice is bright over 2 % of its area: is it a head?")
    # Outliers count as much as the brightest of the robust range.
    weight = np.minimum(values, high) * head
    distance2 = np.zeros(head.shape)
    for axis, step in enumerate(spacing):
        others = tuple(other for other in range(3) if other != axis)
        places = np.arange(head.shape[axis]) * step
        centre = np.average(places, weights=weight.sum(axis=others, dtype=np.float64))
        distance2 += np.moveaxis(((places - centre) ** 2)[:, None, None], 0, axis)
    volume = np.count_nonzero(head) * float(np.prod(spacing))
    ball = distance2 < (3 * volume / (4 * np.pi)) ** (2 / 3)
    inside = values[ball & (values > low) & (values <= high)]
    if inside.size == 0:
        raise BadCase("brain_implausible", "the middle of the head is empty: is it a head?")
    return float(np.median(inside))


def _check(volume_ml: float) -> None:
    if not SMALLEST_BRAIN_ML <= volume_ml <= LARGEST_BRAIN_ML:
        detail = (
            f"the brain found holds {volume_ml:.0f} mL; plausible are {SMALLEST_BRAIN_ML:g} to "
            f"{LARGEST_BRAIN_ML:g} mL: is it a whole head?"
        )
        raise BadCase("brain_implausible", detail)


class BrainParameters(Parameters):
    """Radius in mm of the erosion that cuts brain from scalp."""

    erode_mm: float = Field(default=ERODE_MM, gt=0, le=20)
    name: MaskName = "brain"


def _brain(image: Image, params: BrainParameters) -> tuple[Image, dict]:
    need_modality(image, "brain", "MR")
    array, spacing = to_axial(image.array, image.affine), axial_spacing(image.affine)
    mask = brain(array, spacing, params.erode_mm)
    _check(np.count_nonzero(mask) * voxel_ml(image.affine))
    return Image(image.array, image.affine, {params.name: from_axial(mask, image.affine)}), {}


BRAIN = Step(version=2, parameters=BrainParameters, apply=_brain, marks=own_name)

STEPS: Mapping[str, Step] = {"brain": BRAIN}
