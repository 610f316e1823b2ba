"""Bone in CT: dense seeds grown into what is less dense around them, marrow filled."""

from collections.abc import Mapping

import numpy as np
from pydantic import Field, model_validator

from tasks.errors import BadCase
from tasks.imaging.masks import planes
from tasks.imaging.masks.body import body_planes
from tasks.imaging.masks.components import label
from tasks.imaging.masks.grid import axial_spacing, from_axial, need_modality, to_axial, voxel_ml
from tasks.imaging.masks.names import MaskName
from tasks.imaging.step import Image, Parameters, Step, own_name

CORTEX_HU = 300.0
"""Cortical bone is above; contrast medium in the portal phase is below."""

SPONGE_HU = 150.0
"""Cancellous bone of adults is mostly above; organs with contrast mostly below."""

MARROW_MM2 = 400.0
"""Holes up to this area in an axial plane are marrow; a skull's inside and a ring of ribs are
larger.  The spinal canal (150 to 350 mm2) is filled where bone closes around it."""

CLOSE_MM = 2.0
"""Gaps of twice this in the cortex are closed before holes are filled."""

SMALLEST_ML = 0.5
"""Parts below this are calcified vessels, contrast, and wires."""


class BoneParameters(Parameters):
    """Seeds above ``high`` grow into all that is connected and above ``low`` (HU)."""

    low: float = Field(default=SPONGE_HU, ge=0, le=3000)
    high: float = Field(default=CORTEX_HU, ge=0, le=3000)
    close_mm: float = Field(default=CLOSE_MM, ge=0, le=10)
    smallest_ml: float = Field(default=SMALLEST_ML, ge=0, le=100)
    name: MaskName = "bone"

    @model_validator(mode="after")
    def _ordered(self) -> "BoneParameters":
        if self.low > self.high:
            raise ValueError(f"low {self.low:g} must not be above high {self.high:g}")
        return self


def bones(
    hu: np.ndarray, inside: np.ndarray, params: BoneParameters, affine: np.ndarray
) -> np.ndarray:
    """Find bone by hysteresis (Canny 1986): parts above ``low`` that hold a voxel above ``high``.

    Parameters
    ----------
    hu : ndarray
        As `to_axial` returns it, in Hounsfield units.
    inside : ndarray of uint8
        The body on the same grid; the table's metal lies outside.
    params : BoneParameters
    affine : ndarray (4, 4)
        Of the image, for millimetres.

    Returns
    -------
    ndarray of uint8
    """
    spacing = axial_spacing(affine)[1:]
    labels, sizes = label((hu > params.low) & (inside != 0))
    keep = np.zeros(sizes.size, bool)
    keep[labels[hu > params.high]] = True
    keep &= sizes * voxel_ml(affine) >= params.smallest_ml
    keep[0] = False
    mask = planes.close(keep[labels].view(np.uint8), planes.disc(params.close_mm, spacing))
    return planes.fill_small(mask, MARROW_MM2, spacing)


def _bone(image: Image, params: BoneParameters) -> tuple[Image, dict]:
    need_modality(image, "bone", "CT")
    hu = to_axial(image.array, image.affine)
    mask = bones(hu, body_planes(hu, axial_spacing(image.affine)), params, image.affine)
    if not mask.any():
        detail = (
            f"no part of {params.smallest_ml:g} mL or more reaches {params.high:g} HU: is it a CT "
            "in Hounsfield units?"
        )
        raise BadCase("bone_implausible", detail)
    return Image(image.array, image.affine, {params.name: from_axial(mask, image.affine)}), {}


BONE = Step(version=1, parameters=BoneParameters, apply=_bone, marks=own_name)

STEPS: Mapping[str, Step] = {"bone": BONE}
