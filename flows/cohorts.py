"""Who is in and on which side: the decision that preprocess, train, check and predict share."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flows.home import Home
from flows.workload import plan_in_words, voxels_of
from tasks.archive.aside import cases_aside
from tasks.archive.catalog import (
    IMAGE_KINDS,
    cases,
    label_rows,
    label_sets,
    latest_label_set,
    put_label_set,
    quarantine,
)
from tasks.archive.commits import (
    assign,
    assignments,
    editions,
    open_edition,
    part_of_case,
    recipe_for,
)
from tasks.archive.vault import get_source, project_key, recall
from tasks.cohort.check import class_balance, explain_problems
from tasks.cohort.draft import column_facts, draft_scenario, read_columns
from tasks.cohort.official import decide_sides, official_values
from tasks.cohort.select import WITH, Cohort, narrow, select
from tasks.cohort.split import FIRST_EDITION, newest_edition, split_id, split_key
from tasks.errors import ScenarioError
from tasks.evaluate.power import detectable_difference
from tasks.hashing import digest_json
from tasks.imaging.advice import advice
from tasks.imaging.steps import parse_steps
from tasks.labels.config import label_set_name
from tasks.scenario import Scenario


@dataclass(frozen=True)
class Ready:
    """A scenario with its cases, labels and sides."""

    scenario: Scenario
    cohort: Cohort
    label_sets: Mapping[str, str]
    """source alias -> label set id"""
    split: str
    edition: int
    sides: Mapping[str, Any]
    """patient_key -> Assignment"""

    def cases_on(self, side: str) -> list[Any]:
        """Cases of the patients on one side: "train", "test" (current edition) or "reserve"."""
        return [case for case in self.cohort.cases if self._stands(case, side)]

    def _stands(self, case: Any, side: str) -> bool:
        row = self.sides[case.patient_key]
        return row.side == side and (side != "test" or row.edition == self.edition)

    @property
    def hashes(self) -> dict[str, str]:
        """What the evidence hangs on: data, split, labels."""
        cases = sorted(case.case_id for case in self.cohort.cases)
        return {
            "data_hash": digest_json(cases),
            # The split's id, not its rows: these grow with every new training patient, while an
            # edition of a split never changes, and that is what makes two trainings comparable.
            "split_hash": self.split,
            "label_hash": self._label_hash,
        }

    @property
    def _label_hash(self) -> str:
        ids = sorted(self.label_sets.values())
        if len(ids) == 1:
            return ids[0]
        return digest_json(ids or sorted(self.cohort.targets.items()))


def choose(
    home: Home, scenario: Scenario, source: str | None = None
) -> tuple[Cohort, Mapping[str, str]]:
    """Select a scenario's cases and join their labels; decides nothing and writes nothing."""
    found = _label_sets(home, scenario, source)
    return select(home.catalog, scenario.cohort, scenario.labels, found, source), found


def cases_named(home: Home, scenario: Scenario, case_ids: Collection[str]) -> list[Any]:
    """Return the cases of these ids that still are, ordered by id."""
    config = scenario.cohort
    if not config.channels:
        return cases(home.catalog, kind=config.kind, case_ids=case_ids)
    together, _, _ = narrow(cases(home.catalog, kind=config.kind), config)
    wanted = set(case_ids)
    return [case for case in together if case.case_id in wanted]


def settle(home: Home, scenario: Scenario, source: str | None = None) -> Ready:
    """Choose the cohort and put every new patient on a side, for good.

    Raises
    ------
    ScenarioError
        When no case is left; the message holds the funnel.
    """
    cohort, chosen_sets = choose(home, scenario, source)
    chosen_sets = _as_read(home, scenario, chosen_sets)
    if not cohort.cases:
        funnel = "; ".join(f"{text}: {count}" for text, count in cohort.funnel)
        msg = f"scenario {scenario.name} has no labelled case ({funnel}); see `radloop check`"
        raise ScenarioError(msg)
    split = split_id(scenario.name, scenario.split)
    known = assignments(home.catalog, split)
    fresh = proposed_sides(home, scenario, cohort, known, source)
    if fresh:
        assign(home.catalog, split, fresh)
        known = assignments(home.catalog, split)
    # The first, or one whose patients were moved by a command that was killed before it opened it.
    newest = max(newest_edition(known), FIRST_EDITION)
    if newest not in {edition.edition for edition in editions(home.catalog, split)}:
        tested = sum(row.side == "test" and row.edition == newest for row in known.values())
        open_edition(home.catalog, split, newest, tested)
    return Ready(scenario, cohort, chosen_sets, split, newest_edition(known), known)


def proposed_sides(
    home: Home,
    scenario: Scenario,
    cohort: Cohort,
    known: Mapping[str, Any],
    source: str | None = None,
) -> list[Any]:
    """Return the assignments that new patients would get; writes nothing."""
    patients = cohort.patient_facts()
    public = scenario.split.key == "public"
    new = [patient for patient in patients if patient not in known]
    # Pseudonyms differ from project to project; the public ranking must not.
    tokens = {patient: recall(home.vault, "patient", patient) for patient in new} if public else {}
    return decide_sides(
        known,
        patients,
        scenario.split,
        split_key(scenario.split, project_key(home.vault)),
        WITH if scenario.task == "detection" else scenario.labels.positive,
        file_values=_split_file(home, scenario, source, cohort),
        tokens={patient: token for patient, token in tokens.items() if token},
    )


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


def _split_file(
    home: Home, scenario: Scenario, source: str | None, cohort: Cohort
) -> dict[str, list[str]] | None:
    """Read the file of an official split, one beside each source, and key it by patient."""
    config = scenario.split
    if config.source != "file":
        return None
    rows: dict[str, list[str]] = {}
    for alias in [source] if source else sorted({case.source for case in cohort.cases}):
        ours = [case for case in cohort.cases if case.source == alias]
        place = get_source(home.vault, alias)
        for patient, values in official_values(
            place, config, ours, home.names, home.catalog
        ).items():
            rows.setdefault(patient, []).extend(values)
    return rows


def _label_sets(home: Home, scenario: Scenario, source: str | None) -> dict[str, str]:
    """Return the newest label set of each source, or of the one that is asked for."""
    if scenario.labels.format == "column":
        return {}
    name = label_set_name(scenario.labels)
    known = {row.source for row in label_sets(home.catalog) if row.name == name}
    wanted = sorted(known if source is None else known & {source})
    return {alias: latest_label_set(home.catalog, alias, name) for alias in wanted}


def _as_read(home: Home, scenario: Scenario, found: Mapping[str, str]) -> Mapping[str, str]:
    """Return label sets of their own for masks whose values are read as a year of BraTS says.

    What is stored of a mask hangs on it, and so must its id.
    """
    labels = scenario.labels
    if labels.numbers is None:
        return found
    return {
        alias: put_label_set(
            home.catalog,
            name=f"{label_set_name(labels)}-{labels.regions}",
            source=alias,
            author="regions",
            digest=digest_json([label_set, labels.numbers]),
            rows=label_rows(home.catalog, label_set),
        )
        for alias, label_set in found.items()
    }
