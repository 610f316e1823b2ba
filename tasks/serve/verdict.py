"""What the gate is asked and what it answers: config, scored models, verdicts."""

from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks.evaluate.estimates import Estimates
from tasks.evaluate.finding_scores import FindingScores
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.predictions import Predictions
from tasks.hashing import says_nothing


class Guard(BaseModel):
    """Another metric that must not be clearly worse by more than its own margin."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str
    margin: float = Field(ge=0)


class SubgroupRule(BaseModel):
    """No subgroup of a header fact may be clearly worse, by more than a multiple of the margin."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fact: str
    min_patients: int = Field(20, ge=5)
    margin_factor: float = Field(2.0, ge=1)


class GateConfig(BaseModel):
    """When a challenger becomes champion."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    primary: str | None = None
    """Metric compared; the scenario's primary metric unless given."""
    margin: float = Field(0.02, gt=0)
    """How much worse a challenger may be, in units of the metric."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    """Two-sided: each bound alone holds with (1 + confidence) / 2."""
    floor: float | None = None
    """What a first model must clearly exceed; no skill unless given."""
    undecidable: Literal["refuse", "promote", "ask"] = "refuse"
    guards: tuple[Guard, ...] = ()
    subgroups: tuple[SubgroupRule, ...] = ()
    beat_baseline: bool = Field(False, exclude_if=says_nothing)
    """Refuse what is not shown to beat the classical baseline, see `tasks.serve.baseline`."""
    min_patients: int = Field(10, ge=2)
    """Fewer patients decide nothing, whatever the interval: rare failures stay unseen."""
    bootstrap: int = Field(2000, ge=200, le=100_000)
    seed: int = Field(0, ge=0)


@dataclass(frozen=True, eq=False)
class Scored:
    """A model's output on a test edition, with the threshold frozen in the model."""

    predictions: Predictions | MaskScores | FindingScores | Estimates
    edition: str
    threshold: float | None = None


@dataclass(frozen=True)
class Check:
    """One guard or subgroup: the difference found, its limits, and whether it stops promotion."""

    name: str
    n_patients: int
    estimate: float
    lo: float
    hi: float
    limit: float
    failed: bool


@dataclass(frozen=True)
class Verdict:
    """What the gate says (`verdict`), what the policy makes of it (`action`), and why."""

    verdict: str
    action: str
    reason: str
    metric: str
    estimate: float
    lo: float
    hi: float
    margin: float
    n_patients: int
    needed_patients: int | None
    power: float
    test: str
    edition: str
    against: str
    checks: tuple[Check, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a JSON-able dictionary; NaN becomes None."""
        return _without_nan(asdict(self))


def action(verdict: str, config: GateConfig) -> str:
    """Return what the policy makes of a verdict: promote, refuse or ask."""
    return config.undecidable if verdict == "undecidable" else verdict


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value
