"""Who is in: cases of a kind that meet the predicates and have exactly one usable label.

The funnel counts what is left after every condition, so that nobody has to guess where cases went.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tasks.archive.choice import parse_choice
from tasks.cohort.channels import Refused, gather
from tasks.cohort.config import CohortConfig
from tasks.labels.config import BOXES, IN_FILES
from tasks.labels.quantity import read_number

if TYPE_CHECKING:  # the catalog brings SQLAlchemy
    from sqlalchemy import Engine

    from tasks.archive.catalog import Case, LabelRow
    from tasks.labels.config import LabelConfig

WITH, WITHOUT = "with a finding", "without a finding"
"""Strata of a detection: whether a case's list of boxes has one."""


@dataclass(frozen=True)
class Cohort:
    """Who is in, with what label, and how many fell out where."""

    cases: tuple["Case", ...]
    """Labelled cases, ordered by case_id."""
    targets: Mapping[str, str]
    """case_id -> class name or number as text, of a detection `WITH` or `WITHOUT`; empty for a
    segmentation."""
    masks: Mapping[str, int]
    """case_id -> locator of the mask file; empty for a classification."""
    funnel: tuple[tuple[str, int], ...]
    """What was asked, and how many cases are left."""
    unmatched: int
    """Label rows that belong to no case of the cohort."""
    unlabelled: tuple["Case", ...] = ()
    """Cases that meet the predicates and have no usable label."""
    refused: tuple[Refused, ...] = ()
    """Studies whose series do not make a case."""
    numbers: bool = False
    """Whether targets are numbers, which make no strata."""
    boxes: Mapping[str, str] = field(default_factory=dict)
    """case_id -> text of its boxes (`tasks.labels.boxes`); empty unless it is a detection."""

    @property
    def patients(self) -> tuple[str, ...]:
        """Sorted keys of the labelled patients."""
        return tuple(sorted({case.patient_key for case in self.cases}))

    def patient_facts(self) -> dict[str, list[dict[str, object]]]:
        """Return each patient's cases as facts with ``target``, as `patient_strata` wants them."""
        grouped: dict[str, list[dict[str, object]]] = {}
        for case in self.cases:
            target = None if self.numbers else self.targets.get(case.case_id)
            facts = {**case.facts, "target": target}
            grouped.setdefault(case.patient_key, []).append(facts)
        return grouped


def meets(facts: Mapping[str, object], name: str, wanted: object) -> bool:
    """Say whether a fact is the wanted value, one of several, within a range, or None (empty)."""
    value = facts.get(name)
    if value is None or wanted is None:
        return value is wanted
    if isinstance(wanted, Mapping):
        if not isinstance(value, int | float):
            return str(wanted.get("min", value)) <= str(value) <= str(wanted.get("max", value))
        return wanted.get("min", value) <= value <= wanted.get("max", value)
    if isinstance(wanted, list | tuple | set | frozenset):
        return value in wanted
    return value == wanted


def select(
    catalog: "Engine",
    config: CohortConfig,
    labels: "LabelConfig",
    label_sets: Mapping[str, str],
    source: str | None = None,
) -> Cohort:
    """Read a scenario's cohort from the catalog.

    Parameters
    ----------
    catalog : Engine
    config : CohortConfig
    labels : LabelConfig
        How labels are found: in a label set, or (format ``column``) in a column of the table.
    label_sets : mapping of source alias to label set id
        A label set speaks about the cases of its own source. Cases of a source without one are
        unlabelled unless labels stand in a column.
    source : str, optional
        Alias of the only source to look at.
    """
    from tasks.archive import catalog as archive

    found = archive.cases(catalog, kind=config.kind, source=source, table=config.table)
    chosen, funnel, refused = narrow(found, config, source)
    if labels.format == "column":
        said = {case.case_id: _column_values(case, labels) for case in chosen}
        return label_cases(chosen, said, {}, labels, funnel, unmatched=0)
    said: dict[str, set[str]] = {}
    masks: dict[str, set[int]] = {}
    unmatched = 0
    for alias, label_set_id in label_sets.items():
        rows = archive.label_rows(catalog, label_set_id)
        sop_keys = sorted({row.key for row in rows if row.join == "sop"})
        of_sop = archive.cases_of_sops(catalog, sop_keys) if sop_keys else {}
        ours = [case for case in chosen if case.source == alias]
        said_here, masks_here, left = match_rows(ours, rows, of_sop)
        said |= said_here
        masks |= masks_here
        unmatched += left
    cohort = label_cases(chosen, said, masks, labels, funnel, unmatched)
    return replace(cohort, refused=refused)


def narrow(
    found: Iterable["Case"], config: CohortConfig, source: str | None = None
) -> tuple[list["Case"], list[tuple[str, int]], tuple[Refused, ...]]:
    """Apply the predicates one after the other and count what is left.

    Returns
    -------
    cases : list of Case
    funnel : list of (what was asked, how many are left)
    refused : tuple of Refused
        Studies whose series do not make a case.
    """
    chosen = sorted(found, key=lambda case: case.case_id)
    what = f"rows of table {config.table}" if config.kind == "row" else f"{config.kind} cases"
    place = f"source {source}" if source else "the catalog"
    funnel = [(f"{what} in {place}", len(chosen))]
    for name, wanted in config.predicates().items():
        chosen = [case for case in chosen if meets(case.facts, name, wanted)]
        funnel.append((f"with {name} {_in_words(wanted)}", len(chosen)))
    refused: tuple[Refused, ...] = ()
    if of := config.channel_set:
        together = gather(chosen, config.channels, of, meets, config.several)
        chosen, refused = list(together.cases), together.refused
        funnel += together.funnel
    if config.without:
        chosen = [case for case in chosen if not case.case_id.startswith(config.without)]
        funnel.append((f"without {len(config.without)} named ones", len(chosen)))
    if config.volume:
        # A series is not left out for it here: its volumes are known when it is read.
        funnel.append((f"of each the volume {parse_choice(config.volume)}", len(chosen)))
    return chosen, funnel, refused


