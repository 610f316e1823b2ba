"""What a run of a scenario would do, and a scenario drafted for what is there; writes nothing."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from flows.cohorts import choose, proposed_sides
from flows.home import Home
from flows.workload import plan_in_words, voxels_of
from tasks.archive.aside import cases_aside
from tasks.archive.catalog import (
    IMAGE_KINDS,
    cases,
    quarantine,
)
from tasks.archive.commits import (
    assignments,
    part_of_case,
    recipe_for,
)
from tasks.cohort.check import class_balance, explain_problems
from tasks.cohort.draft import column_facts, draft_scenario, read_columns
from tasks.cohort.select import WITH, Cohort
from tasks.cohort.split import split_id
from tasks.evaluate.power import detectable_difference
from tasks.imaging.advice import advice
from tasks.imaging.steps import parse_steps
from tasks.scenario import Scenario


def forecast(home: Home, scenario: Scenario, source: str | None = None) -> dict[str, Any]:
    """Say what a run would do, without starting or writing anything.

    Returns
    -------
    dict
        ``funnel``, ``balance`` by side, ``notes`` for people, ``problems`` that stop a run.
    """
    from flows.planned import forecast_plans

    cohort, label_sets = choose(home, scenario, source)
    known = assignments(home.catalog, split_id(scenario.name, scenario.split))
    fresh = proposed_sides(home, scenario, cohort, known, source) if cohort.cases else []
    sides = {**known, **{row.patient_key: row for row in fresh}}
    told = {"classification": scenario.labels.classes, "detection": (WITH,) if cohort.boxes else ()}
    classes = told.get(scenario.task, ())
    found = explain_problems(
        cohort,
        sides,
        scenario.split,
        classes,
        detectable=_detectable(scenario),
        margin=scenario.gate.margin,
    )
    balance: dict[str, dict[str, int]] = {}
    for row in class_balance(cohort, sides):
        balance.setdefault(row.side, {})[row.target] = row.patients
    return {
        "scenario": scenario.name,
        "funnel": list(cohort.funnel),
        "unmatched": cohort.unmatched,
        "balance": balance,
        "notes": [
            *no_cases(cohort),
            *_work(home, scenario, cohort),
            *forecast_plans(home, scenario, cohort, sides, label_sets=label_sets),
            *advice(scenario.recipe, modalities(cohort.cases)),
            *(p.text for p in found if p.level != "error"),
        ],
        "problems": [problem.text for problem in found if problem.level == "error"],
    }


def _detectable(scenario: Scenario) -> Callable[[int], float] | None:
    """Return what a test side of so many patients can show; nothing is known of errors in units."""
    if scenario.estimates:
        return None
    return lambda patients: detectable_difference(patients, scenario.evaluate.primary)


def modalities(found: Sequence[Any]) -> set[str]:
    """Return the modalities that cases name."""
    return {str(case.facts["modality"]) for case in found if case.facts.get("modality")}


def _work(home: Home, scenario: Scenario, cohort: Cohort) -> list[str]:
    """Say how much there is to preprocess and to train."""
    lines = []
    if scenario.cohort.kind != "row" and cohort.cases:
        kept = recipe_for(home.catalog, scenario.name)
        ids = [case.case_id for case in cohort.cases]
        done = set(part_of_case(home.catalog, kept[0], ids)) if kept else set()
        if kept:
            refused = [row for row in quarantine(home.catalog) if row.recipe_id == kept[0]]
            # What was set aside is tried again by every run.
            done |= {row.case_id for row in refused} - cases_aside(home.catalog, kept[0]).keys()
            lines += several_volumes(refused)
        new = [case for case in cohort.cases if case.case_id not in done]
        voxels = sum(voxels_of(case) for case in new)
        lines.append(
            f"to preprocess: {len(new)} of {len(cohort.cases)} cases, "
            f"{voxels / 1e6:,.0f} million voxels"
        )
        lines += plan_in_words(home, scenario, new)
    lines.append(
        f"to train: {len(scenario.candidates)} candidates, {scenario.split.folds} folds each"
    )
    return lines


def no_cases(cohort: Cohort) -> list[str]:
    """Say why studies whose series are channels make no case, with the first of each reason."""
    first = {one.reason: one.detail for one in reversed(cohort.refused)}
    count = Counter(one.reason for one in cohort.refused)
    return [f"{count[why]} studies are no case, e.g. {detail}" for why, detail in first.items()]


def several_volumes(refused: Sequence[Any]) -> list[str]:
    """Say which volumes the series hold of which the scenario does not say one.

    Only reading a series tells its volumes, so this is known of what was preprocessed before.
    """
    told = [row.detail for row in refused if row.reason in ("several_volumes", "no_such_volume")]
    if not told:
        return []
    return [
        f"{len(told)} series do not hold the one volume that is meant, e.g. {told[0]}: say which "
        "with `volume` under cohort (docs/geometry.md)"
    ]


def draft(
    home: Home, name: str, labels: Path, source: str | None = None
) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Propose a scenario from the catalog and a label file.

    Returns
    -------
    str
        The scenario.
    tuple of str
        What does not match.
    tuple of str
        Steps of its recipe that do not suit a modality of the catalog.
    """
    place = home.source(source) if source else None
    found = [
        case
        for kind in IMAGE_KINDS
        for case in cases(home.catalog, kind=kind, source=place.alias if place else None)
    ]

    def pseudonym(join: str, value: str) -> str | None:
        if join == "patient":
            return home.names.patient(value, place.alias if place else "", "")
        return home.names.key(join, value)

    columns = column_facts(read_columns(labels), found, pseudonym)
    proposed = draft_scenario(name, labels.name, found, columns)
    steps = parse_steps(yaml.safe_load(proposed.text)["recipe"])
    return proposed.text, proposed.problems, advice(steps, modalities(found))
