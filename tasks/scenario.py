"""A scenario: one YAML file that says what is done, composed of the wings' own configs.

It says what, never where: places of archives and databases are settings.  Light to import: torch,
scikit-learn and their like are named here, never loaded.
"""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from tasks.cohort.select import CohortConfig
from tasks.cohort.split import SplitConfig
from tasks.errors import ScenarioError
from tasks.evaluate.config import EvaluateConfig
from tasks.hashing import digest_json
from tasks.imaging.columns import columns_of
from tasks.imaging.standard import standard
from tasks.imaging.steps import StepConfig, missing_masks, parse_steps
from tasks.labels.config import LabelConfig
from tasks.learn.candidate import TabularCandidate
from tasks.learn.plan import NetworkCandidate
from tasks.serve.gate import GateConfig

_STRICT = ConfigDict(frozen=True, extra="forbid")

SUFFIXES = (".yaml", ".yml")
"""How a scenario file's name ends."""

CRON_FIELD = re.compile(r"[\d*/,\-A-Za-z]+")
"""What one of the five fields of a cron line may hold."""

Candidate = Annotated[NetworkCandidate | TabularCandidate, Field(discriminator="kind")]


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


class Scenario(BaseModel):
    """One clinical application, from the cohort to the gate."""

    model_config = _STRICT

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    title: str = Field(min_length=1)
    task: Literal["classification", "segmentation"]
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
    def networks(self) -> frozenset[str]:
        """Networks it names: only among them is a foreign one that a model wants loaded."""
        return frozenset(one.network for one in self.candidates if one.kind == "network")

    def candidate(self, name: str) -> NetworkCandidate | TabularCandidate:
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
        if wrong := _misfit(candidate, scenario.task, columns, rows=rows):
            found.append(f"candidates: {candidate.name} {wrong}")
    if rows and scenario.recipe:
        found.append("recipe: rows of a table have no images; remove the recipe")
    if not rows and not scenario.recipe:
        found.append("recipe: images need at least one step, e.g. normalise")
    found += [f"recipe: {sentence}" for sentence in missing_masks(scenario.recipe)]
    found += _label_misfits(scenario)
    return found


def _misfit(
    candidate: NetworkCandidate | TabularCandidate,
    task: str,
    columns: Sequence[str],
    *,
    rows: bool,
) -> str:
    """Say why a candidate does not fit, or nothing.  ``columns`` are those the recipe measures."""
    if candidate.kind == "network":
        return "is a network and the cohort has rows of a table; use kind tabular" if rows else ""
    if task == "segmentation":
        return f"is of kind {candidate.kind}, which cannot segment; use kind network"
    if candidate.kind == "header":
        return "is header-only and rows of a table have no header; use kind tabular" if rows else ""
    if rows:
        return ""
    if not columns:
        return (
            "is tabular and the cohort has images; add the step features to the recipe, or use "
            "kind network or header"
        )
    missing = [name for name in candidate.features if name not in columns]
    if not missing:
        return ""
    near = difflib.get_close_matches(missing[0], columns, 1, 0.3)
    hint = f"; nearest is {near[0]!r}" if near else ""
    return f"names {missing[0]!r}, which no step of the recipe measures{hint}"


def _label_misfits(scenario: Scenario) -> list[str]:
    labels, found = scenario.labels, []
    masks = labels.format == "decathlon"
    if masks != (scenario.task == "segmentation"):
        found.append(f"labels: format {labels.format} does not serve the task {scenario.task}")
    if labels.format == "column" and scenario.cohort.kind != "row":
        found.append("labels: format column needs a cohort of kind row; use format table")
    if scenario.task == "classification" and len(labels.classes) < 2:
        found.append(f"labels: {len(labels.classes)} classes; a classification needs at least 2")
    if labels.positive is not None and labels.positive not in labels.classes:
        found.append(f"labels: positive {labels.positive!r} is none of {', '.join(labels.classes)}")
    if scenario.evaluate.measures_masks != (scenario.task == "segmentation"):
        wanted = "dice" if scenario.task == "segmentation" else "auroc or another of one case"
        found.append(
            f"evaluate.primary: {scenario.evaluate.primary} does not measure a {scenario.task}; "
            f"use {wanted}"
        )
    return found


def parse_scenario(text: str, what: str = "the scenario") -> Scenario:
    """Return the scenario a YAML text says; ScenarioError lists every problem by its key path."""
    try:
        data = yaml.load(text, Loader=_ScenarioLoader)
    except yaml.YAMLError as error:
        raise ScenarioError(f"{what} is not YAML: {_one_line(error)}") from error
    if not isinstance(data, dict):
        raise ScenarioError(f"{what} is not a mapping of keys; start from `radloop new NAME`")
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(_explain(problem) for problem in error.errors())
        raise ScenarioError(f"{what}: {problems}") from error


class _ScenarioLoader(yaml.SafeLoader):
    """YAML in which only true and false are booleans and a key stands once.

    YAML 1.1 reads yes, no, on and off as booleans, and they are class names here.
    """


