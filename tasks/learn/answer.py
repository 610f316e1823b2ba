"""What a model's raw numbers become: calibrated probabilities, a class, a mask on the source."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tasks.evaluate.calibrate import apply_calibration
from tasks.evaluate.predictions import Predictions
from tasks.evaluate.studies import join_views, of_studies
from tasks.imaging.recipe import FittedRecipe, invert
from tasks.labels.regions import INSIDE, Sets, written
from tasks.learn.dataset import spacing_of
from tasks.learn.model_file import ModelSpec
from tasks.learn.postprocess import cleaned

POSITIVE = "positive"
"""Name of the operating point among a model's thresholds."""


def calibrated(spec: ModelSpec, probability: np.ndarray) -> np.ndarray:
    """Return probabilities (n, k) of cases after the calibration frozen in the model.

    Where studies are judged it was fitted on studies: a view's own are left as they are.
    """
    return probability if spec.views else _calibrated(spec, probability)


def study_probability(spec: ModelSpec, probability: np.ndarray) -> np.ndarray:
    """Return a study's probabilities (k,), calibrated, from those of its views (n, k)."""
    positive = spec.classes.index(spec.positive or spec.classes[-1])
    return _calibrated(spec, join_views(probability, spec.views, positive)[None])[0]


def calibrated_studies(
    spec: ModelSpec, views: Predictions, study_of: Mapping[str, str]
) -> Predictions:
    """Return predictions of studies, calibrated, from those of their views.

    Of a model that was made for single cases the mean of the views is taken.
    """
    found = of_studies(views, study_of, spec.views or "mean")
    if spec.views is None:
        return found
    return replace(found, probability=_calibrated(spec, found.probability))


def _calibrated(spec: ModelSpec, probability: np.ndarray) -> np.ndarray:
    return apply_calibration(spec.calibration or {"method": "none"}, probability)


def model_mask(
    spec: ModelSpec,
    recipe: FittedRecipe,
    traces: Sequence[Mapping[str, Any]],
    maps: np.ndarray,
    affine: np.ndarray,
) -> np.ndarray:
    """Return what a model outlines on the source grid, after the rules it was registered with.

    Parameters
    ----------
    spec : ModelSpec
    recipe, traces, maps
        As `source_mask`.
    affine : array (4, 4)
        Of the source grid: rules count in mm^3.
    """
    said = source_mask(recipe, traces, maps, spec.regions_out)
    return cleaned(said, spec.postprocess, spacing_of(affine))


def source_mask(
    recipe: FittedRecipe,
    traces: Sequence[Mapping[str, Any]],
    maps: np.ndarray,
    regions: Sets = (),
) -> np.ndarray:
    """Return the most probable class on the source grid, or what its regions write there.

    Each class's map is brought back alone and only the best so far is kept: all classes of a large
    volume at once would need many times its memory.

    Parameters
    ----------
    recipe : FittedRecipe
    traces : sequence of mapping
    maps : (k, z, y, x) float32 or float16
        On the grid after the recipe; background first.
    regions : Sets
        Label values of each map, where they are maps of regions.

    Returns
    -------
    (z, y, x) uint8
    """
    if regions:
        return written([_on_source(recipe, traces, one) > INSIDE for one in maps], regions)
    best = _on_source(recipe, traces, maps[0])
    found = np.zeros(best.shape, np.uint8)
    for number, probability in enumerate(maps[1:], start=1):
        here = _on_source(recipe, traces, probability)
        better = here > best
        found[better] = number
        best[better] = here[better]
    return found


def source_outline(
    recipe: FittedRecipe, traces: Sequence[Mapping[str, Any]], outline: np.ndarray
) -> np.ndarray:
    """Return an outline (z, y, x) bool of the grid after the recipe on the source grid.

    Between voxels it runs where a half is reached, so that a coarse grid leaves no steps.
    """
    return _on_source(recipe, traces, outline) > INSIDE


def _on_source(
    recipe: FittedRecipe, traces: Sequence[Mapping[str, Any]], one: np.ndarray
) -> np.ndarray:
    return invert(recipe, traces, np.asarray(one, np.float32), kind="probability")


def called(spec: ModelSpec, probability: np.ndarray) -> str:
    """Return the class at the model's operating point."""
    threshold = spec.thresholds.get(POSITIVE)
    if threshold is None or len(spec.classes) != 2:
        return spec.classes[int(probability.argmax())]
    # Where none is named it is the second, as it is for every figure.
    positive = 1 if spec.positive is None else spec.classes.index(spec.positive)
    return spec.classes[positive if probability[positive] >= threshold else 1 - positive]
