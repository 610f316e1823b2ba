"""What in a scenario contradicts its channels."""

from collections.abc import Sequence
from typing import Any

from tasks.cohort.channels import ChannelSet
from tasks.imaging.steps import StepConfig, find_step
from tasks.imaging.straighten import STRAIGHTEN
from tasks.learn.zoo import JOINED


def channel_misfits(
    chosen: ChannelSet | None, recipe: Sequence[StepConfig], candidates: Sequence[Any]
) -> list[str]:
    """Say what contradicts itself, each in one sentence.

    Parameters
    ----------
    chosen : ChannelSet or None
        None where a series is a case.
    recipe : sequence of StepConfig
    candidates : sequence of NetworkCandidate or TabularCandidate
    """
    found = []
    optional = chosen.optional if chosen else ()
    for candidate in candidates:
        if getattr(candidate, "network", "") == JOINED and chosen is None:
            found.append(
                f"candidates: {candidate.name} has network {JOINED}, which joins channels, and the "
                "cohort names none; name channels under cohort, or use small_cnn"
            )
        rate = getattr(candidate, "modality_dropout", 0.0)
        if rate and not optional:
            found.append(
                f"candidates: {candidate.name} has modality_dropout {rate:g} and no channel may be "
                "missing; name the needed ones as `required` under cohort"
            )
        if candidate.kind == "network" and optional and not rate:
            found.append(
                f"candidates: {candidate.name} must learn to do without {', '.join(optional)}; "
                "give it modality_dropout, e.g. 0.3, or require every channel"
            )
    if chosen is None:
        return found
    for config in recipe:
        step = find_step(config.step)
        if config.step == STRAIGHTEN:
            found.append("recipe: straighten is for one series; channels need upright stacks")
        elif step.replay is None and _one_scale(config):
            found.append(
                f"recipe: {config.step} learns one scale from training images and channels have "
                "scales of their own; use a step that needs no fit, e.g. normalise: nonzero_zscore"
            )
    return found


def _one_scale(config: StepConfig) -> bool:
    """Say whether a step learns a scale; what ``auto`` chooses is known after the fit alone."""
    params = config.parameters()
    chosen_later = getattr(params, "method", None) == "auto"
    return find_step(config.step).needs_fit(params) and not chosen_later
