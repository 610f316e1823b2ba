"""What a scenario still wants made: asked before a server or a worker is started."""

from typing import Any

from flows.cohorts import Ready
from flows.console import say
from flows.home import Home
from flows.plans import plan_labels
from tasks.archive.audit import append
from tasks.archive.catalog import Case
from tasks.archive.commits import recipe_for, settled_cases
from tasks.imaging.recipe import FittedRecipe
from tasks.imaging.steps import asked_for
from tasks.store.schema import recipe_id


def kept_recipe(home: Home, ready: Ready) -> tuple[str, FittedRecipe] | None:
    """Return the scenario's newest recipe with its id, or None when it asks for another by now.

    The id is the one that today's store format gives the recipe; parts of an older format bear
    another.
    """
    kept = recipe_for(home.catalog, ready.scenario.name)
    if kept is None:
        return None
    asked = asked_for(ready.scenario.recipe, ready.scenario.cohort.volume)
    if kept[1]["asked"] != asked:
        return None
    recipe = FittedRecipe.from_dict(kept[1]["recipe"])
    return recipe_id(recipe), recipe


def cases_left(home: Home, ready: Ready, recipe_key: str) -> list[Case]:
    """Return the cohort's cases that are neither done under a recipe nor in quarantine."""
    settled = settled_cases(home.catalog, recipe_key)
    return [case for case in ready.cohort.cases if case.case_id not in settled]


def all_made(home: Home, ready: Ready) -> str | None:
    """Return the recipe's id when preprocessing has nothing to do, else None."""
    if ready.scenario.cohort.kind == "row":
        return ""
    kept = kept_recipe(home, ready)
    if kept is None or cases_left(home, ready, kept[0]):
        return None
    if ready.scenario.task == "segmentation" and plan_labels(home, ready, kept[0]):
        return None
    return kept[0]


def nothing_new(home: Home, scenario: str, recipe_key: str) -> dict[str, Any]:
    """Say and record a run that had nothing to do; it needs no worker, lease or server."""
    say("  nothing new to preprocess")
    if recipe_key:
        append(home.settings.audit_path, "preprocess", scenario=scenario, recipe_id=recipe_key)
    return {"cases": 0, "parts": 0, "quarantined": 0, "recipe_id": recipe_key}
