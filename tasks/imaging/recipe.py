"""A recipe: ordered steps, fitted once on training patients, applied, replayed and undone."""

import difflib
import importlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from tasks.cohort.fingerprint import Fingerprint
from tasks.imaging import crop, enhance, normalise, resample, straighten
from tasks.imaging.step import UNBOUNDED, Image, Shape, Step
from tasks.imaging.straighten import STRAIGHTEN

STEPS: dict[str, Step] = {
    **enhance.STEPS,
    **normalise.STEPS,
    **resample.STEPS,
    **crop.STEPS,
    **straighten.STEPS,
}

DEFAULT_DTYPE = "float32"
"""Type of stored voxels unless the recipe's last step is store_as."""


def find_step(name: str) -> Step:
    """Return a step by its name here, or by ``module:function`` from any installed package.

    A foreign name may be a `Step` of its own, or a plain function ``(image, params) -> image``
    that keeps the grid, whose second argument is annotated with a pydantic model and whose module
    has an integer ``VERSION``.

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
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
        found = getattr(module, attribute)
    except (ImportError, AttributeError, ValueError) as error:
        msg = (
            f"recipe step {name!r} cannot be imported ({type(error).__name__}): install its package"
        )
        raise ValueError(msg) from error
    return found if isinstance(found, Step) else _foreign(name, module, found)


def _foreign(name: str, module: Any, function: Any) -> Step:
    version = getattr(module, "VERSION", None)
    if not callable(function) or not isinstance(version, int):
        msg = f"recipe step {name!r} must be a Step or a function beside an integer VERSION"
        raise ValueError(msg)
    arguments = list(inspect.signature(function).parameters)
    model = get_type_hints(function).get(arguments[1]) if len(arguments) == 2 else None
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        msg = f"recipe step {name!r} must be (image, params) with params annotated by its model"
        raise ValueError(msg)

    def run(image: Image, params: Any) -> tuple[Image, dict]:
        out = function(image, params)
        if out.array.shape != image.array.shape or not np.array_equal(out.affine, image.affine):
            msg = f"recipe step {name!r} changed the grid: make it a Step with replay and invert"
            raise ValueError(msg)
        return out, {}

    return Step(version=version, parameters=model, apply=run)


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


@dataclass(frozen=True)
class FittedStep:
    """A step whose every parameter is a number or a word."""

    name: str
    version: int
    params: dict[str, Any]


@dataclass(frozen=True)
class FittedRecipe:
    """Steps ready to apply; frozen with the hash of the cases they were fitted on."""

    steps: tuple[FittedStep, ...]
    fitted_on: str = ""
    volume: dict[str, Any] | None = None
    """Which volume of a series that holds several: `choice.VolumeChoice.to_dict`."""

    @property
    def straightens(self) -> bool:
        """Whether leaning and uneven stacks enter it as they stand."""
        return bool(self.steps) and self.steps[0].name == STRAIGHTEN

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able copy; where no volume is chosen nothing is said of it."""
        steps = [
            {"name": step.name, "version": step.version, "params": step.params}
            for step in self.steps
        ]
        chosen = {"volume": self.volume} if self.volume else {}
        return {"steps": steps, "fitted_on": self.fitted_on, **chosen}

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> "FittedRecipe":
        """Rebuild a recipe from `to_dict`."""
        steps = tuple(FittedStep(**step) for step in body["steps"])
        return cls(steps, body["fitted_on"], body.get("volume"))


def parse_steps(steps: Sequence[dict[str, Any]]) -> tuple[StepConfig, ...]:
    """Validate the recipe of a scenario.  Raises ValueError naming the nearest valid word."""
    return tuple(StepConfig.model_validate(step) for step in steps)


def needs_fit(steps: Sequence[StepConfig]) -> bool:
    """Say whether any step learns from training cases."""
    return any(find_step(step.step).needs_fit(step.parameters()) for step in steps)


def fit(
    steps: Sequence[StepConfig],
    fingerprint: Fingerprint | None,
    volume: dict[str, Any] | None = None,
) -> FittedRecipe:
    """Freeze the recipe.

    Parameters
    ----------
    steps : sequence of StepConfig
    fingerprint : Fingerprint or None
        Of training cases only; None will do when nothing needs it.
    volume : dict, optional
        Which volume of a series it is for: another volume is another recipe.

    Raises
    ------
    ValueError
        When a step needs the fingerprint and there is none, store_as is not the last step, or
        straighten not the first.
    """
    _check_order(steps)
    fitted, learnt = [], False
    for config in steps:
        step, params = find_step(config.step), config.parameters()
        if step.needs_fit(params):
            if fingerprint is None:
                msg = f"recipe step {config.step!r} is fitted on training cases: give a fingerprint"
                raise ValueError(msg)
            params, learnt = step.fit(params, fingerprint), True
        fitted.append(FittedStep(config.step, step.version, params.model_dump(mode="json")))
    return FittedRecipe(tuple(fitted), fingerprint.case_hash if learnt else "", volume)


