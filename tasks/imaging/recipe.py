"""A recipe: ordered steps, fitted once on training patients, applied, replayed and undone."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from tasks.cohort.fingerprint import Fingerprint
from tasks.hashing import digest_json
from tasks.imaging.step import UNBOUNDED, Bounds, CaseMeasure, Image, Shape, Step, check_measured
from tasks.imaging.steps import StepConfig, check_order, find_step, wrong_unit
from tasks.imaging.straighten import STRAIGHTEN

DEFAULT_DTYPE = "float32"
"""Type of stored voxels unless the recipe's last step is store_as."""


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
    channels: dict[str, Any] | None = None
    """Which series make a case of several channels: `channelset.ChannelSet.to_dict`."""

    @property
    def straightens(self) -> bool:
        """Whether leaning and uneven stacks enter it as they stand."""
        return bool(self.steps) and self.steps[0].name == STRAIGHTEN

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able copy; of what is not chosen, volume or channels, nothing is said."""
        steps = [
            {"name": step.name, "version": step.version, "params": step.params}
            for step in self.steps
        ]
        chosen = {"volume": self.volume, "channels": self.channels}
        chosen = {name: said for name, said in chosen.items() if said}
        return {"steps": steps, "fitted_on": self.fitted_on, **chosen}

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> "FittedRecipe":
        """Rebuild a recipe from `to_dict`."""
        steps = tuple(FittedStep(**step) for step in body["steps"])
        return cls(steps, body["fitted_on"], body.get("volume"), body.get("channels"))


def fit(
    steps: Sequence[StepConfig],
    fingerprint: Fingerprint | None,
    measured: Mapping[int, Sequence[CaseMeasure]] | None = None,
    volume: dict[str, Any] | None = None,
    channels: dict[str, Any] | None = None,
) -> FittedRecipe:
    """Freeze the recipe.

    Parameters
    ----------
    steps : sequence of StepConfig
    fingerprint : Fingerprint or None
        Of training cases only; None will do when nothing needs it.
    measured : mapping of step index to measures, optional
        Of training cases only, for steps that learn from images; see `tasks.imaging.learning`.
        The order of the cases does not matter.
    volume : dict, optional
        Which volume of a series it is for: another volume is another recipe.
    channels : dict, optional
        Which channels a case has: other ones, or another order, are another recipe.

    Raises
    ------
    ValueError
        When what a step learns from is not given, or is of another unit than the image has by
        then; when store_as is not the last step, or straighten not the first.
    """
    check_order(steps)
    fitted, learnt_on = [], set()
    for index, config in enumerate(steps):
        step, params = find_step(config.step), config.parameters()
        if step.needs_fit(params):
            if step.learn is not None:
                cases = _measured(config.step, (measured or {}).get(index))
                params = step.learn(params, [case.numbers for case in cases])
                learnt_on.add(digest_json([case.case_id for case in cases]))
            else:
                if fingerprint is None:
                    msg = f"recipe step {config.step!r} is fitted on training cases: give a"
                    raise ValueError(f"{msg} fingerprint")
                params = step.fit(params, fingerprint)
                _check_scales(config, params, channels)
                # What ``auto`` became is known only now.
                if said := wrong_unit(steps[:index], config.step, params):
                    raise ValueError(f"recipe step {said}")
                learnt_on.add(fingerprint.case_hash)
        fitted.append(FittedStep(config.step, step.version, params.model_dump(mode="json")))
    return FittedRecipe(tuple(fitted), _one_hash(learnt_on), volume, channels)


def _check_scales(config: StepConfig, params: BaseModel, channels: dict[str, Any] | None) -> None:
    """Refuse one learnt scale for several channels; ``auto`` tells only now whether it is one."""
    if channels and getattr(params, "method", None) == "fingerprint":
        raise ValueError(
            f"recipe step {config.step!r} learns one scale from training images and channels have "
            "scales of their own: use method: nonzero_zscore"
        )


def _measured(name: str, cases: Sequence[CaseMeasure] | None) -> list[CaseMeasure]:
    if not cases:
        msg = f"recipe step {name!r} learns from training images and 0 were measured: measure some"
        raise ValueError(msg)
    return sorted(cases, key=lambda case: case.case_id)


def _one_hash(learnt_on: set[str]) -> str:
    """Return the hash of the fitting cases, or of the hashes where steps saw different ones."""
    if len(learnt_on) < 2:
        return "".join(learnt_on)
    return digest_json(sorted(learnt_on))


def ready(fitted: FittedStep) -> tuple[Step, BaseModel]:
    """Return a step and its parameters.

    Raises
    ------
    ValueError
        When it has another version than the recipe was fitted with.
    """
    step = find_step(fitted.name)
    if step.version != fitted.version:
        msg = (
            f"the recipe was fitted with version {fitted.version} of step {fitted.name!r} and this "
            f"radloop has version {step.version}: preprocess and train again"
        )
        raise ValueError(msg)
    return step, step.parameters.model_validate(fitted.params)


def is_of_today(recipe: FittedRecipe) -> bool:
    """Say whether every step still has the version that the recipe was fitted with."""
    return all(find_step(fitted.name).version == fitted.version for fitted in recipe.steps)


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
    image, traces = through(recipe.steps, image)
    array = np.ascontiguousarray(image.array, dtype=output_dtype(recipe))
    return Image(array, image.affine, image.masks, image.facts), traces


def through(steps: Iterable[FittedStep], image: Image) -> tuple[Image, tuple[dict, ...]]:
    """Do some steps, and leave the voxels in the type the last of them made; see `apply`."""
    traces = []
    for _, done, trace in walk(steps, image):
        image = done
        traces.append(trace)
    return image, tuple(traces)


def walk(steps: Iterable[FittedStep], image: Image) -> Iterator[tuple[FittedStep, Image, dict]]:
    """Do one step after the other and give each with the image after it and its trace.

    Raises
    ------
    BadCase, ValueError
        As `apply`; the steps before have been given by then.
    """
    for fitted in steps:
        step, params = ready(fitted)
        done, trace = step.apply(image, params)
        check_measured(fitted.name, step.features(params), trace)
        masks = {**_carried(step, image, trace), **done.masks}
        image = Image(done.array, done.affine, masks, image.facts)
        yield fitted, image, trace


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
        Labels by nearest neighbour, or as the step says, in their own type; probabilities linearly
        in float32.  What a crop had cut off comes back as 0.

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
    bounds = _bounds(recipe)
    if any(low != high for low, high in bounds):
        return None
    return tuple(low for low, _ in bounds)


def is_flat(recipe: FittedRecipe) -> bool:
    """Say whether every image has one slice after the recipe."""
    return _bounds(recipe)[0] == (1, 1)


def _bounds(recipe: FittedRecipe) -> Bounds:
    bounds: Bounds = ((1, UNBOUNDED),) * 3
    for fitted in recipe.steps:
        step, params = ready(fitted)
        bounds = step.bounds(params, bounds)
    return bounds


def output_dtype(recipe: FittedRecipe) -> np.dtype:
    """Return the type of the stored voxels."""
    last = recipe.steps[-1] if recipe.steps else None
    is_store_as = last is not None and last.name == "store_as"
    return np.dtype(last.params["dtype"] if is_store_as else DEFAULT_DTYPE)
