"""Figures of masks, case by case: the input of every figure of a segmentation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tasks.evaluate.known import MASK_FIGURES
from tasks.evaluate.predictions import ScoredCases, check_classes, classes_of, frozen_array

EMPTY_WORDS = ("", "both", "one")
"""Words of the codes in `MaskScores.empty`: neither mask empty, both empty, exactly one empty."""


@dataclass(frozen=True, eq=False)
class MaskScores(ScoredCases):
    """Dice and further figures of each foreground class in each case.

    Parameters
    ----------
    case_ids, patient_keys : sequences of str, length n
    classes : tuple of str, length k >= 1
        Foreground classes; the background is not scored.
    dice : array (n, k) of float in 0..1
    empty : array (n, k) of int, optional
        0 neither mask empty, 1 both empty (Dice 1), 2 exactly one empty (Dice 0).
    others : mapping name -> array (n, k) of float, optional
        Further figures, such as ``nsd`` and ``hd95``; finite, for empty masks have a policy.
    """

    classes: tuple[str, ...]
    dice: np.ndarray
    empty: np.ndarray | None = None
    others: Mapping[str, np.ndarray] = field(default_factory=dict)

    _by_case = (*ScoredCases._by_case, "dice", "empty", "others")

    def __post_init__(self) -> None:
        super().__post_init__()
        set_field = object.__setattr__
        set_field(self, "classes", tuple(self.classes))
        set_field(self, "dice", frozen_array(self.dice, np.float64, "dice"))
        empty = np.zeros(self.dice.shape, np.int64) if self.empty is None else self.empty
        set_field(self, "empty", frozen_array(empty, np.int64, "empty"))
        check_classes(self.classes)
        shape = (len(self.case_ids), len(self.classes))
        if self.dice.shape != shape or self.empty.shape != shape:
            raise ValueError(
                f"dice has shape {self.dice.shape} and empty {self.empty.shape}; "
                f"{shape[0]} cases and {shape[1]} classes need {shape}"
            )
        if self.dice.size and not (np.all(self.dice >= 0) and np.all(self.dice <= 1)):
            raise ValueError("dice holds values outside 0..1 (or NaN); empty masks have a policy")
        others = {n: frozen_array(a, np.float64, n) for n, a in self.others.items()}
        set_field(self, "others", others)
        for name, values in others.items():
            if values.shape != shape or not np.isfinite(values).all():
                raise ValueError(
                    f"{name} has shape {values.shape}, or a value that is not finite; "
                    f"{shape[0]} cases and {shape[1]} classes need finite values of shape {shape}"
                )

    @property
    def figures(self) -> dict[str, np.ndarray]:
        """Every figure by name, arrays (n, k); Dice first."""
        return {"dice": self.dice, **self.others}

    def to_table(self) -> list[dict[str, Any]]:
        """Return one row a case: case_id, patient_key, <figure>/<class>, empty/<class>."""
        rows = []
        for i, case_id in enumerate(self.case_ids):
            row: dict[str, Any] = {"case_id": case_id, "patient_key": self.patient_keys[i]}
            for figure, values in self.figures.items():
                for j, name in enumerate(self.classes):
                    row[f"{figure}/{name}"] = float(values[i, j])
            for j, name in enumerate(self.classes):
                row[f"empty/{name}"] = EMPTY_WORDS[self.empty[i, j]]
            rows.append(row)
        return rows

    @classmethod
    def from_table(cls, rows: Sequence[Mapping[str, Any]]) -> "MaskScores":
        """Read back what `to_table` made."""
        classes = classes_of(rows, "dice/")
        words = [[row.get(f"empty/{name}") or "" for name in classes] for row in rows]
        figures = {
            figure: np.array([[row[f"{figure}/{name}"] for name in classes] for row in rows])
            for figure in MASK_FIGURES
            if f"{figure}/{classes[0]}" in rows[0]
        }
        return cls(
            case_ids=tuple(str(row["case_id"]) for row in rows),
            patient_keys=tuple(str(row["patient_key"]) for row in rows),
            classes=classes,
            dice=figures.pop("dice"),
            empty=np.array([[EMPTY_WORDS.index(word) for word in row] for row in words]),
            others=figures,
        )


def patient_means(
    scores: MaskScores, figure: str | np.ndarray = "dice"
) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the patients, sorted, and a figure's mean over each patient's cases, (patients, k).

    The figure is one of `MaskScores.figures`, or an array (n, k) of its own.
    """
    patients, index = np.unique(np.asarray(scores.patient_keys, dtype=str), return_inverse=True)
    total = np.zeros((len(patients), len(scores.classes)))
    np.add.at(total, index, scores.figures[figure] if isinstance(figure, str) else figure)
    mean = total / np.bincount(index, minlength=len(patients))[:, None]
    return tuple(map(str, patients)), mean
