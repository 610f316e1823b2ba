"""What the networks of a scenario will be, as far as its images are in the store already."""

from collections.abc import Mapping

from flows.console import say
from flows.home import Home
from tasks.archive.commits import Assignment, part_of_case, parts, recipe_for
from tasks.cohort.select import Cohort
from tasks.errors import StoreError
from tasks.learn.job import JobCase, TrainingJob, typical_image
from tasks.learn.planned import plan_in_words
from tasks.scenario import Scenario


def job_plans(job: TrainingJob) -> dict[str, str]:
    """Return a line a network of a job, by the candidate's name."""
    found = {}
    for name in (body["name"] for body in job.candidates if body["kind"] == "network"):
        try:
            found[name] = plan_in_words(job.plan(job.candidate(name)))
        except ValueError as error:
            found[name] = f"cannot be planned: {error}"
    return found


def say_plans(job: TrainingJob) -> None:
    """Print a line a network before it is trained."""
    for name, words in job_plans(job).items():
        say(f"  {name}: {words}")


def forecast_plans(
    home: Home, scenario: Scenario, cohort: Cohort, sides: Mapping[str, Assignment]
) -> list[str]:
    """Say what is planned from the prepared training images; nothing before there are any.

    Parameters
    ----------
    home : Home
    scenario : Scenario
    cohort : Cohort
    sides : mapping of patient key to Assignment
        Those that stand, and those that would be made.
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
    if not cases:
        return []
    try:
        shape, spacing = typical_image(home.settings.store_root, cases)
    except StoreError as error:
        # A look must also work where the store is away or damaged.
        return [f"networks cannot be planned: {error}"]
    job = TrainingJob(
        scenario=scenario.name,
        task=scenario.task,
        classes=tuple(scenario.labels.classes),
        positive=scenario.labels.positive,
        primary=scenario.evaluate.primary,
        candidates=tuple(c.model_dump(mode="json") for c in networks),
        cases=cases,
        shape=shape,
        spacing=spacing,
        recipe=kept[1]["recipe"],
    )
    return [f"network {name}: {words}" for name, words in job_plans(job).items()]
