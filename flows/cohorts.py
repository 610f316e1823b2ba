"""Who is in and on which side: the decision that preprocess, train, check and predict share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flows.home import Home
from tasks.archive.catalog import latest_label_set
from tasks.archive.commits import assign, assignments, editions, open_edition
from tasks.cohort.select import Cohort, select
from tasks.cohort.split import PUBLIC_SPLIT_KEY, assign_patients, split_id
from tasks.errors import ScenarioError
from tasks.hashing import digest_json
from tasks.scenario import Scenario


@dataclass(frozen=True)
class Ready:
    """A scenario with its cases, labels and sides."""

    scenario: Scenario
    cohort: Cohort
    label_set: str | None
    split: str
    edition: int
    sides: Mapping[str, Any]
    """patient_key -> Assignment"""

    def cases_on(self, side: str) -> list[Any]:
        """Cases of the patients on one side: "train", "test" (current edition) or "reserve"."""
        return [case for case in self.cohort.cases if self.side_of(case) == side]

    def side_of(self, case: Any) -> str:
        """Side of a case's patient."""
        return self.sides[case.patient_key].side

    @property
    def hashes(self) -> dict[str, str]:
        """What the evidence hangs on: data, split, labels."""
        cases = sorted(case.case_id for case in self.cohort.cases)
        sides = sorted((key, a.side, a.edition, a.fold) for key, a in self.sides.items())
        return {
            "data_hash": digest_json(cases),
            "split_hash": digest_json(sides),
            "label_hash": self.label_set or digest_json(sorted(self.cohort.targets.items())),
        }


def choose(home: Home, scenario: Scenario, source: str | None = None) -> tuple[Cohort, str | None]:
    """Select a scenario's cases and join their labels; decides nothing and writes nothing."""
    label_set = _label_set(home, scenario, source)
    return select(home.catalog, scenario.cohort, scenario.labels, label_set, source), label_set


def settle(home: Home, scenario: Scenario, source: str | None = None) -> Ready:
    """Choose the cohort and put every new patient on a side, for good.

    Raises
    ------
    ScenarioError
        When no case is left; the message holds the funnel.
    """
    cohort, label_set = choose(home, scenario, source)
    if not cohort.cases:
        funnel = "; ".join(f"{text}: {count}" for text, count in cohort.funnel)
        msg = f"scenario {scenario.name} has no labelled case ({funnel}); see `radloop check`"
        raise ScenarioError(msg)
    split = split_id(scenario.name, scenario.split)
    known = assignments(home.catalog, split)
    fresh = assign_patients(known, strata(cohort), scenario.split, split_key(home, scenario))
    if fresh:
        assign(home.catalog, split, fresh)
    if not editions(home.catalog, split):
        tested = sum(a.side == "test" for a in assignments(home.catalog, split).values())
        open_edition(home.catalog, split, 1, tested)
    edition = max(row.edition for row in editions(home.catalog, split))
    return Ready(scenario, cohort, label_set, split, edition, assignments(home.catalog, split))


def split_key(home: Home, scenario: Scenario) -> bytes:
    """Key that ranks the patients: published for public scenarios, else the project's own."""
    return PUBLIC_SPLIT_KEY if scenario.split.key == "public" else home.names.derive("split")


def strata(cohort: Cohort) -> dict[str, str]:
    """patient_key -> stratum: the set of the patient's targets."""
    found: dict[str, set[str]] = {}
    for case in cohort.cases:
        found.setdefault(case.patient_key, set()).add(cohort.targets.get(case.case_id, ""))
    return {patient: "+".join(sorted(targets)) for patient, targets in found.items()}


def _label_set(home: Home, scenario: Scenario, source: str | None) -> str | None:
    if scenario.labels.format == "column":
        return None
    name = "decathlon" if scenario.labels.format == "decathlon" else scenario.labels.file
    return latest_label_set(home.catalog, source, name)
