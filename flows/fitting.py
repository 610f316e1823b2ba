"""The recipe of a scenario, fitted once on training patients and then frozen."""

from collections.abc import Sequence
from typing import Any

from prefect import flow

from flows.cohorts import Ready, settle
from flows.console import say
from flows.home import Home, lease
from flows.orders import orders_of
from flows.policy import task
from flows.recipes import kept_recipe
from flows.runners import bounded_memory, runner, workers
from flows.settings import load_settings
from tasks.archive.catalog import Case
from tasks.archive.commits import fitting_cases, put_recipe, recipe_for
from tasks.archive.orders import WorkOrder, seal, unseal
from tasks.cohort.fingerprint import Fingerprint, merge
from tasks.errors import RadloopError
from tasks.imaging.learning import learnt
from tasks.imaging.recipe import FittedRecipe, fit
from tasks.imaging.steps import StepConfig, asked_for, needs_fit
from tasks.imaging.written import recipe_lines
from tasks.store.fill import fingerprint_order, measure_order
from tasks.store.schema import recipe_id

FINGERPRINT_CASES = 200
"""Training cases measured for a fit; medians of more hardly move."""

FINGERPRINT_BATCH = 16

LEAST_MEASURED = 0.5
"""Share of the training cases that must be measured: a fit is kept for good, and one that was made
while an archive was half away would be too."""


def _measures(
    token: bytes, before: dict[str, Any], step: dict[str, Any] | None = None
) -> list[Any]:
    """Measure images as a recipe's entry leaves them or, for a step, as all steps before it do."""
    order, recipe = unseal(token, load_settings().order_key), FittedRecipe.from_dict(before)
    with bounded_memory():
        if step is None:
            return fingerprint_order(order, recipe)
        return measure_order(order, recipe, StepConfig.model_validate(step))


measure_cases = task(_measures, name="fingerprint", retries=1)


def fitted_recipe(
    home: Home, ready: Ready, address: str, *, refit: bool = False
) -> tuple[str, FittedRecipe]:
    """Return the scenario's frozen recipe, fitting it on training patients the first time.

    A recipe whose steps, or whose choice of a volume, changed in the scenario is a new one; one
    whose steps stand is never refitted by itself, since parts and models rest on the fit.  With
    ``refit`` it is, and becomes a new generation unless the fit is the very one there was.
    """
    steps, cohort = ready.scenario.recipe, ready.scenario.cohort
    entry = cohort.volume, cohort.channels_said
    newest = recipe_for(home.catalog, ready.scenario.name)
    patients: dict[str, str] | None = {}
    seen: Fingerprint | None = None
    kept = None if refit else kept_recipe(home, ready.scenario)
    if kept:
        key, recipe = kept
        patients = fitting_cases(home.catalog, newest[0])
    else:
        if needs_fit(steps):
            recipe, patients, seen = _fitted(home, ready, address)
            for line in recipe_lines(recipe):
                say(f"    {line}")
        else:
            recipe = fit(steps, None, None, *entry)
        key = recipe_id(recipe)
    if newest and newest[0] == key:
        body = newest[1]
    else:
        # Where the store's format changed, the same fit is a new generation with its own parts.
        body = {"asked": asked_for(steps, *entry), "recipe": recipe.to_dict()}
        body |= {"fingerprint": seen.to_dict()} if seen else {}
    put_recipe(home.catalog, key, ready.scenario.name, body, recipe.fitted_on, patients)
    return key, recipe


@flow(name="fit recipe")
def fit_recipe(scenario: str, source: str | None = None) -> str:
    """Fit a scenario's recipe without preparing an image, and return the recipe's id."""
    home = Home(load_settings())
    ready = settle(home, home.scenario(scenario), source)
    with lease(home, f"preprocess {scenario}", "preprocess"), workers(home.settings) as address:
        return fitted_recipe(home, ready, address)[0]


def _fitted(
    home: Home, ready: Ready, address: str
) -> tuple[FittedRecipe, dict[str, str], Fingerprint | None]:
    """Fit a recipe on training patients: a wave for the fingerprint and one a learning step.

    Returns
    -------
    FittedRecipe
    dict of case id to patient key
        The cases that were measured, which leaves out what cannot be read.
    Fingerprint or None
        What they have in common, when a step asked for it.

    Raises
    ------
    RadloopError
        When fewer than half of the training cases can be measured.
    """
    cases = ready.cases_on("train")[:FINGERPRINT_CASES]
    patient = {case.case_id: case.patient_key for case in cases}
    measured: dict[str, str] = {}
    seen: list[Fingerprint] = []

    def ask(before: FittedRecipe, step: StepConfig | None) -> list[Any]:
        said = step.model_dump(mode="json") if step else None
        found = _measure(home, ready, cases, address, before.to_dict(), said)
        what = step.step if step else "recipe"
        if len(found) < LEAST_MEASURED * len(cases):
            raise RadloopError(
                f"{what} could be fitted on {len(found)} of {len(cases)} training cases only, and "
                "a fit is kept for good; the others cannot be read or a step refuses them: see "
                f"`radloop preview {ready.scenario.name}`, mend source or recipe and run again"
            )
        measured.update((one.case_id, patient[one.case_id]) for one in found)
        if step is None and found:
            seen.append(merge(found))
        say(f"  {what} fitted on {len(found)} of {len(cases)} training cases")
        return found

    cohort = ready.scenario.cohort
    recipe = learnt(ready.scenario.recipe, cohort.volume, ask, cohort.channels_said)
    return recipe, measured, seen[0] if seen else None


def current_recipe(home: Home, scenario: str) -> tuple[str, dict[str, Any]]:
    """Return the id and body of the recipe a scenario's parts were made with.

    Raises
    ------
    RadloopError
        When nothing was preprocessed yet.
    """
    kept = recipe_for(home.catalog, scenario)
    if kept is None:
        msg = f"nothing of scenario {scenario} is in the store; run `radloop preprocess {scenario}`"
        raise RadloopError(msg)
    return kept[0], kept[1]["recipe"]


def _measure(
    home: Home,
    ready: Ready,
    cases: Sequence[Case],
    address: str,
    before: dict[str, Any],
    step: dict[str, Any] | None,
) -> list[Any]:
    tokens = []
    for at in range(0, len(cases), FINGERPRINT_BATCH):
        batch = cases[at : at + FINGERPRINT_BATCH]
        masks, named = ready.cohort.masks, ready.scenario.labels.named
        files = tuple(orders_of(home, batch, masks, named=named))
        order = WorkOrder("fingerprint", "", files)
        tokens.append(seal(order, home.settings.order_key))
    wave = measure_wave.with_options(task_runner=runner(address))
    return [found for batch in wave(tokens, before, step) for found in batch]


@flow(name="fingerprint-wave", validate_parameters=False, persist_result=False)
def measure_wave(
    tokens: list[bytes], before: dict[str, Any], step: dict[str, Any] | None = None
) -> list[Any]:
    """Measure training cases, a sealed order a task."""
    futures = [measure_cases.submit(token, before, step) for token in tokens]
    return [future.result() for future in futures]
