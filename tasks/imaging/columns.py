"""The columns that a recipe's measuring steps give, before and after it is applied."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.imaging.features import FeaturesParameters, codes
from tasks.imaging.recipe import FittedRecipe
from tasks.imaging.step import FEATURES
from tasks.imaging.steps import StepConfig, find_step

MOST_COLUMNS = 1024
"""Numbers a case: 8 kB in the catalog, 48 kB in a part's metadata, and more than most studies have
patients."""


def columns_of(recipe: FittedRecipe | Sequence[StepConfig]) -> tuple[str, ...]:
    """Return the names of all numbers a recipe measures, in order.

    Raises
    ------
    ValueError
        When two steps give one name, there are more than `MOST_COLUMNS`, or a family's package
        is not installed.
    """
    names: list[str] = []
    for step, params in _steps(recipe):
        names += step.features(params)
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        msg = f"two features steps give the column {twice[0]!r}: give one of them another name"
        raise ValueError(msg)
    if len(names) > MOST_COLUMNS:
        msg = f"the recipe measures {len(names)} numbers a case, over {MOST_COLUMNS}: drop some"
        raise ValueError(msg)
    return tuple(names)


def _steps(recipe: FittedRecipe | Sequence[StepConfig]) -> list[tuple]:
    if isinstance(recipe, FittedRecipe):
        found = [(find_step(one.name), one.params) for one in recipe.steps]
        return [(step, step.parameters.model_validate(params)) for step, params in found]
    return [(find_step(one.step), one.parameters()) for one in recipe]


def explained(recipe: FittedRecipe) -> dict[str, dict[str, Any]]:
    """Return column -> its IBSI code and the settings it was measured with, as a paper states them.

    A step of another package gives its settings and no code.
    """
    found = {}
    for step, params in _steps(recipe):
        known = codes(params) if isinstance(params, FeaturesParameters) else {}
        settings = params.model_dump(mode="json", exclude_none=True)
        for name in step.features(params):
            found[name] = {"ibsi": known.get(name, ""), "settings": settings}
    return found


def numbers_of(traces: Sequence[Mapping]) -> dict[str, float | None]:
    """Return what the measuring steps found in one image, None for a number it does not have.

    Parameters
    ----------
    traces : sequence of mapping
        As `tasks.imaging.recipe.apply` gives them, or as a part keeps them.
    """
    found: dict[str, float | None] = {}
    for trace in traces:
        found |= trace.get(FEATURES, {})
    return found