def _check_order(steps: Sequence[StepConfig]) -> None:
    for config in steps[:-1]:
        if config.step == "store_as":
            raise ValueError("recipe step 'store_as' must be the last: move it to the end")
    for config in steps[1:]:
        if config.step == STRAIGHTEN:
            raise ValueError("recipe step 'straighten' must be the first: move it to the top")


def _ready(fitted: FittedStep) -> tuple[Step, BaseModel]:
    step = find_step(fitted.name)
    if step.version != fitted.version:
        msg = (
            f"the recipe was fitted with version {fitted.version} of step {fitted.name!r} and this "
            f"radloop has version {step.version}: preprocess and train again"
        )
        raise ValueError(msg)
    return step, step.parameters.model_validate(fitted.params)


def apply(recipe: FittedRecipe, image: Image) -> tuple[Image, tuple[dict, ...]]:
    """Do every step.

    Parameters
    ----------
    recipe : FittedRecipe
    image : Image
        (z, y, x) in real units.

    Returns
    -------
    Image
        Of `output_dtype`, with every mask that a step made, on the final grid.
    tuple of dict
        One JSON-able trace a step, for `replay` and `invert`.

    Raises
    ------
    BadCase
        When a step refuses the image.
    ValueError
        When a step has another version than the recipe was fitted with.
    """
    traces = []
    for fitted in recipe.steps:
        step, params = _ready(fitted)
        done, trace = step.apply(image, params)
        masks = {**_carried(step, image, trace), **done.masks}
        image = Image(done.array, done.affine, masks, image.facts)
        traces.append(trace)
    array = np.ascontiguousarray(image.array, dtype=output_dtype(recipe))
    return Image(array, image.affine, image.masks, image.facts), tuple(traces)


def _carried(step: Step, image: Image, trace: dict) -> dict[str, np.ndarray]:
    """Return the masks that came into a step as they are after its geometry."""
    if step.replay is None:
        return dict(image.masks)
    return {name: step.replay(mask, trace) for name, mask in image.masks.items()}


def replay(recipe: FittedRecipe, traces: Sequence[dict], label: Image) -> Image:
    """Put a mask through the same geometry; nearest neighbour, so that values are kept.

    The mask stands on the grid of the image that made ``traces``.
    """
    array, affine = label.array, label.affine
    for fitted, trace in zip(recipe.steps, traces, strict=True):
        step = find_step(fitted.name)
        if step.replay is not None:
            _check_shape(fitted.name, array.shape, trace["source_shape"])
            array, affine = step.replay(array, trace), step.move(affine, trace)
    return Image(array, affine)


def invert(
    recipe: FittedRecipe,
    traces: Sequence[dict],
    array: np.ndarray,
    *,
    kind: Literal["label", "probability"],
) -> np.ndarray:
    """Bring a prediction back to the source grid.

    Parameters
    ----------
    recipe : FittedRecipe
    traces : sequence of dict
        Of the image that was predicted.
    array : ndarray (z, y, x) or (k, z, y, x)
        On the grid after the recipe.
    kind : {"label", "probability"}
        Labels by nearest neighbour in their own type, probabilities linearly in float32.  What a
        crop had cut off comes back as 0.

    Returns
    -------
    ndarray
        On the source grid, (z, y, x) or (k, z, y, x).
    """
    if kind not in ("label", "probability"):
        raise ValueError(f"kind is {kind!r}: it must be 'label' or 'probability'")
    if array.ndim == 4:
        return np.stack([invert(recipe, traces, channel, kind=kind) for channel in array])
    for fitted, trace in reversed(tuple(zip(recipe.steps, traces, strict=True))):
        step = find_step(fitted.name)
        if step.invert is not None:
            _check_shape(fitted.name, array.shape, trace["shape"])
            array = step.invert(array, trace, kind == "probability")
    return array


def _check_shape(name: str, shape: Shape, expected: Sequence[int]) -> None:
    if tuple(shape) != tuple(expected):
        msg = f"recipe step {name!r} expects shape {tuple(expected)} and got {tuple(shape)}"
        raise ValueError(f"{msg}: these traces belong to another image")


def fixed_shape(recipe: FittedRecipe) -> Shape | None:
    """Return the one shape (z, y, x) every image has after the recipe, or None."""
    bounds = ((1, UNBOUNDED),) * 3
    for fitted in recipe.steps:
        step, params = _ready(fitted)
        bounds = step.bounds(params, bounds)
    if any(low != high for low, high in bounds):
        return None
    return tuple(low for low, _ in bounds)


def output_dtype(recipe: FittedRecipe) -> np.dtype:
    """Return the type of the stored voxels."""
    last = recipe.steps[-1] if recipe.steps else None
    is_store_as = last is not None and last.name == "store_as"
    return np.dtype(last.params["dtype"] if is_store_as else DEFAULT_DTYPE)
