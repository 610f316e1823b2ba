"""What in a recipe leaves images of many sizes to networks that see them whole."""

from collections.abc import Sequence
from typing import Any

from tasks.imaging.recipe import UNBOUNDED
from tasks.imaging.steps import StepConfig, find_step
from tasks.learn.zoo import OF_WHOLE_IMAGES


def size_misfits(task: str, recipe: Sequence[StepConfig], candidates: Sequence[Any]) -> list[str]:
    """Say which network would get images of many sizes, each in one sentence.

    Only a step that cuts by what an image shows (a crop to what is not 0, to a mask) makes it sure
    that sizes differ: files of one size may need no step.  Of a step of another package nothing is
    known.

    Parameters
    ----------
    task : str
    recipe : sequence of StepConfig
    candidates : sequence of candidates
    """
    networks = [one.name for one in candidates if one.kind == "network"]
    if task not in OF_WHOLE_IMAGES or not networks or any(":" in one.step for one in recipe):
        return []
    cutting, bounds = "", ((1, UNBOUNDED),) * 3
    for config in recipe:
        step, params = find_step(config.step), config.parameters()
        if step.by_voxels(params) or (step.move is not None and step.needs(params)):
            cutting = config.step
        bounds = step.bounds(params, bounds)
    if not cutting or all(low == high for low, high in bounds):
        return []
    return [
        f"recipe: {cutting} leaves every image a size of its own, and {networks[0]} sees whole "
        f"images of one size in a {task}; end the recipe with one, e.g. "
        "{step: resize, shape: [64, 96, 96]}, or pad and then crop to one shape, which keeps "
        "millimetres (recipe: auto is for segmentations and detections)"
    ]
