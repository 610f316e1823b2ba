"""Who is in and on which side: the decision that preprocess, train, check and predict share."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from flows.home import Home
from tasks.archive.catalog import (
    cases,
    label_rows,
    label_sets,
    latest_label_set,
    put_label_set,
)
from tasks.archive.commits import (
    assign,
    assignments,
    editions,
    open_edition,
)
from tasks.archive.vault import get_source, project_key, recall
from tasks.cohort.official import decide_sides, official_values
from tasks.cohort.select import WITH, Cohort, narrow, select
from tasks.cohort.split import FIRST_EDITION, newest_edition, split_id, split_key
from tasks.cohort.told_groups import told_groups
from tasks.errors import ScenarioError
from tasks.hashing import digest_json
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
    told: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """column of `evaluate.groups` -> case id -> group"""

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
    told = _told_groups(home, scenario, source, cohort)
    return Ready(scenario, cohort, chosen_sets, split, newest_edition(known), known, told)


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


def _told_groups(
    home: Home, scenario: Scenario, source: str | None, cohort: Cohort
) -> dict[str, dict[str, str]]:
    """Read the table of groups, one beside each source."""
    config = scenario.evaluate.groups
    if config is None:
        return {}
    told: dict[str, dict[str, str]] = {name: {} for name in config.columns}
    for alias in [source] if source else sorted({case.source for case in cohort.cases}):
        ours = [case for case in cohort.cases if case.source == alias]
        found = told_groups(get_source(home.vault, alias), config, ours, home.names)
        for name, groups in found.items():
            told[name] |= groups
    return told


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
