"""Scenarios as YAML: found, read, explained where they cannot be obeyed, and written."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from tasks.cohort.config import CohortConfig
from tasks.errors import ScenarioError
from tasks.scenario.model import Scenario

SUFFIXES = (".yaml", ".yml")
"""How a scenario file's name ends."""


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


def to_yaml(scenario: Scenario) -> str:
    """Return a scenario as YAML, defaults spelt out, so that it can be read back."""
    return yaml.safe_dump(scenario.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
