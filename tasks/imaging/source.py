"""What enters a recipe: the volume of a series that it is for, straightened where it says so."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

from tasks.archive.choice import parse_choice
from tasks.archive.orders import OrderCase
from tasks.archive.volume import Volume, is_cine, read_volume
from tasks.errors import BadCase
from tasks.imaging.recipe import FittedRecipe, fit, is_flat
from tasks.imaging.step import Image
from tasks.imaging.steps import StepConfig, needs_fit
from tasks.imaging.straighten import STRAIGHTEN


def read_source(recipe: FittedRecipe, case: OrderCase) -> Volume:
    """Read the volume of a case that a recipe is for.

    A leaning or uneven stack is given as it stands when the recipe begins with ``straighten``;
    else it is refused. Files that do not say their modality have the one of the catalog.

    Raises
    ------
    BadCase
        As `tasks.archive.volume.read_volume`, and ``several_images`` for a cine of which the recipe
        would make one image: by its middle, which nobody chose.
    ValueError
        As there.
    """
    choice = parse_choice(recipe.volume)
    volume = read_volume(case.kind, case.files, choice=choice, leaning=recipe.straightens)
    if is_cine(volume) and is_flat(recipe):
        frames = len(volume.array)
        raise BadCase(
            "several_images", f"a cine of {frames} frames, and the recipe makes one image"
        )
    if case.modality is None or "modality" in volume.facts:
        return volume
    return replace(volume, facts={**volume.facts, "modality": case.modality})


def source_image(volume: Volume) -> Image:
    """Return a volume as what a recipe is applied to."""
    return Image(volume.array, volume.affine, facts=volume.facts)


def entry_of(steps: Sequence[StepConfig], volume: dict[str, Any] | None) -> FittedRecipe:
    """Return what a recipe does before anything is fitted: choose, straighten, turn the volume.

    Medians of spacings say nothing while axes mean one thing in one image, another in the next. So
    a turn counts wherever it stands before the last step that learns a spacing.

    Parameters
    ----------
    steps : sequence of StepConfig
    volume : dict, optional
        `cohort.volume` of the scenario.
    """
    first = list(takewhile(lambda step: step.step in (STRAIGHTEN, "reorient"), steps))
    learning = [
        index for index, step in enumerate(steps)
        if step.step == "resample" and needs_fit([step])
    ]  # fmt: skip
    turns = steps[len(first) : max(learning, default=0)]
    return fit((*first, *(step for step in turns if step.step == "reorient")), None, volume=volume)
