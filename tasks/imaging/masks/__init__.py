"""Classical segmentation: every step leaves the voxels alone and adds a named mask to the case."""

from collections.abc import Mapping

from tasks.imaging.masks import (
    body,
    bone,
    brain,
    breast,
    collimation,
    components,
    cut,
    lung,
    otsu,
    watershed,
)
from tasks.imaging.step import Step

STEPS: Mapping[str, Step] = {
    **body.STEPS,
    **lung.STEPS,
    **bone.STEPS,
    **brain.STEPS,
    **breast.STEPS,
    **collimation.STEPS,
    **otsu.STEPS,
    **watershed.STEPS,
    **components.STEPS,
    **cut.STEPS,
}
