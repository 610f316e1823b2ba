"""What every recipe step is made of."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from tasks.cohort.fingerprint import Fingerprint
from tasks.errors import BadCase

UNBOUNDED = 1 << 31
"""Stands for an axis whose size is not known before the image is."""

FEATURES = "features"
"""Where a step's trace holds the numbers it measured, by name; None for one an image has not."""

Shape = tuple[int, int, int]
Numbers3 = tuple[float, float, float]
Bounds = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Smallest and largest size an axis (z, y, x) can have at this point of a recipe."""


@dataclass(frozen=True)
class Image:
    """An image on its grid.

    Parameters
    ----------
    array : ndarray (z, y, x)
    affine : ndarray (4, 4), float64
        Maps index (z, y, x, 1) to LPS millimetres (x, y, z, 1).
    masks : mapping of name to ndarray (z, y, x), uint8
        What segmenting steps found, on the same grid.
    facts : mapping
        Non-identifying facts of the source that a step may need: ``modality``, ``voi``.
    """

    array: np.ndarray
    affine: np.ndarray
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


class Parameters(BaseModel):
    """Base of every step's parameters: frozen, and an unknown name is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class CaseMeasure:
    """What one training case tells a step that learns from images: numbers, never voxels."""

    case_id: str
    numbers: Mapping[str, Any]


def need_mask(image: Image, name: str) -> np.ndarray:
    """Return a mask that an earlier step made, uint8 (z, y, x).

    Raises
    ------
    BadCase
        ``no_such_mask``; says which masks there are.
    """
    if name not in image.masks:
        made = ", ".join(sorted(image.masks)) or "none"
        raise BadCase("no_such_mask", f"no earlier step made a mask {name!r}; there are: {made}")
    return image.masks[name]


def named_mask(image: Image, name: str) -> np.ndarray:
    """Return where a mask that an earlier step made holds something, bool (z, y, x).

    Raises
    ------
    BadCase
        ``no_such_mask``, or ``empty_mask`` when it holds no voxel.
    """
    inside = need_mask(image, name) > 0
    if not inside.any():
        raise BadCase("empty_mask", f"mask {name!r} holds no voxel of this image")
    return inside


def fitted_already(params: Any) -> bool:
    """Say that a step has nothing to learn from training cases."""
    return False


def next_to_nothing(params: Any) -> int:
    """Return 0 ns a voxel: the plan's figure for light steps covers such a step."""
    return 0


def by_grid(params: Any) -> bool:
    """Say that a step's geometry hangs on the grid and the masks of the image alone."""
    return False


def same_bounds(params: Any, bounds: Bounds) -> Bounds:
    """Return the bounds unchanged: the step keeps the shape."""
    return bounds


def check_measured(name: str, promised: Collection[str], trace: Mapping[str, Any]) -> None:
    """Refuse numbers that a step did not promise, or kept back: tables have one set of columns.

    Raises
    ------
    ValueError
    """
    found = trace.get(FEATURES, {})
    if found.keys() != set(promised):
        msg = (
            f"recipe step {name!r} measured {len(found)} columns where it promises "
            f"{len(promised)}: its `features` must name what its trace holds"
        )
        raise ValueError(msg)


def no_names(params: Any) -> tuple[str, ...]:
    """Say that a step makes, reads or measures nothing that has a name."""
    return ()


def own_name(params: Any) -> tuple[str, ...]:
    """Return the name of the one mask that a step makes."""
    return (params.name,)


def named(params: Any) -> tuple[str, ...]:
    """Return the name of the one mask that a step reads, if it reads one."""
    return (params.mask,) if params.mask else ()


@dataclass(frozen=True)
class Step:
    """One kind of recipe step.

    Parameters
    ----------
    version : int
        Raised whenever the step's output changes; part of every recipe id.
    parameters : type of Parameters
        Validates what the scenario says.
    apply : callable (Image, parameters) -> (Image, trace)
        ``trace`` is a JSON-able dict: all that `replay` and `invert` need.  The step may read the
        masks and facts that came in and returns only masks it made itself: `recipe.apply` takes
        the others through the step's geometry, and hands the facts on.
    replay : callable (label array, trace) -> array, optional
        The same geometry on a mask, nearest neighbour, outside is 0; None when the grid is kept.
    invert : callable (array, trace, linear) -> array, optional
        Back to the grid before the step, linear or nearest; None when the grid is kept.
    move : callable (affine, trace) -> affine, optional
        The affine after the step; None when the grid is kept.
    needs_fit : callable (parameters) -> bool
    fit : callable (parameters, Fingerprint) -> parameters, optional
        For a step that learns from the source images of the training patients.
    measure : callable (Image, parameters) -> mapping, optional
        For a step that learns from images as the steps before it leave them: JSON-able numbers of
        one training case, few and no voxels, since they leave the worker.
    learn : callable (parameters, sequence of such mappings) -> parameters, optional
        Goes with ``measure`` and takes the place of ``fit``.
    by_voxels : callable (parameters) -> bool
        Whether the new grid hangs on what the image shows, not on its grid and masks alone; then
        `replay` must move any voxels without interpolation.
    bounds : callable (parameters, Bounds) -> Bounds
        Sizes the output can have.
    voxel_ns : callable (parameters) -> int
        Nanoseconds of one core a source voxel, for the plan; 0 for what costs next to nothing.
    copies : int
        Float32 copies of the image that the step holds beyond its input and output, for the plan.
    marks : callable (parameters) -> tuple of str
        Names of the masks it makes.
    needs : callable (parameters) -> tuple of str
        Names of the masks it reads, which steps before it must have made.
    features : callable (parameters) -> tuple of str
        Names of the numbers that the step measures and leaves in its trace under `FEATURES`,
        known before any image.
    """

    version: int
    parameters: type[BaseModel]
    apply: Callable[[Image, Any], tuple[Image, dict]]
    replay: Callable[[np.ndarray, dict], np.ndarray] | None = None
    invert: Callable[[np.ndarray, dict, bool], np.ndarray] | None = None
    move: Callable[[np.ndarray, dict], np.ndarray] | None = None
    needs_fit: Callable[[Any], bool] = fitted_already
    fit: Callable[[Any, Fingerprint], BaseModel] | None = None
    measure: Callable[[Image, Any], Mapping[str, Any]] | None = None
    learn: Callable[[Any, Sequence[Mapping[str, Any]]], BaseModel] | None = None
    by_voxels: Callable[[Any], bool] = by_grid
    bounds: Callable[[Any, Bounds], Bounds] = same_bounds
    voxel_ns: Callable[[Any], int] = next_to_nothing
    copies: int = 0
    marks: Callable[[Any], tuple[str, ...]] = no_names
    needs: Callable[[Any], tuple[str, ...]] = no_names
    features: Callable[[Any], tuple[str, ...]] = no_names
