"""What a scenario says, and what in it contradicts itself."""

import difflib
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tasks.cohort.config import CohortConfig
from tasks.cohort.split import SplitConfig
from tasks.errors import ScenarioError
from tasks.evaluate.config import EvaluateConfig
from tasks.hashing import digest_json
from tasks.imaging.columns import columns_of
from tasks.imaging.standard import standard
from tasks.imaging.steps import StepConfig, missing_masks, parse_steps, wrong_units
from tasks.labels.config import BOXES, MASKS, PUBLIC, LabelConfig
from tasks.learn.candidate import PLACE_COLUMNS, TabularCandidate
from tasks.learn.fusion import FusionCandidate
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.zoo import DETECTORS, OF_WHOLE_IMAGES
from tasks.scenario.channels import channel_misfits
from tasks.scenario.judged import baseline_misfits, unit_misfits
from tasks.scenario.numbers import number_misfits
from tasks.scenario.whole import size_misfits
from tasks.serve.gate import GateConfig

_STRICT = ConfigDict(frozen=True, extra="forbid")

CRON_FIELD = re.compile(r"[\d*/,\-A-Za-z]+")
"""What one of the five fields of a cron line may hold."""

Candidate = Annotated[
    NetworkCandidate | TabularCandidate | FusionCandidate, Field(discriminator="kind")
]


class TriggerConfig(BaseModel):
    """When retraining is worth it: enough new labelled patients, or a champion that is old."""

    model_config = _STRICT

    new_labelled_patients: int = Field(default=50, ge=1)
    max_age_days: int = Field(default=90, ge=1)


class ScheduleConfig(BaseModel):
    """Cron lines of the deployments; without one the flow runs when somebody starts it."""

    model_config = _STRICT

    retrain: str | None = None
    preprocess: str | None = None

    @field_validator("retrain", "preprocess")
    @classmethod
    def _five_fields(cls, line: str | None) -> str | None:
        if line is None:
            return None
        fields = line.split()
        if len(fields) != 5 or not all(CRON_FIELD.fullmatch(part) for part in fields):
            raise ValueError(f"{line!r} is not a cron line of five fields, e.g. '0 2 * * 0'")
        return line


class OutputConfig(BaseModel):
    """What `predict` writes beside the table of predictions."""

    model_config = _STRICT

    overlays: bool = True
    masks: bool = True
    page: bool = True
    seg: bool = True
    """Masks also as DICOM Segmentation, where the images are DICOM."""
    sr: bool = True
    """Every answer also as DICOM Structured Report."""


class Scenario(BaseModel):
    """One clinical application, from the cohort to the gate."""

    model_config = _STRICT

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    title: str = Field(min_length=1)
    task: Literal["classification", "segmentation", "detection", "regression"]
    intended_use: str = Field(min_length=1)
    not_for: str = Field(min_length=1)
    population: str = Field(min_length=1)
    synthetic: bool = False
    cohort: CohortConfig
    labels: LabelConfig
    recipe: tuple[StepConfig, ...] = ()
    """Steps in order, or the name of a standard recipe (`tasks.imaging.standard`)."""
    split: SplitConfig = SplitConfig()
    candidates: tuple[Candidate, ...] = Field(min_length=1)
    evaluate: EvaluateConfig = EvaluateConfig()
    gate: GateConfig = GateConfig()
    trigger: TriggerConfig = TriggerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    outputs: OutputConfig = OutputConfig()
    train_on: Literal["here", "gpu"] = "here"
    """``gpu`` sends training to the work pool of that name."""
    seed: int = Field(default=0, ge=0)

    @field_validator("recipe", mode="before")
    @classmethod
    def _steps(cls, steps: Any) -> Any:
        if isinstance(steps, str):
            steps = standard(steps)
        if isinstance(steps, list | tuple) and all(isinstance(step, dict) for step in steps):
            return parse_steps(list(steps))
        return steps

    @model_validator(mode="after")
    def _parts_fit_each_other(self) -> Self:
        if problems := _misfits(self):
            raise ValueError("; ".join(problems))
        return self

    @property
    def draws_labels(self) -> bool:
        """Whether labels lie in the store as masks: of classes, or of what is to be found."""
        return self.task in ("segmentation", "detection")

    @property
    def estimates(self) -> bool:
        """Whether a model answers with a number."""
        return self.task == "regression"

    @property
    def networks(self) -> frozenset[str]:
        """Networks it names: only among them is a foreign one that a model wants loaded."""
        return frozenset(one.network for one in self.candidates if one.kind == "network")

    def candidate(self, name: str) -> NetworkCandidate | TabularCandidate | FusionCandidate:
        """Return the candidate of that name; ScenarioError lists the names there are."""
        for candidate in self.candidates:
            if candidate.name == name:
                return candidate
        names = ", ".join(candidate.name for candidate in self.candidates)
        raise ScenarioError(f"scenario {self.name} has no candidate {name!r}; it has {names}")


def _misfits(scenario: Scenario) -> list[str]:
    """Say what contradicts itself, each in one sentence."""
    found = []
    names = [candidate.name for candidate in scenario.candidates]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        found.append(f"candidates: {twice[0]!r} stands there twice; give each a name of its own")
    rows = scenario.cohort.kind == "row"
    try:
        columns = columns_of(scenario.recipe)
    except ValueError as error:
        return [*found, f"recipe: {error}"]
    for candidate in scenario.candidates:
        if candidate.kind == "fusion":
            found += _fusion_misfits(candidate, scenario)
        elif wrong := _misfit(candidate, scenario.task, columns, rows=rows):
            found.append(f"candidates: {candidate.name} {wrong}")
    if rows and scenario.recipe:
        found.append("recipe: rows of a table have no images; remove the recipe")
    if not rows and not scenario.recipe:
        found.append("recipe: images need at least one step, e.g. normalise")
    found += [f"recipe: {said}" for said in missing_masks(scenario.recipe)]
    found += [f"recipe: {said}" for said in wrong_units(scenario.recipe)]
    found += number_misfits(scenario.task, scenario)
    found += size_misfits(scenario.task, scenario.recipe, scenario.candidates)
    found += channel_misfits(scenario.cohort.channel_set, scenario.recipe, scenario.candidates)
    found += _label_misfits(scenario)
    return found


