"""What contradicts itself in what a scenario says of numbers: a regression, and beside one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tasks.evaluate.known import METRICS
from tasks.learn.candidate import nearest
from tasks.learn.estimators import ESTIMATORS
from tasks.learn.zoo import CLASSIFIERS

if TYPE_CHECKING:
    from tasks.scenario.model import Scenario

IN_UNITS = ("mae", "rmse")
"""Figures in the unit of the label: no margin suits every one."""


def number_misfits(task: str, scenario: "Scenario") -> list[str]:
    """Say what contradicts itself, each in one sentence."""
    gate, primary = scenario.gate, scenario.gate.primary or scenario.evaluate.primary
    found = [] if task == "regression" else _margin(gate.margin, primary)
    if task != "regression":
        if scenario.labels.unit is not None:
            found.append(f"labels: numbers with a unit serve no {task}; use task: regression")
        found += [one for candidate in scenario.candidates for one in _class_misfits(candidate)]
        return found + _losses(scenario.candidates)
    if scenario.labels.unit is None:
        found.append(
            "labels.unit is missing: a regression learns numbers; say their unit in UCUM, e.g. mo, "
            "or 1 where they have none"
        )
    if primary in IN_UNITS and "margin" not in gate.model_fields_set:
        found.append(
            f"gate.margin is missing: how much worse in {primary} a challenger may be hangs on the "
            f"unit ({scenario.labels.unit}); say it"
        )
    if scenario.evaluate.calibration != "none":
        found.append("evaluate.calibration is of probabilities; remove it")
    for candidate in scenario.candidates:
        found += _candidate(candidate)
    return found


def _margin(margin: float, primary: str) -> list[str]:
    low, high = METRICS[primary.partition("/")[0]].range
    if margin < 1 or (low, high) != (0, 1):
        return []
    return [f"gate.margin is {margin:g}: {primary} lies between 0 and 1, and so must the margin"]


def _losses(candidates: Sequence[Any]) -> list[str]:
    return [
        f"candidates: {one.name} has loss {one.loss}, which is of a regression; remove it"
        for one in candidates
        if one.kind == "network" and one.loss
    ]


def _candidate(candidate: Any) -> list[str]:
    """Say why a candidate cannot estimate a number."""
    if candidate.kind == "network":
        if candidate.network in CLASSIFIERS or ":" in candidate.network:
            return []
        return [
            f"candidates: {candidate.name} has network {candidate.network}, which estimates no "
            f"number; use {', '.join(CLASSIFIERS)}"
        ]
    if candidate.kind == "fusion" or ":" in candidate.estimator:
        return []
    able = [name for name, row in ESTIMATORS.items() if row.regressor]
    if candidate.estimator not in able:
        return [
            f"candidates: {candidate.name} has estimator {candidate.estimator}, which tells "
            f"classes; use {', '.join(able)}"
        ]
    row = ESTIMATORS[candidate.estimator]
    wrong = [n for n in (*candidate.params, *candidate.search) if n not in row.of_numbers]
    what = f"parameter of {candidate.estimator} for numbers"
    return [f"candidates: {candidate.name}: {nearest(what, n, row.of_numbers)}" for n in wrong]


def _class_misfits(candidate: Any) -> list[str]:
    """Say why a candidate cannot tell classes."""
    row = ESTIMATORS.get(getattr(candidate, "estimator", ""))
    if row is None or row.place:
        return []
    able = ", ".join(name for name, one in ESTIMATORS.items() if one.place)
    return [
        f"candidates: {candidate.name} has estimator {candidate.estimator}, which estimates "
        f"numbers; use {able}"
    ]
