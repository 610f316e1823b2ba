"""The decisions of two models on the same patients, compared by the exact McNemar test.

An AUROC says how models rank; who is called is decided at the operating point that each model
carries, and there two models of one AUROC may differ, as two of different AUROC may not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.evaluate.compare import holm, mcnemar
from tasks.evaluate.intervals import patient_index
from tasks.evaluate.metrics import calls
from tasks.evaluate.predictions import Predictions, align

TEST = "exact McNemar"


@dataclass(frozen=True)
class PairedCalls:
    """Patients whom only the first and only the second decided rightly, and a two-sided p."""

    first_only: int
    second_only: int
    n_patients: int
    p_value: float

    @property
    def difference(self) -> float:
        """Share of patients decided rightly, first minus second."""
        return (self.first_only - self.second_only) / self.n_patients


def paired_calls(
    first: Any, second: Any, thresholds: tuple[float | None, float | None]
) -> PairedCalls | None:
    """Compare the decisions of two classifiers of two classes, one decision a patient.

    A patient with several cases is called positive where any of them is, and is positive where any
    of them is labelled so, as for studies (`tasks.evaluate.studies`): the test needs independent
    decisions, and no threshold is applied but the models' own.

    Parameters
    ----------
    first, second : Predictions, or what another task answers
        Of the same cases, in any order.
    thresholds : (float or None, float or None)
        Stored operating points of the two: positive from there on.

    Returns
    -------
    PairedCalls or None
        None where no such decisions are made: another task, more classes, no operating point.

    Raises
    ------
    ValueError
        When the cases, patients or truths differ.
    """
    if not isinstance(first, Predictions) or not first.binary or None in thresholds:
        return None
    if not len(first):
        return None
    first, second = align(first, second)
    ours, theirs = (
        _of_patients(first, calls(one, at) == one.positive_index)
        for one, at in zip((first, second), thresholds, strict=True)
    )
    gained, lost, p = mcnemar(_of_patients(first, first.truth == 1), ours, theirs)
    return PairedCalls(gained, lost, first.n_patients, p)


def calls_columns(
    found: Sequence[PairedCalls | None], first: str, second: str, *, adjust: bool = False
) -> list[dict[str, str]]:
    """Return a table's columns for each comparison; without any where no decisions are made.

    Parameters
    ----------
    found : sequence of PairedCalls or None
        A comparison each row.
    first, second : str
        Who is compared, for the headings.
    adjust : bool
        Whether p-values are Holm's over the rows.
    """
    known = [one for one in found if one is not None]
    if len(known) < len(found):
        return [{} for _ in found]
    p_values = [one.p_value for one in known]
    heading = f"p ({'Holm, ' if adjust else ''}McNemar)"
    return [
        {
            f"only {first} right": str(one.first_only),
            f"only {second} right": str(one.second_only),
            heading: f"{p:.3g}",
        }
        for one, p in zip(known, holm(p_values) if adjust else p_values, strict=True)
    ]


def _of_patients(predictions: Predictions, positive: np.ndarray) -> np.ndarray:
    """Return array (patients,) of bool: whether any case (n,) of each is positive."""
    n_patients, index = patient_index(predictions.patient_keys)
    found = np.zeros(n_patients, bool)
    np.logical_or.at(found, index, positive)
    return found
