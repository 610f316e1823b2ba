"""What a scenario says of evaluation."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tasks.evaluate.intervals import REPLICATES
from tasks.evaluate.known import METRICS


class OperatingPoint(BaseModel):
    """How the threshold of a two-class model is chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: Literal["youden", "sensitivity", "specificity", "cost", "fixed"] = "youden"
    at_least: float | None = Field(None, gt=0, le=1)
    """Sensitivity or specificity to reach."""
    false_negative_cost: float = Field(1.0, gt=0)
    false_positive_cost: float = Field(1.0, gt=0)
    value: float | None = Field(None, ge=0, le=1)
    """The threshold itself, for the rule `fixed`."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.rule in ("sensitivity", "specificity")) != (self.at_least is not None):
            raise ValueError(
                f"rule {self.rule!r} with at_least {self.at_least}: at_least belongs to the rules "
                "sensitivity and specificity, which need it"
            )
        if (self.rule == "fixed") != (self.value is not None):
            raise ValueError(
                f"rule {self.rule!r} with value {self.value}: value belongs to the rule fixed, "
                "which needs it"
            )
        return self


class EvaluateConfig(BaseModel):
    """What is measured, how, and by which figure candidates are ranked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    primary: str = "auroc"
    """Metric that ranks candidates in cross-validation and that the gate compares."""
    operating_point: OperatingPoint = OperatingPoint()
    calibration: Literal["none", "temperature", "platt"] = "none"
    bootstrap: int = Field(REPLICATES, ge=200, le=100_000)
    """Bootstrap replicates of every interval."""
    seed: int = Field(0, ge=0)

    @field_validator("primary")
    @classmethod
    def _known(cls, name: str) -> str:
        base = name.partition("/")[0]
        names = [known for known, info in METRICS.items() if info.direction != "none"]
        if base not in names or (base != name and base != "dice"):
            raise ValueError(f"primary {name!r} is not a metric; choose one of {', '.join(names)}")
        return name
