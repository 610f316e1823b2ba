"""The plan command: recipe and networks as the training images make them."""

import argparse
from typing import Any

from flows.commands.start import open_home, use_engine
from flows.console import heading
from flows.home import Home
from tasks.errors import ScenarioError


def plan(args: argparse.Namespace) -> int:
    """Print what a scenario's recipe learnt and what its networks will be."""
    from flows.planned import forecast_plans
    from flows.recipes import kept_recipe
    from tasks.cohort.fingerprint import Fingerprint
    from tasks.imaging.written import fingerprint_lines, recipe_lines

    home = open_home(args)
    scenario = home.scenario(args.scenario)
    if scenario.cohort.kind == "row":
        raise ScenarioError(f"scenario {scenario.name} has rows of a table: no image to plan from")
    source = home.source(args.source).alias if args.source else None
    if kept_recipe(home, scenario) is None:
        use_engine(home)
        from flows.fitting import fit_recipe

        fit_recipe(scenario.name, source)
    _, recipe = kept_recipe(home, scenario)
    body = _kept(home, scenario.name)
    seen = body.get("fingerprint")
    if seen:
        heading("what the training side looks like")
        for line in fingerprint_lines(Fingerprint.from_dict(seen)):
            print(f"  {line}")
    heading("recipe, frozen; say these steps in the scenario to change one")
    print("recipe:")
    for line in recipe_lines(recipe):
        print(f"  {line}")
    heading("networks")
    cohort, sides, label_sets = _sides(home, scenario, source)
    found = forecast_plans(home, scenario, cohort, sides, seen, label_sets)
    for line in found or ["planned as soon as the training images are prepared"]:
        print(f"  {line}")
    print(f"the fit stands until `radloop preprocess --refit {scenario.name}`")
    return 0


def _kept(home: Home, scenario: str) -> dict[str, Any]:
    from tasks.archive.commits import recipe_for

    found = recipe_for(home.catalog, scenario)
    return {} if found is None else found[1]


def _sides(home: Home, scenario: Any, source: str | None) -> tuple[Any, Any, Any]:
    """Return the cohort, the sides that stand or would, and the label sets."""
    from flows.cohorts import choose, proposed_sides
    from tasks.archive.commits import assignments
    from tasks.cohort.split import split_id

    cohort, label_sets = choose(home, scenario, source)
    known = assignments(home.catalog, split_id(scenario.name, scenario.split))
    fresh = proposed_sides(home, scenario, cohort, known, source) if cohort.cases else []
    return cohort, {**known, **{row.patient_key: row for row in fresh}}, label_sets
