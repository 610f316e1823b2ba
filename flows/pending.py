"""What a scenario still wants made: asked before a server or a worker is started."""

from typing import Any

from flows.cohorts import Ready
from flows.console import say
from flows.home import Home
from flows.plans import plan_labels
from flows.recipes import kept_recipe
from flows.workload import known_memory, need_of
from tasks.archive.aside import cases_aside, set_aside
from tasks.archive.audit import append
from tasks.archive.catalog import Case
from tasks.archive.commits import settled_cases, want_cases
from tasks.archive.refused import put_refused
from tasks.cohort.channels import MISSING, SEVERAL
from tasks.errors import RadloopError
from tasks.imaging.recipe import FittedRecipe
from tasks.store.needs import too_large
from tasks.store.outlook import describe_aside, memory_detail


def cases_left(home: Home, ready: Ready, recipe_key: str) -> list[Case]:
    """Return the cohort's cases that are neither done under a recipe nor in quarantine."""
    settled = settled_cases(home.catalog, recipe_key)
    return [case for case in ready.cohort.cases if case.case_id not in settled]


def take_up(
    home: Home, ready: Ready, recipe_key: str, recipe: FittedRecipe, memory: int
) -> tuple[list[Case], int]:
    """Want the cases that are left, and set those aside that the smallest worker cannot hold.

    Studies whose series do not make a case go into quarantine with their reason.

    Parameters
    ----------
    home : Home
    ready : Ready
    recipe_key : str
    recipe : FittedRecipe
    memory : int
        Bytes of the smallest worker, 0 when it has no limit.

    Returns
    -------
    list of Case
        Those to be made.
    int
        How many were set aside.

    Raises
    ------
    RadloopError
        When no case of the cohort fits.
    """
    left = cases_left(home, ready, recipe_key)
    ids = [case.case_id for case in left]
    want_cases(home.catalog, recipe_key, ids)
    if ready.scenario.cohort.channels:
        refused = [(one.case_id, one.reason, one.detail) for one in ready.cohort.refused]
        put_refused(home.catalog, recipe_key, (MISSING, SEVERAL), refused)
    large = too_large(map(need_of, left), recipe, memory)
    details = {case_id: memory_detail(needed, memory) for case_id, needed in large.items()}
    set_aside(home.catalog, recipe_key, ids, details)
    if large:
        told = describe_aside(large, memory)
        if len(large) == len(ready.cohort.cases):
            raise RadloopError(f"no case fits into a worker, {told}")
        say(f"  {told}")
    return [case for case in left if case.case_id not in large], len(large)


def all_made(home: Home, ready: Ready) -> str | None:
    """Return the recipe's id when preprocessing has nothing to do, else None.

    Cases that were set aside are nothing to do while this machine's workers are as small.
    """
    if ready.scenario.cohort.kind == "row":
        return ""
    kept = kept_recipe(home, ready.scenario)
    if kept is None or not _only_aside(home, ready, *kept):
        return None
    if ready.scenario.draws_labels and plan_labels(home, ready, kept[0]):
        return None
    return kept[0]


def _only_aside(home: Home, ready: Ready, recipe_key: str, recipe: FittedRecipe) -> bool:
    """Say whether no case is left, or only ones that are set aside and still too large."""
    left = cases_left(home, ready, recipe_key)
    if len(left) == len(ready.cohort.cases):
        return not left
    large = too_large(map(need_of, left), recipe, known_memory(home.settings))
    told = cases_aside(home.catalog, recipe_key).keys() if left else ()
    return all(case.case_id in large and case.case_id in told for case in left)


def nothing_new(home: Home, scenario: str, recipe_key: str) -> dict[str, Any]:
    """Say and record a run that had nothing to do; it needs no worker, lease or server."""
    say("  nothing new to preprocess")
    if aside := cases_aside(home.catalog, recipe_key):
        say(f"  {len(aside)} of the recipe's cases wait for larger workers: `radloop quarantine`")
    if recipe_key:
        append(home.settings.audit_path, "preprocess", scenario=scenario, recipe_id=recipe_key)
    return {"cases": 0, "parts": 0, "quarantined": 0, "recipe_id": recipe_key}
