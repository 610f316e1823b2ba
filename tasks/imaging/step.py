"""What every recipe step is made of."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from tasks.cohort.fingerprint import Fingerprint

UNBOUNDED = 1 << 31
"""Stands for an axis whose size is not known before the image is."""

FEATURES = "features"
"""Where a step's trace holds the numbers it measured, by name; None for one an image has not."""

Shape = tuple[int, int, int]
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


def fitted_already(params: Any) -> bool:
    """Say that a step has nothing to learn from training cases."""
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


def no_features(params: Any) -> tuple[str, ...]:
    """Return no names: the step measures nothing."""
    return ()


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
    bounds : callable (parameters, Bounds) -> Bounds
        Sizes the output can have.
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
    bounds: Callable[[Any, Bounds], Bounds] = same_bounds
    features: Callable[[Any], tuple[str, ...]] = no_features
