"""What a report on a test edition says of its scenario, cohort, model and verdict."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from flows.cohorts import Ready
from tasks.cohort.sexes import SEX, sex_of_patients, sexes_in_words
from tasks.evaluate.subgroups import FACTS, Group, subgroups
from tasks.learn.answer import POSITIVE
from tasks.learn.job import TrainingJob
from tasks.learn.model_file import ModelSpec
from tasks.serve.gate import Verdict
from tasks.serve.outcome import Scores


def step_line(step: Mapping[str, Any]) -> str:
    """Return a step of a recipe for people: its name and the settings that it has."""
    params = (f"{key} {value}" for key, value in step["params"].items() if value is not None)
    return f"{step['name']}: {', '.join(params)}".removesuffix(": ")


def groups_of_test(ready: Ready, scores: Scores, threshold: float | None) -> list[Group]:
    """Return the test figures by sex, age, site and scanner, and by what the scenario names."""
    values = facts_of_scored(ready, scores, [*FACTS, *rule_facts(ready), *ready.told])
    config = ready.scenario.evaluate
    return subgroups(
        scores, values, threshold=threshold, replicates=config.bootstrap, seed=config.seed
    )


def rule_facts(ready: Ready) -> list[str]:
    """Return the facts that the gate's subgroup rules name."""
    return [rule.fact for rule in ready.scenario.gate.subgroups]


def facts_of_scored(ready: Ready, scores: Scores, names: Iterable[str]) -> dict[str, list[Any]]:
    """Return a value of each fact for each scored case; sex is the patient's, not the image's.

    A column of the scenario's table of groups counts as a fact.
    """
    cases = {case.case_id: case for case in ready.cohort.cases}
    own = [cases[case_id] for case_id in scores.case_ids]
    found = {}
    for name in names:
        if name in ready.told:
            found[name] = [ready.told[name].get(case.case_id) for case in own]
        else:
            found[name] = [case.facts.get(name) for case in own]
    if SEX in found:
        sexes = sex_of_patients(ready.cohort.cases)
        found[SEX] = [sexes[case.patient_key] for case in own]
    return found


def data_warnings(ready: Ready) -> tuple[str, ...]:
    """Return what the headers of the cohort contradict themselves in."""
    text = sexes_in_words(ready.cohort.cases)
    return (text,) if text else ()


def scenario_facts(ready: Ready, job: TrainingJob, uses: int) -> dict[str, Any]:
    """Return what every report on a test edition says of its scenario, cohort and split."""
    scenario = ready.scenario
    return {
        "scenario": scenario.name,
        "task": scenario.task,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "synthetic": scenario.synthetic,
        "intended_use": scenario.intended_use,
        "not_for": scenario.not_for,
        "population": scenario.population,
        "funnel": ready.cohort.funnel,
        "split": split_table(ready),
        "edition": {
            "number": ready.edition,
            "patients": len({case.patient_key for case in job.on("test")}),
            "uses": uses,
        },
        "primary": scenario.evaluate.primary,
    }


def split_table(ready: Ready) -> dict[str, dict[str, Any]]:
    """Return patients, cases and classes of each side; numbers, one a patient, are no classes."""
    table: dict[str, dict[str, Any]] = {}
    for side in ("train", "test", "reserve"):
        cases = ready.cases_on(side)
        labels = ready.scenario.labels.classes
        classes = dict.fromkeys(labels if ready.scenario.task == "classification" else (), 0)
        for case in cases:
            target = ready.cohort.targets.get(case.case_id)
            if target is not None and not ready.scenario.estimates:
                classes[target] = classes.get(target, 0) + 1
        patients = len({case.patient_key for case in cases})
        table[side] = {"patients": patients, "cases": len(cases), "classes": classes}
    return table


def operating_point(ready: Ready, spec: ModelSpec) -> dict[str, Any] | None:
    """Return how positive is called, and where that was chosen."""
    if POSITIVE not in spec.thresholds:
        return None
    if spec.task == "detection":
        how = ready.scenario.evaluate.findings.settled(spec.of_pictures)
        return {
            "findings are shown from": spec.thresholds[POSITIVE],
            "rule": how.rule,
            "false alarms a scan at most": how.at_most if how.rule == "false_alarms" else None,
            "overlap (IoU) of ap": how.iou,
            "chosen on": "out-of-fold findings of the training side",
        }
    rule = ready.scenario.evaluate.operating_point
    return {
        "rule": rule.rule,
        "at least": rule.at_least,
        "threshold": spec.thresholds[POSITIVE],
        "chosen on": "out-of-fold predictions of the training side",
    }


def start_of(spec: ModelSpec) -> dict[str, str]:
    """Return what a network started from, when it was a file of the user's."""
    if spec.plan is None or spec.plan.weights_sha256 is None:
        return {}
    trained = "head only" if spec.plan.freeze else "all layers"
    return {"started from weights, SHA-256": spec.plan.weights_sha256, "trained": trained}


def after_the_network(spec: ModelSpec) -> dict[str, str]:
    """Return what is done to masks after the network, where anything is."""
    told = "; ".join(rule.words for rule in spec.postprocess)
    return {"done to masks, chosen out of fold": told} if told else {}


def judged_as(spec: ModelSpec) -> str | None:
    """Return what every figure is of, where it is not of single cases."""
    ways = {"mean": "mean", "max": "highest probability"}
    return f"studies, by the {ways[spec.views]} of their views" if spec.views else None


def not_done(spec: ModelSpec) -> tuple[str, ...]:
    """Say what of a report there is not yet for a detection or a regression."""
    if spec.task == "regression":
        return ("Random labels are not tried for a regression.",)
    if spec.task != "detection":
        return ()
    return (
        "Missing sequences are not measured for a detection. Scores are not calibrated "
        "probabilities.",
    )


def next_steps(verdict: Verdict, scenario: str) -> tuple[str, ...]:
    """Return what a person may do now."""
    if verdict.action == "promote":
        return (f"radloop predict {scenario} SOURCE --out DIR applies this model",)
    if verdict.needed_patients:
        return (f"about {verdict.needed_patients} test patients would decide this",)
    if verdict.against == "champion":
        return ("the present champion stays",)
    return ("there is still no champion: improve candidates or data and train again",)
