"""What a model said about cases, and what was true: the input of every figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

PROBABILITY_TOLERANCE = 1e-3
"""How far a row of probabilities may sum from 1: single-precision soft-maxes stay within 1e-6."""


@dataclass(frozen=True, eq=False)
class ScoredCases:
    """Cases and whose they are: what the answers of every task have in common.

    Parameters
    ----------
    case_ids : sequence of str, length n
        Opaque ids, each once.
    patient_keys : sequence of str, length n
        Pseudonyms; the unit of every interval.
    """

    case_ids: tuple[str, ...]
    patient_keys: tuple[str, ...]

    _by_case: ClassVar[tuple[str, ...]] = ("case_ids", "patient_keys")
    """Fields with an entry a case: tuples, arrays (n, ...), or mappings to such arrays."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "case_ids", tuple(self.case_ids))
        object.__setattr__(self, "patient_keys", tuple(self.patient_keys))
        check_keys(self.case_ids, self.patient_keys)

    def __len__(self) -> int:
        return len(self.case_ids)

    @property
    def n_patients(self) -> int:
        """Number of different patients."""
        return len(set(self.patient_keys))

    def take(self, index: Sequence[int] | np.ndarray) -> Self:
        """Return the chosen cases, in the order of `index` (integers or a mask)."""
        index = _as_index(index)
        return replace(self, **{name: _rows(getattr(self, name), index) for name in self._by_case})


@dataclass(frozen=True, eq=False)
class Predictions(ScoredCases):
    """Class probabilities of labelled cases.

    Parameters
    ----------
    case_ids, patient_keys : sequences of str, length n
        See `ScoredCases`.
    target : array (n,) of int
        Index of the true class in `classes`.
    probability : array (n, k) of float
        Rows sum to 1.
    classes : tuple of str, length k >= 2
    positive : str, optional
        The class that counts as a finding when there are two; the second one unless told.
    """

    target: np.ndarray
    probability: np.ndarray
    classes: tuple[str, ...]
    positive: str | None = None

    _by_case = (*ScoredCases._by_case, "target", "probability")

    def __post_init__(self) -> None:
        super().__post_init__()
        set_field = object.__setattr__
        set_field(self, "classes", tuple(self.classes))
        set_field(self, "target", frozen_array(self.target, np.int64, "target"))
        set_field(self, "probability", frozen_array(self.probability, np.float64, "probability"))
        n, k = len(self.case_ids), len(self.classes)
        if k < 2 or len(set(self.classes)) != k:
            raise ValueError(f"classes are {self.classes}; at least two different ones are needed")
        if self.target.shape != (n,) or self.probability.shape != (n, k):
            raise ValueError(
                f"target has shape {self.target.shape} and probability {self.probability.shape}; "
                f"{n} cases and {k} classes need ({n},) and ({n}, {k})"
            )
        if n and not (self.target.min() >= 0 and self.target.max() < k):
            raise ValueError(f"target holds class indices outside 0..{k - 1}")
        _check_probability(self.probability)
        if self.positive is not None and self.positive not in self.classes:
            raise ValueError(f"positive class {self.positive!r} is not one of {self.classes}")

    @property
    def binary(self) -> bool:
        """Whether there are exactly two classes."""
        return len(self.classes) == 2

    @property
    def positive_index(self) -> int:
        """Column of the positive class; only for two classes."""
        if not self.binary:
            raise ValueError(f"{len(self.classes)} classes have no single positive class")
        return 1 if self.positive is None else self.classes.index(self.positive)

    @property
    def truth(self) -> np.ndarray:
        """Array (n,) of 0 and 1: is the case of the positive class (two classes only)."""
        return (self.target == self.positive_index).astype(np.int64)

    @property
    def score(self) -> np.ndarray:
        """Array (n,) of the positive class's probability (two classes only)."""
        return self.probability[:, self.positive_index]

    def to_table(self) -> list[dict[str, Any]]:
        """Return one row a case: case_id, patient_key, target (class name), positive, p/<class>."""
        rows = []
        positive = self.classes[self.positive_index] if self.binary else ""
        for i, case_id in enumerate(self.case_ids):
            row = {
                "case_id": case_id,
                "patient_key": self.patient_keys[i],
                "target": self.classes[self.target[i]],
                "positive": positive,
            }
            for name, p in zip(self.classes, self.probability[i], strict=True):
                row[f"p/{name}"] = float(p)
            rows.append(row)
        return rows

    @classmethod
    def from_table(cls, rows: Sequence[Mapping[str, Any]]) -> "Predictions":
        """Read back what `to_table` made; the order of the p/ columns is the order of classes."""
        classes = classes_of(rows, "p/")
        number = {name: i for i, name in enumerate(classes)}
        unknown = sorted({str(row["target"]) for row in rows} - number.keys())
        if unknown:
            raise ValueError(f"target holds {unknown[0]!r}, for which there is no column p/<class>")
        return cls(
            case_ids=tuple(str(row["case_id"]) for row in rows),
            patient_keys=tuple(str(row["patient_key"]) for row in rows),
            target=np.array([number[str(row["target"])] for row in rows], dtype=np.int64),
            probability=np.array([[row[f"p/{name}"] for name in classes] for row in rows]),
            classes=classes,
            positive=rows[0].get("positive") or None,
        )


