"""What a search may try: values in a list, or a span; light to import."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator

SEARCHABLE = (
    "lr", "weight_decay", "dropout", "batch", "ema", "optimizer", "schedule", "class_weights",
    "foreground",
)  # fmt: skip
"""Settings of a network a search may choose: those that change no tensor's shape, since the folds
of a model are one plan."""


class Span(BaseModel):
    """Numbers from ``low`` to ``high``; whole ones when both are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: int | float
    high: int | float
    log: bool = False
    """Draw evenly on a logarithmic scale."""
    step: int | float | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic scale has no {self.low:g}; raise low above 0")
        if self.step is not None and (self.log or self.step <= 0):
            raise ValueError("step is above 0 and not together with log")
        return self

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int)


Space = Mapping[str, Sequence[Any] | Span]


def has_span(space: Space) -> bool:
    """Whether a space is more than lists, so that it cannot be tried whole."""
    return any(isinstance(one, Span) for one in space.values())


def ends(values: Sequence[Any] | Span) -> tuple[Any, ...]:
    """Return every listed value, or both ends of a span: what a setting must be able to take."""
    return (values.low, values.high) if isinstance(values, Span) else tuple(values)
