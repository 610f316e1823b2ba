"""Steps that learn from images as the steps before them leave them, one such step after another.

A histogram standard, for one, is learnt after bias correction.  So the recipe is fitted up to the
first such step, every training case goes through that part and gives a few numbers, the step
learns from the numbers, and so on to the end.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tasks.cohort.fingerprint import merge
from tasks.imaging.recipe import FittedRecipe, fit, through
from tasks.imaging.source import entry_of
from tasks.imaging.step import CaseMeasure, Image
from tasks.imaging.steps import StepConfig, find_step, needs_fingerprint

Ask = Callable[[FittedRecipe, StepConfig | None], Sequence[Any]]


def learnt(
    steps: Sequence[StepConfig],
    volume: dict[str, Any] | None,
    ask: Ask,
    channels: dict[str, Any] | None = None,
) -> FittedRecipe:
    """Fit a recipe, asking for what its steps learn from as it is needed.

    Parameters
    ----------
    steps : sequence of StepConfig
    volume : dict or None
        Which volume of a series the recipe is for.
    ask : callable (before, step) -> sequence
        With the entry of the recipe and None the `CaseFingerprint` of every training case; with
        the fitted recipe before a step and that step the `CaseMeasure` of every training case.
    channels : dict, optional
        Which channels a case has; what is learnt is learnt from the reference of each case.
    """
    entry = entry_of(steps, volume)
    fingerprint = merge(ask(entry, None)) if needs_fingerprint(steps) else None
    measured: dict[int, Sequence[CaseMeasure]] = {}
    while (index := next_to_measure(steps, measured)) is not None:
        before = fit(steps[:index], fingerprint, measured, volume)
        measured[index] = ask(before, steps[index])
    return fit(steps, fingerprint, measured, volume, channels)


def next_to_measure(
    steps: Sequence[StepConfig], measured: Mapping[int, Sequence[CaseMeasure]]
) -> int | None:
    """Return the index of the first step that still has to see training images, or None."""
    for index, config in enumerate(steps):
        step = find_step(config.step)
        if step.learn is not None and step.needs_fit(config.parameters()) and index not in measured:
            return index
    return None


def measure(
    before: FittedRecipe, config: StepConfig, image: Image, case_id: str = ""
) -> CaseMeasure:
    """Return what one training case tells a step.

    Parameters
    ----------
    before : FittedRecipe
        All steps before this one.
    config : StepConfig
        The step, which has a ``measure``.
    image : Image
        The source image of a training case.
    case_id : str
        Goes into the hash of the fitting cases.

    Raises
    ------
    BadCase
        When a step refuses the image.
    """
    seen, _ = through(before.steps, image)
    return CaseMeasure(case_id, find_step(config.step).measure(seen, config.parameters()))