def align(first: Any, second: Any) -> tuple[Any, Any]:
    """Return both with their cases in the order of the sorted case ids.

    Raises
    ------
    ValueError
        When the cases, their patients, the classes or the truth differ.
    """
    if type(first) is not type(second):
        raise ValueError("answers of two kinds of task cannot be compared with each other")
    if set(first.case_ids) != set(second.case_ids):
        raise ValueError(
            f"the two have {len(first)} and {len(second)} cases, of which "
            f"{len(set(first.case_ids) & set(second.case_ids))} are the same; "
            "a paired comparison needs the same cases"
        )
    if first.classes != second.classes:
        raise ValueError(f"the classes differ: {first.classes} and {second.classes}")
    first = first.take(np.argsort(first.case_ids, kind="stable"))
    second = second.take(np.argsort(second.case_ids, kind="stable"))
    if first.patient_keys != second.patient_keys:
        raise ValueError("the same cases have different patients in the two")
    truth_differs = getattr(first, "truth_differs", None)
    if truth_differs is not None and (changed := truth_differs(second)):
        raise ValueError(f"{changed} cases have other truths in the two; score both anew")
    if isinstance(first, Predictions):
        changed = int(np.sum(first.target != second.target))
        if changed:
            raise ValueError(f"{changed} cases have different labels in the two; score both anew")
        if first.binary and first.positive_index != second.positive_index:
            raise ValueError("the positive class differs between the two")
    return first, second


def frozen_array(values: Any, dtype: type, name: str) -> np.ndarray:
    """Return a copy of the type that nobody can write to; ValueError where it holds no numbers."""
    array = np.asarray(values)
    whole = dtype is np.int64
    if array.size and (array.dtype.kind not in ("iub" if whole else "iufb")):
        kind = "whole numbers" if whole else "numbers"
        raise ValueError(f"{name} has type {array.dtype}; it must hold {kind}")
    array = array.astype(dtype)
    array.setflags(write=False)
    return array


def check_keys(case_ids: Sequence[str], patient_keys: Sequence[str]) -> None:
    """Raise ValueError unless each case has a patient and stands once."""
    if len(case_ids) != len(patient_keys):
        raise ValueError(f"{len(case_ids)} case ids but {len(patient_keys)} patient keys")
    repeated = len(case_ids) - len(set(case_ids))
    if repeated:
        raise ValueError(f"{repeated} case ids stand twice; each case is scored once")


def _check_probability(probability: np.ndarray) -> None:
    if not np.all(np.isfinite(probability)):
        bad = int(np.sum(~np.isfinite(probability).all(axis=1)))
        raise ValueError(f"{bad} cases have a probability that is not a finite number")
    outside = (probability < 0) | (probability > 1)
    off = np.abs(probability.sum(axis=1) - 1) > PROBABILITY_TOLERANCE
    bad = int(np.sum(outside.any(axis=1) | off))
    if bad:
        raise ValueError(
            f"{bad} cases have probabilities outside 0..1 or with a sum further than "
            f"{PROBABILITY_TOLERANCE} from 1; give probabilities, not logits"
        )


def _as_index(index: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the whole numbers (k,) that a mask (n,) or a list of them means."""
    index = np.asarray(index)
    if index.dtype == bool:
        return np.flatnonzero(index)
    return index.astype(np.int64) if index.size else np.zeros(0, np.int64)


def _rows(entries: Any, index: np.ndarray) -> Any:
    if isinstance(entries, tuple):
        return tuple(entries[i] for i in index)
    if isinstance(entries, Mapping):
        return {name: array[index] for name, array in entries.items()}
    return entries[index]


def check_classes(classes: tuple[str, ...]) -> None:
    """Raise ValueError unless there is a class, and each once."""
    if not classes or len(set(classes)) != len(classes):
        raise ValueError(f"classes are {classes}; at least one, each once, is needed")


def classes_of(rows: Sequence[Mapping[str, Any]], prefix: str) -> tuple[str, ...]:
    """Return the classes that a table's columns name behind a prefix, in their order."""
    if not rows:
        raise ValueError("the table has no rows")
    return tuple(name.removeprefix(prefix) for name in rows[0] if name.startswith(prefix))
