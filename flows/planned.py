"""What the networks of a scenario will be, as far as its images are in the store already."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flows.console import say
from flows.home import Home
from tasks.archive.commits import Assignment, PartRow, part_of_case, parts, recipe_for
from tasks.cohort.fingerprint import Fingerprint
from tasks.cohort.select import Cohort
from tasks.errors import StoreError
from tasks.imaging.recipe import FittedRecipe
from tasks.imaging.written import prepared_size
from tasks.learn.detector_plan import box_sizes
from tasks.learn.job import JobCase, TrainingJob, typical_image
from tasks.learn.planned import mirrored_sides, plan_in_words
from tasks.scenario import Scenario
from tasks.store.read import open_part


def job_plans(job: TrainingJob) -> dict[str, str]:
    """Return a line a network of a job, by the candidate's name."""
    found = {}
    for name in (body["name"] for body in job.candidates if body["kind"] == "network"):
        try:
            candidate = job.candidate(name)
            plan = job.plan(candidate)
            warning = mirrored_sides(job.classes, plan)
            seeds = f", {candidate.seeds} seeds" if candidate.seeds > 1 else ""
            found[name] = plan_in_words(plan) + seeds + (f"; {warning}" if warning else "")
        except ValueError as error:
            found[name] = f"cannot be planned: {error}"
    return found


def say_plans(job: TrainingJob) -> None:
    """Print a line a network before it is trained."""
    for name, words in job_plans(job).items():
        say(f"  {name}: {words}")


def forecast_plans(
    home: Home,
    scenario: Scenario,
    cohort: Cohort,
    sides: Mapping[str, Assignment],
    seen: Mapping[str, Any] | None = None,
    label_sets: Mapping[str, str] | None = None,
) -> list[str]:
    """Say what is planned from the prepared training images, or else from their fingerprint.

    Parameters
    ----------
    home : Home
    scenario : Scenario
    cohort : Cohort
    sides : mapping of patient key to Assignment
        Those that stand, and those that would be made.
    seen : mapping, optional
        `Fingerprint.to_dict` of the training cases; from the size of unprepared images follows
        that of prepared ones where a recipe has no other geometry than `recipe: auto`.
    label_sets : mapping of source alias to label set id, optional
        A detector is planned from the boxes that are in the store under them.
    """
    kept = recipe_for(home.catalog, scenario.name)
    networks = [c for c in scenario.candidates if c.kind == "network"]
    if kept is None or not networks:
        return []
    rows = {row.part_id: row for row in parts(home.catalog, recipe_id=kept[0])}
    patients = {key for key, row in sides.items() if row.side == "train"}
    training = [case.case_id for case in cohort.cases if case.patient_key in patients]
    found = part_of_case(home.catalog, kept[0], training)
    cases = tuple(
        JobCase(c, c, "train", 0, part_path=rows[p].path, part_digest=rows[p].digest)
        for c, p in found.items()
    )
    try:
        typical = typical_image(home.settings.store_root, cases) if cases else None
    except StoreError as error:
        # A look must also work where the store is away or damaged.
        return [f"networks cannot be planned: {error}"]
    if typical is None and seen is not None:
        recipe = FittedRecipe.from_dict(kept[1]["recipe"])
        typical = prepared_size(recipe, Fingerprint.from_dict(seen))
        cases = tuple(JobCase(c, c, "train", 0) for c in training)
    if typical is None:
        return []
    if scenario.task == "detection":
        cases = _with_boxes(home, kept[0], rows, cases, (label_sets or {}).values())
    shape, spacing = typical
    job = TrainingJob(
        scenario=scenario.name,
        task=scenario.task,
        classes=scenario.labels.answers,
        positive=scenario.labels.positive,
        primary=scenario.evaluate.primary,
        candidates=tuple(c.model_dump(mode="json") for c in networks),
        cases=cases,
        shape=shape,
        spacing=spacing,
        recipe=kept[1]["recipe"],
        regions=scenario.labels.parts,
        box_sizes=box_sizes(home.settings.store_root, cases),
    )
    return [f"network {name}: {words}" for name, words in job_plans(job).items()]


def _with_boxes(
    home: Home,
    recipe_key: str,
    rows: Mapping[str, PartRow],
    cases: Sequence[JobCase],
    label_sets: Iterable[str],
) -> tuple[JobCase, ...]:
    """Return the cases with those of their boxes that are prepared."""
    ids = [case.case_id for case in cases]
    boxes: dict[str, tuple[tuple[float, ...], ...]] = {}
    for label_set in label_sets:
        for case_id, part_id in part_of_case(home.catalog, recipe_key, ids, label_set).items():
            row = rows[part_id]
            part = open_part(home.settings.store_root, row.path, row.digest)
            boxes[case_id] = part.boxes(case_id)
    return tuple(replace(case, boxes=boxes.get(case.case_id, ())) for case in cases)