def _in_words(wanted: object) -> str:
    if isinstance(wanted, Mapping):
        ends = [("from", wanted.get("min")), ("to", wanted.get("max"))]
        return " ".join(f"{word} {end}" for word, end in ends if end is not None)
    if isinstance(wanted, list | tuple | set | frozenset):
        return " or ".join(str(value) for value in wanted)
    return "not stated" if wanted is None else str(wanted)


def _column_values(case: "Case", labels: "LabelConfig") -> set[str]:
    value = case.facts.get(labels.column) if labels.column else None
    if value is None or value == "":
        return set()
    if labels.unit is not None:
        number, _ = read_number(str(value), labels)
        return set() if number is None else {number}
    # JSON has one kind of number: a class written 1 comes back as 1.0.
    return {f"{value:g}" if isinstance(value, float) else str(value)}


def match_rows(
    cases: Iterable["Case"], rows: Iterable["LabelRow"], case_of_sop: Mapping[str, str]
) -> tuple[dict[str, set[str]], dict[str, set[int]], int]:
    """Attach label rows to cases by their keys.

    Returns
    -------
    said : dict of case_id to the set of values that rows give it
    masks : dict of case_id to the set of mask locators that rows give it
    unmatched : number of rows that belong to none of the cases
    """
    cases, rows = list(cases), list(rows)
    asked = {row.join for row in rows}
    by_key: dict[tuple[str, str], list[str]] = {}
    for join in asked - {"sop"}:
        for case in cases:
            for key in _keys(case, join):
                by_key.setdefault((join, key), []).append(case.case_id)
    owner = {one.case_id: case.case_id for case in cases for one in case.members}
    said: dict[str, set[str]] = {}
    masks: dict[str, set[int]] = {}
    unmatched = 0
    for row in rows:
        if row.join == "sop":
            series = case_of_sop.get(row.key)
            names = [owner[series]] if series in owner else []
        else:
            names = by_key.get((row.join, row.key), [])
        unmatched += not names
        for name in names:
            if row.value is not None:
                said.setdefault(name, set()).add(row.value)
            if row.locator is not None:
                masks.setdefault(name, set()).add(row.locator)
    return said, masks, unmatched


def _keys(case: "Case", join: str) -> set[str]:
    """Return the keys under which a label may name a case: those of any of its series."""
    if join == "case":
        return {case.case_id}
    return {key for one in case.members if (key := getattr(one, f"{join}_key"))}


def label_cases(
    chosen: list["Case"],
    said: Mapping[str, set[str]],
    masks: Mapping[str, set[int]],
    labels: "LabelConfig",
    funnel: list[tuple[str, int]],
    unmatched: int,
) -> Cohort:
    """Keep the cases with exactly one label of a known class, one mask or one list of boxes."""
    labelled = [case for case in chosen if said.get(case.case_id) or masks.get(case.case_id)]
    steps = [*funnel, ("with a label", len(labelled))]
    targets: dict[str, str] = {}
    files: dict[str, int] = {}
    boxes: dict[str, str] = {}
    if labels.format in IN_FILES:
        single = [case for case in labelled if len(masks.get(case.case_id, ())) == 1]
        files = {case.case_id: next(iter(masks[case.case_id])) for case in single}
        steps.append(("with exactly one mask", len(single)))
    elif labels.format in BOXES:
        single = [case for case in labelled if len(said.get(case.case_id, ())) == 1]
        boxes = {case.case_id: next(iter(said[case.case_id])) for case in single}
        targets = {name: WITH if json.loads(text) else WITHOUT for name, text in boxes.items()}
        steps.append(("whose boxes agree", len(single)))
    else:
        agreed = [case for case in labelled if len(said.get(case.case_id, ())) == 1]
        steps.append(("whose labels agree", len(agreed)))
        if labels.unit is not None:
            targets = {case.case_id: next(iter(said[case.case_id])) for case in agreed}
            return _numbered(agreed, chosen, targets, steps, unmatched)
        single = [case for case in agreed if said[case.case_id] <= set(labels.classes)]
        targets = {case.case_id: next(iter(said[case.case_id])) for case in single}
        steps.append((f"labelled {' or '.join(labels.classes)}", len(single)))
    kept = {case.case_id for case in single}
    rest = tuple(case for case in chosen if case.case_id not in kept)
    return Cohort(tuple(single), targets, files, tuple(steps), unmatched, rest, boxes=boxes)


def _numbered(
    kept: list["Case"],
    chosen: list["Case"],
    targets: Mapping[str, str],
    steps: list[tuple[str, int]],
    unmatched: int,
) -> Cohort:
    """Return the cases whose label is one number; those that are none were left out before."""
    ids = {case.case_id for case in kept}
    rest = tuple(case for case in chosen if case.case_id not in ids)
    return Cohort(tuple(kept), targets, {}, tuple(steps), unmatched, rest, numbers=True)