def _fusion_misfits(fusion: FusionCandidate, scenario: Scenario) -> list[str]:
    """Say why a fusion cannot be made of its members."""
    if scenario.task not in OF_WHOLE_IMAGES:
        verb = _VERBS[scenario.task]
        return [f"candidates: {fusion.name} is a fusion, which cannot {verb}; use kind network"]
    kinds = {one.name: one.kind for one in scenario.candidates}
    good = [name for name, kind in kinds.items() if kind in ("network", "tabular")]
    found = []
    for name in fusion.members:
        if kinds.get(name) == "header":
            found.append(
                f"candidates: {fusion.name} fuses {name!r}, which is header-only: it is the check "
                "against shortcuts and never part of a model"
            )
        elif name not in good:
            found.append(
                f"candidates: {fusion.name} fuses {name!r}, which is no candidate of kind network "
                f"or tabular; those are {', '.join(good) or 'none'}"
            )
    return found


def _misfit(
    candidate: NetworkCandidate | TabularCandidate,
    task: str,
    columns: Sequence[str],
    *,
    rows: bool,
) -> str:
    """Say why a candidate does not fit, or nothing.  ``columns`` are those the recipe measures."""
    if candidate.kind == "network" and rows:
        return "is a network and the cohort has rows of a table; use kind tabular"
    if candidate.kind == "network":
        fits = (candidate.network in DETECTORS) == (task == "detection")
        hint = "a detection needs one of " if task == "detection" else "find boxes: "
        return "" if fits else f"has network {candidate.network}; {hint}{', '.join(DETECTORS)}"
    if task == "detection" and candidate.kind == "tabular" and not rows:
        return _unmeasured(candidate.features, PLACE_COLUMNS, "is not measured at places")
    if task in ("segmentation", "detection"):
        return f"is of kind {candidate.kind}, which cannot {_VERBS[task]}; use kind network"
    if candidate.kind == "header":
        return "is header-only and rows of a table have no header; use kind tabular" if rows else ""
    if rows:
        return ""
    if not columns:
        return (
            "is tabular and the cohort has images; add the step features to the recipe, or use "
            "kind network or header"
        )
    return _unmeasured(candidate.features, columns, "no step of the recipe measures")


def _unmeasured(wanted: Sequence[str], columns: Sequence[str], why: str) -> str:
    missing = [name for name in wanted if name not in columns]
    if not missing:
        return ""
    near = difflib.get_close_matches(missing[0], columns, 1, 0.3)
    hint = f"; nearest is {near[0]!r}" if near else ""
    return f"names {missing[0]!r}, which {why}{hint}"


_VERBS = {"segmentation": "segment", "detection": "detect", "regression": "estimate a number"}


def _formats_of(task: str) -> tuple[str, ...]:
    """Return the formats of labels that a task can learn from."""
    of = {"segmentation": MASKS, "detection": tuple(BOXES)}
    return of.get(task) or ("table", "column", *(() if task == "regression" else PUBLIC))


def _label_misfits(scenario: Scenario) -> list[str]:
    labels, found = scenario.labels, []
    if labels.format not in (serving := _formats_of(scenario.task)):
        found.append(
            f"labels: format {labels.format} does not serve the task {scenario.task}; use "
            f"{', '.join(serving)}"
        )
    if labels.format == "column" and scenario.cohort.kind != "row":
        found.append("labels: format column needs a cohort of kind row; use format table")
    if scenario.task == "detection" and (not labels.classes or labels.positive):
        found.append("labels: a detection names at least one class to be found, and no positive")
    if scenario.task == "classification" and len(labels.classes) < 2:
        found.append(f"labels: {len(labels.classes)} classes; a classification needs at least 2")
    if labels.positive is not None and labels.positive not in labels.classes:
        found.append(f"labels: positive {labels.positive!r} is none of {', '.join(labels.classes)}")
    kinds = {candidate.name: candidate.kind for candidate in scenario.candidates}
    found += baseline_misfits(scenario.evaluate, scenario.gate, kinds)
    found += unit_misfits(scenario.evaluate, scenario.task, scenario.cohort, len(labels.classes))
    return found + _primary_misfits(scenario)


def _primary_misfits(scenario: Scenario) -> list[str]:
    """Say why the primary figure does not measure the task."""
    evaluate, task = scenario.evaluate, scenario.task
    measured = {
        "segmentation": evaluate.measures_masks,
        "detection": evaluate.measures_boxes,
        "regression": evaluate.measures_numbers,
    }
    if measured.get(task, not any(measured.values())):
        return []
    wanted = {"segmentation": "dice", "detection": "cpm or ap", "regression": "mae"}
    return [
        f"evaluate.primary: {evaluate.primary} does not measure a {task}; use "
        f"{wanted.get(task, 'auroc or another of one case')}"
    ]


def scenario_hash(scenario: Scenario) -> str:
    """Return the id of what a scenario says; comments, order of keys and spelt-out defaults do not
    count.
    """
    return digest_json(scenario.model_dump(mode="json"))
