"""The features command: what a recipe measured, as a table for other tools. Starts no server."""

import argparse
import csv
import json
from collections.abc import Iterable
from typing import Any

from flows.commands.start import open_home
from flows.home import Home

KEYS = ("case_id", "patient_key")
"""Columns before the measured ones: opaque, so that a table may be joined and split by patient."""


def features(args: argparse.Namespace) -> int:
    """Write one row a case, and beside it what each column is.

    Raises
    ------
    RadloopError
        When nothing was preprocessed yet, or the recipe measures nothing.
    """
    from flows.fitting import current_recipe
    from tasks.archive.commits import features as measured_under
    from tasks.errors import RadloopError
    from tasks.imaging.columns import explained
    from tasks.imaging.recipe import FittedRecipe

    home = open_home(args)
    scenario = home.scenario(args.scenario)
    key, body = current_recipe(home, scenario.name)
    columns = explained(FittedRecipe.from_dict(body))
    if not columns:
        msg = (
            f"the recipe of scenario {scenario.name} measures nothing: add a features step and "
            f"run `radloop preprocess {scenario.name}`"
        )
        raise RadloopError(msg)
    measured = measured_under(home.catalog, key)
    patients = _patients(home, scenario, measured)
    shown = [case_id for case_id in measured if case_id in patients]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow([*KEYS, *columns])
        for case_id in shown:
            numbers = [_cell(measured[case_id][name]) for name in columns]
            rows.writerow([case_id, patients[case_id], *numbers])
    told: dict[str, Any] = {"scenario": scenario.name, "recipe_id": key, "columns": columns}
    args.out.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(f"{len(shown)} cases, {len(columns)} columns written to {args.out}")
    return 0


def _patients(home: Home, scenario: Any, case_ids: Iterable[str]) -> dict[str, str]:
    """Return case id -> patient of the cases that still are; a grown series left its old one."""
    from flows.cohorts import cases_named

    found = cases_named(home, scenario, list(case_ids))
    return {case.case_id: case.patient_key for case in found}


def _cell(number: float | None) -> str:
    # The shortest text that reads back as the same number.
    return "" if number is None else repr(number)
