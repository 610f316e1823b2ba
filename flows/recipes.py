"""The recipe a scenario was last prepared with, when it is still the one that is asked for."""

from flows.home import Home
from tasks.archive.commits import recipe_for
from tasks.imaging.recipe import FittedRecipe, is_of_today
from tasks.imaging.steps import asked_for
from tasks.scenario import Scenario
from tasks.store.schema import recipe_id


def kept_recipe(home: Home, scenario: Scenario) -> tuple[str, FittedRecipe] | None:
    """Return a scenario's newest recipe with its id, or None when it asks for another by now.

    It does so too when a step has another version than it was fitted with: its images would be
    others. The id is the one that today's store format gives the recipe; parts of an older format
    bear another.
    """
    kept, cohort = recipe_for(home.catalog, scenario.name), scenario.cohort
    asked = asked_for(scenario.recipe, cohort.volume, cohort.channels_said)
    if kept is None or kept[1]["asked"] != asked:
        return None
    recipe = FittedRecipe.from_dict(kept[1]["recipe"])
    if not is_of_today(recipe):
        return None
    return recipe_id(recipe), recipe
