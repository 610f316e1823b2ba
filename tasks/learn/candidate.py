"""The config of a tabular or header-only candidate; light to import."""

import difflib
from collections.abc import Iterable
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.learn.estimators import ESTIMATORS
from tasks.learn.space import Span

Score = Literal["auroc", "average_precision", "balanced_accuracy", "accuracy", "brier", "log_loss"]
"""What a search may optimise; the same names as in the table of metrics."""

PLACE_COLUMNS = (
    "side", "response", "response_finer", "response_coarser", "ball_first", "ball_second",
    "mean", "deviation", "darkest", "brightest", "around", "around_deviation", "contrast",
    "part_volume", "part_longest", "part_filled", "part_leaves", "at_z", "at_y", "at_x",
)  # fmt: skip
"""What a classical detector measures at each place it looks at, see `tasks.learn.places`."""


def one_seed(said: Any) -> Any:
    """Refuse several seeds of what is fitted once; returns the settings as they are said.

    Raises
    ------
    ValueError
        When a candidate that is no network says ``seeds``.
    """
    if isinstance(said, dict) and "seeds" in said:
        kind = said.get("kind", "tabular")
        raise ValueError(
            f"seeds: {said['seeds']} in a candidate of kind {kind}, which is fitted once, with the "
            "scenario's seed; seeds are of kind network, whose training starts at random: remove it"
        )
    return said


def search_score(primary: str) -> Score:
    """Return what a search optimises for a primary metric.

    Figures that need a threshold (recall, F1) or many cases (ECE) are searched for by AUROC: the
    threshold is chosen later, on out-of-fold predictions.
    """
    return primary if primary in get_args(Score) else "auroc"  # type: ignore[return-value]


class TabularCandidate(BaseModel):
    """One estimator on a table (``tabular``) or on a few header fields alone (``header``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    kind: Literal["tabular", "header"] = "tabular"
    estimator: str
    params: dict[str, Any] = {}
    search: dict[str, list[Any] | Span] = {}
    inner_folds: int = Field(default=5, ge=2, le=20)
    max_trials: int = Field(default=60, ge=1)
    features: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _once(cls, said: Any) -> Any:
        return one_seed(said)

    @model_validator(mode="after")
    def _estimator_and_parameters_exist(self) -> Self:
        if ":" in self.estimator:
            return self
        if self.estimator not in ESTIMATORS:
            raise ValueError(nearest("estimator", self.estimator, ESTIMATORS))
        row = ESTIMATORS[self.estimator]
        for name in (*self.params, *self.search):
            if name not in row.parameters:
                raise ValueError(nearest(f"parameter of {self.estimator}", name, row.parameters))
        empty = [name for name, values in self.search.items() if not values]
        if empty:
            raise ValueError(f"search of {empty[0]} has 0 values: give at least one or remove it")
        if self.kind == "header" and self.features:
            raise ValueError("a header candidate has fixed columns: remove `features`")
        return self


def nearest(what: str, given: str, valid: Iterable[str]) -> str:
    """Say what is unknown, the nearest valid name and all valid ones."""
    near = difflib.get_close_matches(given, list(valid), 1, 0.3)
    hint = f"nearest is {near[0]!r}; " if near else ""
    return f"unknown {what} {given!r}: {hint}valid are {', '.join(valid) or 'none'}"
