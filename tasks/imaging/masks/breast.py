"""The breast in a mammogram, without markers, labels and the air beside it."""

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from tasks.errors import BadCase
from tasks.imaging.masks import planes
from tasks.imaging.masks.body import foreground
from tasks.imaging.masks.components import largest
from tasks.imaging.masks.grid import need_modality, spacing_mm
from tasks.imaging.masks.names import MaskName
from tasks.imaging.step import Image, Parameters, Step, own_name

OPEN_MM = 2.5
"""Links thinner than twice this between breast and a marker, and scratches, are cut."""

SMALLEST_SHARE, LARGEST_SHARE = 0.03, 0.95
"""Of a view's area; else it is inverted, collimated to the breast, or no mammogram."""


class BreastParameters(Parameters):
    """Radius in mm of the opening that cuts markers off."""

    open_mm: float = Field(default=OPEN_MM, ge=0, le=20)
    name: MaskName = "breast"


def _breast(image: Image, params: BreastParameters) -> tuple[Image, dict]:
    """Keep, in every view, the largest part of what Otsu parts from the air.

    The pectoral muscle stays in.  Tomosynthesis slices are views of their own.
    """
    need_modality(image, "breast", "MG")
    kernel = planes.disc(params.open_mm, spacing_mm(image.affine)[1:])
    mask = np.zeros(image.array.shape, np.uint8)
    for index, view in enumerate(image.array):
        tissue = planes.fill(foreground(view[None]))
        core = largest(planes.erode(tissue, kernel))
        mask[index] = planes.dilate(core, kernel)[0]
        share = float(mask[index].mean())
        if not SMALLEST_SHARE <= share <= LARGEST_SHARE:
            detail = (
                f"the breast found fills {share:.0%} of a view; {SMALLEST_SHARE:.0%} to "
                f"{LARGEST_SHARE:.0%} are plausible: is air dark?"
            )
            raise BadCase("breast_implausible", detail)
    return Image(image.array, image.affine, {params.name: mask}), {}


BREAST = Step(version=1, parameters=BreastParameters, apply=_breast, marks=own_name)

STEPS: Mapping[str, Step] = {"breast": BREAST}
