"""The preview command: what a recipe does to a few cases, as pictures. Starts no server."""

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import Any

from flows.commands.start import open_home
from flows.home import Home
from tasks.errors import BadCase, ScenarioError

FIT_CASES = 16
"""Training cases a recipe is fitted on for a preview when nothing was preprocessed yet."""


def preview(args: argparse.Namespace) -> int:
    """Write a contact sheet of the first cases of a scenario."""
    from flows.cohorts import choose
    from flows.forecast import modalities
    from tasks.imaging.advice import advice
    from tasks.serve.preview import write_preview

    home = open_home(args)
    place = home.source(args.source, register=False).alias if args.source else None
    scenario = home.scenario(args.scenario, keep=False)
    if scenario.cohort.kind == "row":
        raise ScenarioError(f"scenario {scenario.name} has rows of a table: there is no image")
    cohort, _ = choose(home, scenario, place)
    found = sorted((*cohort.cases, *cohort.unlabelled), key=lambda case: case.case_id)
    if not found:
        funnel = "; ".join(f"{text}: {count}" for text, count in cohort.funnel)
        raise ScenarioError(f"scenario {scenario.name} has no case to show ({funnel})")
    chosen = found[: args.cases]
    recipe, fitted = _recipe(home, scenario, cohort, place)
    sheets = list(_sheets(home, chosen, recipe))
    out = args.out or home.settings.home / "previews" / f"{scenario.name}.html"
    write_preview(
        out,
        sheets,
        title=scenario.title,
        scenario=scenario.name,
        synthetic=scenario.synthetic,
        fitted=fitted,
        warnings=advice(scenario.recipe, modalities(found)),
    )
    refused = sum(bool(sheet.problem) for sheet in sheets)
    print(f"{out}: {len(sheets)} of {len(found)} cases, {refused} refused")
    return 0


def _recipe(home: Home, scenario: Any, cohort: Any, place: str | None) -> tuple[Any, str]:
    """Return the frozen recipe when there is one, else one fitted here on some training cases."""
    from flows.recipes import kept_recipe
    from tasks.imaging.recipe import fit
    from tasks.imaging.steps import needs_fit

    if kept := kept_recipe(home, scenario):
        return kept[1], f"Recipe {kept[0][:12]} of the store."
    if not needs_fit(scenario.recipe):
        entry = scenario.cohort.volume, scenario.cohort.channels_said
        return fit(scenario.recipe, None, None, *entry), "Nothing in it is learnt from data."
    cases = _training(home, scenario, cohort, place)[:FIT_CASES]
    if not cases:
        raise ScenarioError(f"scenario {scenario.name} has no training case to fit its recipe on")
    recipe = _fit_here(home, scenario, cases, cohort.masks)
    return recipe, f"Fitted for this page on {len(cases)} training cases; not kept."


def _fit_here(home: Home, scenario: Any, cases: Sequence[Any], masks: Any) -> Any:
    from flows.orders import orders_of
    from tasks.archive.orders import WorkOrder
    from tasks.imaging.learning import learnt
    from tasks.store.fill import fingerprint_order, measure_order

    files = tuple(orders_of(home, cases, masks, named=scenario.labels.named))
    order = WorkOrder("preview", "", files)
    return learnt(
        scenario.recipe,
        scenario.cohort.volume,
        lambda before, step: (
            measure_order(order, before, step) if step else fingerprint_order(order, before)
        ),
        scenario.cohort.channels_said,
    )


def _training(home: Home, scenario: Any, cohort: Any, place: str | None) -> list[Any]:
    """Return the cases of training patients; decides nothing that is kept."""
    from flows.cohorts import proposed_sides
    from tasks.archive.commits import assignments
    from tasks.cohort.split import split_id

    known = assignments(home.catalog, split_id(scenario.name, scenario.split))
    fresh = proposed_sides(home, scenario, cohort, known, place) if cohort.cases else []
    sides = {**known, **{row.patient_key: row for row in fresh}}
    return [case for case in cohort.cases if sides[case.patient_key].side == "train"]


def _sheets(home: Home, cases: Sequence[Any], recipe: Any) -> Iterator[Any]:
    from flows.console import progress
    from flows.orders import orders_of
    from tasks.imaging.channels import lay
    from tasks.serve.preview import CaseSheet, case_sheet, with_channels

    with progress("cases", total=len(cases), unit="cases") as advance:
        for number, order in enumerate(orders_of(home, cases), start=1):
            started = time.perf_counter()
            try:
                laid = lay(recipe, order)
            except BadCase as bad:
                yield CaseSheet(order.case_id, (), {}, {}, str(bad))
            else:
                seconds, certificate = time.perf_counter() - started, laid.volume.certificate
                reference = next(iter(laid.images.values()))
                sheet = case_sheet(order.case_id, reference, recipe, certificate, seconds)
                yield with_channels(sheet, laid, recipe)
            advance(number, len(cases))
