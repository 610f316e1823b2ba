"""Every recipe step by its name, and the lines of a scenario that ask for them."""

import difflib
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from tasks.hashing import digest_json
from tasks.imaging import (
    bias,
    crop,
    denoise,
    enhance,
    features,
    histogram,
    masks,
    nonlocal_means,
    normalise,
    reorient,
    resample,
    speckle,
    straighten,
    variation,
    window,
)
from tasks.imaging.foreign import foreign_step
from tasks.imaging.step import Step
from tasks.imaging.straighten import STRAIGHTEN

STEPS: dict[str, Step] = {
    **denoise.STEPS,
    **variation.STEPS,
    **nonlocal_means.STEPS,
    **speckle.STEPS,
    **window.STEPS,
    **enhance.STEPS,
    **bias.STEPS,
    **histogram.STEPS,
    **normalise.STEPS,
    **reorient.STEPS,
    **resample.STEPS,
    **crop.STEPS,
    **masks.STEPS,
    **features.STEPS,
    **straighten.STEPS,
}

OTHER_UNIT = frozenset({"window", "normalise", "histogram_standard", "log_compress"})
"""Steps that bring an image to another unit: what source images taught means nothing after them.
The others clip, smooth or sharpen within the image's own range."""


def find_step(name: str) -> Step:
    """Return a step by its name here, or by ``module:function`` from any installed package.

    Raises
    ------
    ValueError
        When there is none; names the nearest.
    """
    if name in STEPS:
        return STEPS[name]
    if ":" not in name:
        near = difflib.get_close_matches(name, STEPS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}" if near else f"known are {', '.join(sorted(STEPS))}"
        raise ValueError(f"there is no recipe step {name!r}: {hint}?")
    return foreign_step(name)


def _validated(name: str, params: dict[str, Any]) -> BaseModel:
    model = find_step(name).parameters
    for key in params:
        if key not in model.model_fields:
            near = difflib.get_close_matches(str(key), model.model_fields, n=1, cutoff=0.5)
            known = ", ".join(model.model_fields)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {known}"
            raise ValueError(f"recipe step {name!r} has no parameter {key!r}: {hint}")
    try:
        return model.model_validate(params)
    except ValidationError as error:
        first = error.errors()[0]
        place = str(first["loc"][0]) if first["loc"] else "parameters"
        message = first["msg"].removeprefix("Value error, ")
        given = f" (got {first['input']!r})" if first["loc"] and first["type"] != "missing" else ""
        raise ValueError(f"recipe step {name!r}, {place}: {message}{given}") from None


class StepConfig(BaseModel):
    """One line of a scenario's recipe: ``step`` and that step's own parameters."""

    model_config = ConfigDict(extra="allow", frozen=True)

    step: str

    @model_validator(mode="after")
    def _check(self) -> "StepConfig":
        _validated(self.step, self.model_extra or {})
        return self

    def parameters(self) -> BaseModel:
        """Return the parameters as the step's own model, defaults filled in."""
        return _validated(self.step, self.model_extra or {})


def parse_steps(steps: Sequence[dict[str, Any]]) -> tuple[StepConfig, ...]:
    """Validate the recipe of a scenario.  Raises ValueError naming the nearest valid word."""
    return tuple(StepConfig.model_validate(step) for step in steps)


def asked_for(
    steps: Sequence[StepConfig],
    volume: dict[str, Any] | None = None,
    channels: dict[str, Any] | None = None,
) -> str:
    """Return the hash of what a scenario's recipe asks for; spelt-out defaults do not count."""
    lines: list[Any] = [[s.step, s.parameters().model_dump(mode="json")] for s in steps]
    said = {"volume": volume, "channels": channels}
    return digest_json(lines + [{name: value} for name, value in said.items() if value])


def needs_fit(steps: Sequence[StepConfig]) -> bool:
    """Say whether any step learns from training cases."""
    return any(find_step(step.step).needs_fit(step.parameters()) for step in steps)


def needs_fingerprint(steps: Sequence[StepConfig]) -> bool:
    """Say whether any step learns from the fingerprint of the training cases."""
    return any(
        step.needs_fit(config.parameters()) and step.learn is None
        for config in steps
        for step in [find_step(config.step)]
    )


def check_order(steps: Sequence[StepConfig]) -> None:
    """Raise ValueError where a step that must be the first or the last stands elsewhere."""
    for config in steps[:-1]:
        if config.step == "store_as":
            raise ValueError("recipe step 'store_as' must be the last: move it to the end")
    for config in steps[1:]:
        if config.step == STRAIGHTEN:
            raise ValueError("recipe step 'straighten' must be the first: move it to the top")


def missing_masks(steps: Sequence[StepConfig]) -> list[str]:
    """Say which steps read a mask that no step before them makes, each in one sentence.

    A step of another package may make any mask, so nothing is said after one.
    """
    made: list[str] = []
    said = []
    for config in steps:
        if ":" in config.step:
            break
        step, params = find_step(config.step), config.parameters()
        for name in step.needs(params):
            if name not in made:
                there = ", ".join(made) or "none"
                said.append(
                    f"{config.step} reads mask {name!r} and no step before it makes one of that "
                    f"name; made by then: {there}"
                )
        made += step.marks(params)
    return said


def wrong_units(steps: Sequence[StepConfig]) -> list[str]:
    """Say which steps hold an image to source images although its unit is another by then."""
    said = []
    for index, config in enumerate(steps):
        params = config.parameters()
        if find_step(config.step).needs_fit(params):
            said.append(wrong_unit(steps[:index], config.step, params))
    return [sentence for sentence in said if sentence]


def wrong_unit(before: Sequence[StepConfig], name: str, params: BaseModel) -> str:
    """Say why what a step learns of source images cannot be used at its place, or nothing.

    A fingerprint is of intensities as they are read. Held to an image that a window has brought to
    0..1 it would clip nothing, and leave all of it one and the same grey.
    """
    changed = [config.step for config in before if config.step in OTHER_UNIT]
    if getattr(params, "method", None) != "fingerprint" or not changed:
        return ""
    return (
        f"{name} learns its scale from the images as they are read, and {changed[0]} before it "
        f"brings them to another: take {changed[0]} out, or use clip in its place, or method: "
        "zscore"
    )
