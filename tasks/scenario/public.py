"""What of a scenario others may see: places may hold a name, and are replaced by aliases."""

from pathlib import PurePath
from typing import Any

from tasks.scenario.model import Scenario


def public_copy(scenario: Scenario) -> Scenario:
    """Return the scenario with places replaced by aliases, as the tracking server may keep it."""
    changes: dict[str, Any] = {}
    places = {"issuer": "issuer"} if scenario.labels.issuer else {}
    if scenario.labels.file:
        places["file"] = _alias("labels", scenario.labels.file)
    if scenario.labels.normals not in (None, "rest"):
        places["normals"] = _alias("normals", scenario.labels.normals)
    if places:
        changes["labels"] = scenario.labels.model_copy(update=places)
    if scenario.split.file:
        alias = _alias("split", scenario.split.file)
        changes["split"] = scenario.split.model_copy(update={"file": alias})
    changes["candidates"] = tuple(
        one.model_copy(update={"weights": _alias("weights", one.weights)})
        if getattr(one, "weights", None)
        else one
        for one in scenario.candidates
    )
    return scenario.model_copy(update=changes)


def _alias(word: str, place: str) -> str:
    return f"{word}-file{PurePath(place).suffix}"
