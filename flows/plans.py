"""Which parts are to be made: a plan that outlives a killed run, so that it finds its staging."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.cohorts import Ready
from flows.home import Home
from flows.workload import need_of
from tasks.archive.catalog import Case
from tasks.archive.commits import part_of_case, parts
from tasks.imaging.recipe import FittedRecipe
from tasks.store.plan import PartPlan, plan_parts
from tasks.store.schema import part_id


@dataclass(frozen=True)
class LabelPart:
    """A label part to be made: some of an image part's cases, masked by one label set."""

    part_id: str
    image_part_id: str
    image_path: str
    label_set_id: str
    case_ids: tuple[str, ...]


def plan_images(
    home: Home, scenario: str, recipe_key: str, recipe: FittedRecipe, pending: Sequence[Case]
) -> tuple[PartPlan, ...]:
    """Plan the pending cases, taking up the parts an interrupted run had planned.

    Staging and part ids hang on which cases a part holds, so a plan once made is kept until its
    parts are committed: another cut of the same cases would leave half-made parts behind.
    """
    left = {case.case_id: case for case in pending}
    kept = []
    for part in kept_plan(home, scenario, recipe_key):
        if part.case_ids and left.keys() >= set(part.case_ids):
            kept.append(part)
            for case_id in part.case_ids:
                del left[case_id]
    fresh = (
        plan_parts([need_of(case) for case in left.values()], recipe, recipe_key) if left else ()
    )
    plan = (*kept, *fresh)
    path = _plan_path(home, scenario, recipe_key)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps([asdict(part) for part in plan]))
    beside.replace(path)
    return plan


def kept_plan(home: Home, scenario: str, recipe_key: str) -> tuple[PartPlan, ...]:
    """Return the parts of a scenario's last plan under a recipe, done or not."""
    try:
        rows = json.loads(_plan_path(home, scenario, recipe_key).read_text())
    except FileNotFoundError:
        return ()
    return tuple(PartPlan(**{**row, "case_ids": tuple(row["case_ids"])}) for row in rows)


def _plan_path(home: Home, scenario: str, recipe_key: str) -> Path:
    # Two scenarios with one recipe share its key.
    return home.settings.home / "plans" / scenario / f"{recipe_key}.json"


def plan_labels(home: Home, ready: Ready, recipe_key: str) -> tuple[LabelPart, ...]:
    """Plan the masks and boxes that are not in the store yet, on the grids of their image parts.

    What could not be read is planned again: people mend masks.
    """
    labelled = ready.cohort.masks.keys() | ready.cohort.boxes.keys()
    source_of = {c.case_id: c.source for c in ready.cohort.cases if c.case_id in labelled}
    images = parts(home.catalog, recipe_id=recipe_key, kind="image")
    plan = []
    for alias, label_set in ready.label_sets.items():
        ours = {case_id for case_id, source in source_of.items() if source == alias}
        missing = ours - part_of_case(home.catalog, recipe_key, ours, label_set).keys()
        for row in images:
            ids = tuple(case_id for case_id in row.case_ids if case_id in missing)
            if ids:
                key = part_id(ids, recipe_key, "label", label_set)
                plan.append(LabelPart(key, row.part_id, row.path, label_set, ids))
    return tuple(sorted(plan, key=lambda part: part.part_id))
