"""The patient without table, clothes and air around."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import Field

from tasks.errors import BadCase
from tasks.imaging.masks import planes
from tasks.imaging.masks.components import largest
from tasks.imaging.masks.grid import Spacing, axial_spacing, from_axial, to_axial
from tasks.imaging.masks.names import MaskName
from tasks.imaging.masks.otsu import multi_otsu_thresholds
from tasks.imaging.step import Image, Parameters, Step, own_name

SKIN_HU = -500.0
"""Half way between air (-1000 HU) and soft tissue (0 HU): where the skin's edge lies."""

TABLE_MM = 2.5
"""Sheets thinner than twice this, seen in an axial plane, are table, blanket or tube."""

SKIN_GAP_MM = 5.0
"""Breaks up to twice this in the skin of an MR (a sinus, an ear) are closed before filling."""

SMALLEST_SHARE = 0.01
"""A body of less than this share of the image is a marker or a phantom's rod, not a patient."""

GREY_CLASSES = 3
"""Foreground of MR and X-ray is all but the darkest of so many classes: of two, brain or lung often
falls to the dark one beside bright fat or bone."""


def body_planes(hu: np.ndarray, spacing: Spacing, table_mm: float = TABLE_MM) -> np.ndarray:
    """Find the patient in CT.

    Voxels above -500 HU are opened by a disc in each axial plane, the largest component is kept
    and grown back, and holes of each plane (lungs, bowel, trachea) are closed.

    Parameters
    ----------
    hu : ndarray
        As `to_axial` returns it, in Hounsfield units.
    spacing : tuple of float
        Of the same axes, in mm.
    table_mm : float
        Radius of the disc.

    Returns
    -------
    ndarray of uint8
        Empty when nothing is above -500 HU.
    """
    tissue = np.ascontiguousarray(hu > SKIN_HU).view(np.uint8)
    # Never less than a pixel, or on a coarse grid nothing would part table and back.
    reach = max(table_mm, *spacing[1:])
    core = largest(planes.erode(tissue, planes.disc(reach, spacing[1:])))
    # One pixel further than the erosion, or rounded corners would be lost.
    back = planes.disc(reach + max(spacing[1:]), spacing[1:])
    return planes.fill(planes.dilate(core, back) & tissue)


def foreground(array: np.ndarray) -> np.ndarray:
    """Return all but the darkest of three Otsu classes of an MR or X-ray image, uint8.

    The classes are those of the square root of what lies above the minimum: it draws the bright
    tail in (fat at a coil, metal), which would otherwise pull every threshold up.
    """
    root = np.sqrt(array.astype(np.float32) - np.float32(array.min()))
    threshold = multi_otsu_thresholds(root, GREY_CLASSES)[0]
    return np.ascontiguousarray(root > threshold).view(np.uint8)


class BodyParameters(Parameters):
    """How to tell body from air; ``auto`` is ``hounsfield`` for CT and ``otsu`` for all else.

    ``table_mm`` is for CT alone.
    """

    method: Literal["auto", "hounsfield", "otsu"] = "auto"
    table_mm: float = Field(default=TABLE_MM, gt=0, le=20)
    name: MaskName = "body"


def _body(image: Image, params: BodyParameters) -> tuple[Image, dict]:
    ct = image.facts.get("modality") == "CT"
    array, spacing = to_axial(image.array, image.affine), axial_spacing(image.affine)
    if params.method == "hounsfield" or (params.method == "auto" and ct):
        mask = body_planes(array, spacing, params.table_mm)
    else:
        gap = planes.disc(SKIN_GAP_MM, spacing[1:])
        mask = planes.fill(planes.close(largest(foreground(array)), gap))
    share = np.count_nonzero(mask) / mask.size
    if share < SMALLEST_SHARE:
        detail = f"the body found fills {share:.2%} of the image; {SMALLEST_SHARE:.0%} is the least"
        raise BadCase("body_implausible", detail)
    return Image(image.array, image.affine, {params.name: from_axial(mask, image.affine)}), {}


BODY = Step(version=1, parameters=BodyParameters, apply=_body, marks=own_name)

STEPS: Mapping[str, Step] = {"body": BODY}