_ScenarioLoader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_ScenarioLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def _mapping_once(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} stands twice", node.start_mark
            )
    return loader.construct_mapping(node, deep=True)


_ScenarioLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_once)


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f" (line {mark.line + 1})" if mark else ""
    return f"{getattr(error, 'problem', None) or 'it cannot be read'}{where}"


def _explain(problem: Any) -> str:
    """Turn one of pydantic's errors into key path, what is wrong, and the nearest valid key."""
    path, valid = _walk(problem["loc"])
    where = ".".join(path) or "the file"
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], valid, 1, 0.5)
        hint = f"nearest is {near[0]!r}; " if near else ""
        return f"{where} is unknown: {hint}valid are {', '.join(valid)}"
    if problem["type"] == "missing":
        return f"{where} is missing: add it"
    message = problem["msg"].removeprefix("Value error, ")
    return message if where == "the file" else f"{where}: {message}"


def _walk(loc: Sequence[str | int]) -> tuple[list[str], list[str]]:
    """Return the key path a user sees and the keys valid where it ends."""
    path: list[str] = []
    here: Any = Scenario
    valid: list[str] = []
    for step in loc:
        if not isinstance(step, str):
            path[-1:] = [f"{path[-1]}[{step}]"]
            here = next(iter(get_args(here)), None)
            continue
        members = _models(here)
        tagged = [model for model in members if step in _tags(model)]
        if tagged:
            here = tagged[0]
            continue
        fields = {name: info for model in members for name, info in model.model_fields.items()}
        valid = list(fields)
        path.append(step)
        here = fields[step].annotation if step in fields else None
    return path, valid


def _models(kind: Any) -> list[type[BaseModel]]:
    """Return the models an annotation may stand for."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    if get_origin(kind) is Annotated:
        return _models(get_args(kind)[0])
    if get_origin(kind) is Union or type(kind).__name__ == "UnionType":
        return [model for part in get_args(kind) for model in _models(part)]
    return []


def _tags(model: type[BaseModel]) -> tuple[str, ...]:
    kind = model.model_fields.get("kind")
    return get_args(kind.annotation) if kind and model is not CohortConfig else ()


def load_scenario(name_or_path: str | Path, search: Sequence[Path]) -> Scenario:
    """Read a scenario by its name, or from a file.

    Parameters
    ----------
    name_or_path : str or path
        A name looked for as ``NAME.yaml`` in the folders, or a file ending in .yaml or .yml.
    search : sequence of path
        Folders in order; the first that has the name wins.

    Raises
    ------
    ScenarioError
        When nothing is found (the message lists what exists), or the file cannot be obeyed.
    """
    text = str(name_or_path)
    if PurePath(text).suffix in SUFFIXES:
        path = Path(text)
        if not path.is_file():
            raise ScenarioError(f"scenario file {text} does not exist: give another or a name")
        return parse_scenario(path.read_text(encoding="utf-8"), path.name)
    for folder in search:
        path = Path(folder) / f"{text}.yaml"
        if PurePath(text).name == text and path.is_file():
            scenario = parse_scenario(path.read_text(encoding="utf-8"), path.name)
            if scenario.name != text:
                raise ScenarioError(
                    f"{path.name} calls its scenario {scenario.name!r}: name and file must agree"
                )
            return scenario
    names = scenario_names(search)
    near = difflib.get_close_matches(text, names, 1)
    hint = f"nearest is {near[0]!r}; " if near else ""
    raise ScenarioError(
        f"there is no scenario {text!r}: {hint}there are {', '.join(names) or 'none'}"
    )


def scenario_names(search: Sequence[Path]) -> list[str]:
    """Return the sorted names of the scenarios in the folders."""
    return sorted({path.stem for folder in search for path in Path(folder).glob("*.yaml")})


def scenario_hash(scenario: Scenario) -> str:
    """Return the id of what a scenario says; comments, order of keys and spelt-out defaults do not
    count.
    """
    return digest_json(scenario.model_dump(mode="json"))


def public_copy(scenario: Scenario) -> Scenario:
    """Return the scenario with places replaced by aliases, as the tracking server may keep it."""
    changes: dict[str, Any] = {}
    places = {"issuer": "issuer"} if scenario.labels.issuer else {}
    if scenario.labels.file:
        places["file"] = _alias("labels", scenario.labels.file)
    if places:
        changes["labels"] = scenario.labels.model_copy(update=places)
    if scenario.split.file:
        alias = _alias("split", scenario.split.file)
        changes["split"] = scenario.split.model_copy(update={"file": alias})
    return scenario.model_copy(update=changes)


def _alias(word: str, place: str) -> str:
    return f"{word}-file{PurePath(place).suffix}"


def to_yaml(scenario: Scenario) -> str:
    """Return a scenario as YAML, defaults spelt out, so that it can be read back."""
    return yaml.safe_dump(scenario.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
