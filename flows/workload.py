"""How much work cases are: what planning knows of each, and a plan before it is made."""

from collections.abc import Sequence
from typing import Any

from flows.home import Home
from flows.recipes import kept_recipe
from flows.settings import Settings
from tasks.errors import RadloopError
from tasks.imaging.recipe import fit
from tasks.imaging.steps import needs_fit
from tasks.scenario import Scenario
from tasks.store.needs import CaseNeed, too_large
from tasks.store.outlook import describe, describe_aside, outlook, refuse_what_cannot_fit
from tasks.store.plan import plan_parts
from tasks.store.schema import recipe_id
from tasks.store.sources import voxels_ms


def need_of(case: Any) -> CaseNeed:
    """Return what a case costs to prepare, by its header."""
    voxels, fast = voxels_of(case), voxels_ms(case.kind, case.facts.get("transfer_syntax"))
    reference = voxels_of(case.lead) if case.series else 0
    return CaseNeed(case.case_id, 2 * voxels, voxels, fast, reference)


def voxels_of(case: Any) -> int:
    """Return the voxels a case's header promises."""
    return sum(_voxels_of(series) for series in case.members)


def _voxels_of(series: Any) -> int:
    facts = series.facts
    # Other formats hold all their slices in one file; the others of the case are not images.
    slices = max(series.n_instances, 1) if series.kind == "dicom" else 1
    frames = (facts.get("frames") or 1) * slices
    return (facts.get("rows") or 0) * (facts.get("cols") or 0) * frames


def known_memory(settings: Settings) -> int:
    """Return the bytes of the smallest worker as far as nobody is asked, else 0."""
    return 0 if settings.dask_address else settings.worker_memory


def plan_in_words(home: Home, scenario: Scenario, new: Sequence[Any]) -> list[str]:
    """Say what a run would plan for new cases, in its own words, and whether it fits.

    Nothing is said while the recipe is still to be fitted: its sizes hang on the fit.
    """
    if not new:
        return []
    if kept := kept_recipe(home, scenario):
        _, recipe = kept
    elif needs_fit(scenario.recipe):
        return ["bytes, memory and hours are known once the recipe is fitted, by the first run"]
    else:
        cohort = scenario.cohort
        recipe = fit(scenario.recipe, None, None, cohort.volume, cohort.channels_said)
    settings, needs = home.settings, [need_of(case) for case in new]
    memory = known_memory(settings)
    large = too_large(needs, recipe, memory)
    fitting = [need for need in needs if need.case_id not in large]
    parts = plan_parts(fitting, recipe, recipe_id(recipe))
    lines = [f"  {line}" for line in describe(outlook(parts, settings.n_workers)) if parts]
    if large:
        lines.append(f"  {describe_aside(large, memory)}")
    try:
        refuse_what_cannot_fit(parts, settings.store_free_bytes, settings.scratch_free_bytes)
    except RadloopError as error:
        lines.append(f"  a run would be refused: {error}")
    return lines
