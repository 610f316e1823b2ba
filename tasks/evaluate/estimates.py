"""Numbers that a model said of cases, and the true ones: the input of a regression's figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.evaluate.predictions import ScoredCases, frozen_array


@dataclass(frozen=True, eq=False)
class Estimates(ScoredCases):
    """One number of each labelled case.

    Parameters
    ----------
    case_ids, patient_keys : sequences of str, length n
        See `ScoredCases`.
    target : array (n,) of float
        What is true.
    value : array (n,) of float
        What the model says, in the same unit.
    quantity : str
        What the number is, e.g. ``bone_age``.
    unit : str
        Of both, in UCUM, e.g. ``mo``; ``1`` where it has none.
    """

    target: np.ndarray
    value: np.ndarray
    quantity: str
    unit: str = "1"

    _by_case = (*ScoredCases._by_case, "target", "value")

    def __post_init__(self) -> None:
        super().__post_init__()
        set_field = object.__setattr__
        set_field(self, "target", frozen_array(self.target, np.float64, "target"))
        set_field(self, "value", frozen_array(self.value, np.float64, "value"))
        n = len(self.case_ids)
        if self.target.shape != (n,) or self.value.shape != (n,):
            raise ValueError(
                f"target has shape {self.target.shape} and value {self.value.shape}; "
                f"{n} cases need ({n},)"
            )
        bad = int(np.sum(~np.isfinite(self.target) | ~np.isfinite(self.value)))
        if bad:
            raise ValueError(f"{bad} cases have a number that is not finite; leave them out")

    @property
    def words(self) -> str:
        """Quantity and unit, as an axis or a column is named."""
        return quantity_words(self.quantity, self.unit)

    @property
    def classes(self) -> tuple[str]:
        """The quantity in its unit: two models that estimate another one are not compared."""
        return (self.words,)

    def truth_differs(self, other: "Estimates") -> int:
        """Return in how many cases, in the same order, another truth stands."""
        return int(np.sum(self.target != other.target))

    def to_table(self) -> list[dict[str, Any]]:
        """Return one row a case: case_id, patient_key, quantity, unit, target, value."""
        columns = zip(self.case_ids, self.patient_keys, self.target, self.value, strict=True)
        return [
            {
                "case_id": case_id,
                "patient_key": patient,
                "quantity": self.quantity,
                "unit": self.unit,
                "target": float(target),
                "value": float(value),
            }
            for case_id, patient, target, value in columns
        ]

    @classmethod
    def from_table(cls, rows: Sequence[Mapping[str, Any]]) -> "Estimates":
        """Read back what `to_table` made."""
        if not rows:
            raise ValueError("the table has no rows")
        return cls(
            case_ids=tuple(str(row["case_id"]) for row in rows),
            patient_keys=tuple(str(row["patient_key"]) for row in rows),
            target=np.array([float(row["target"]) for row in rows]),
            value=np.array([float(row["value"]) for row in rows]),
            quantity=str(rows[0]["quantity"]),
            unit=str(rows[0]["unit"]),
        )


def quantity_words(quantity: str, unit: str) -> str:
    """Return a quantity with its unit for people; one without a unit stands alone."""
    return quantity if unit == "1" else f"{quantity} ({unit})"
