"""Decision curves: is it worth calling patients by the model, whatever a false alarm costs?

Vickers and Elkin 2006 (Medical Decision Making 26:565). Who calls a patient positive from the
probability p on holds a missed finding to be (1 - p) / p times as bad as a false alarm. The net
benefit counts findings and takes off false alarms at that price: TP / n - FP / n * p / (1 - p).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.evaluate.figures import BLUE, DPI, GREY, ORANGE
from tasks.evaluate.intervals import REPLICATES, percentile_limits, resampled_weights
from tasks.evaluate.predictions import Predictions

THRESHOLDS = tuple(round(0.01 * step, 2) for step in range(1, 100))
"""Probabilities from which a patient would be called, 0.01 to 0.99."""

LOWEST_DRAWN = -0.05
"""Calling everybody falls without end; nothing below this is read."""


@dataclass(frozen=True, eq=False)
class DecisionCurve:
    """Net benefit by threshold, arrays (t,); that of calling nobody is 0 everywhere.

    ``gain`` is the model's net benefit less that of the better of calling everybody and nobody.
    Limits are 95 % ones over patients.
    """

    threshold: np.ndarray
    model: np.ndarray
    lo: np.ndarray
    hi: np.ndarray
    treat_all: np.ndarray
    gain: np.ndarray
    gain_lo: np.ndarray
    gain_hi: np.ndarray
    n_patients: int

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one row a threshold for a table."""
        return [
            {
                "threshold": float(self.threshold[i]),
                "model": float(self.model[i]),
                "model_lo": float(self.lo[i]),
                "model_hi": float(self.hi[i]),
                "treat_all": float(self.treat_all[i]),
                "treat_none": 0.0,
                "gain": float(self.gain[i]),
                "gain_lo": float(self.gain_lo[i]),
                "gain_hi": float(self.gain_hi[i]),
            }
            for i in range(len(self.threshold))
        ]

    @property
    def useful(self) -> list[tuple[float, float]]:
        """Ranges of thresholds in which the lower limit of the gain is above 0."""
        found: list[tuple[float, float]] = []
        previous = False
        for value, there in zip(self.threshold.tolist(), self.gain_lo > 0, strict=True):
            if there:
                found = [*found[:-1], (found[-1][0], value)] if previous else [*found, (value,) * 2]
            previous = bool(there)
        return found


def net_benefit(truth, score, thresholds, weight=None) -> np.ndarray:
    """Return the net benefit of calling cases whose score is at least each threshold.

    Parameters
    ----------
    truth : array (n,) of 0 and 1
    score : array (n,)
    thresholds : array (t,)
        Above 0 and below 1.
    weight : array (n,) or (m, n), optional
        How often each case counts.

    Returns
    -------
    array (t,) or (m, t)
    """
    truth, score = np.asarray(truth, float), np.asarray(score, float)
    thresholds = np.asarray(thresholds, float)
    if not (np.all(thresholds > 0) and np.all(thresholds < 1)):
        raise ValueError("thresholds of a decision curve lie between 0 and 1, both left out")
    weight = np.ones(len(score)) if weight is None else np.asarray(weight, float)
    called = (score[:, None] >= thresholds).astype(float)
    price = thresholds / (1 - thresholds)
    worth = called * (truth[:, None] - (1 - truth[:, None]) * price)
    return weight @ worth / weight.sum(-1)[..., None]


def decision_curve(
    predictions: Predictions,
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> DecisionCurve:
    """Return the net benefit of a model of two classes with its patient bootstrap.

    Probabilities must be calibrated: a threshold is read as a probability.

    Parameters
    ----------
    predictions : Predictions
        Of two classes.
    thresholds : sequence of float
    replicates, seed : int
        Of the bootstrap over patients.
    """
    at = np.asarray(thresholds, float)
    truth, score = predictions.truth, predictions.score
    everybody = np.ones(len(predictions))

    def figures(weight=None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        model = net_benefit(truth, score, at, weight)
        treat_all = net_benefit(truth, everybody, at, weight)
        return model, treat_all, model - np.maximum(treat_all, 0)

    model, treat_all, gain = figures()
    drawn = [
        figures(weight) for weight in resampled_weights(predictions.patient_keys, replicates, seed)
    ]
    n = predictions.n_patients

    def limits(number: int) -> np.ndarray:
        table = np.concatenate([block[number] for block in drawn])
        return np.array([percentile_limits(column, n) for column in table.T]).T

    (lo, hi), (gain_lo, gain_hi) = limits(0), limits(2)
    return DecisionCurve(at, model, lo, hi, treat_all, gain, gain_lo, gain_hi, n)


def decision_sentence(curve: DecisionCurve) -> str:
    """Say in which thresholds the model is shown to be worth more than either simple rule."""
    if not curve.useful:
        return "Nowhere shown to be worth more than calling everybody or nobody."
    ranges = ", ".join(
        f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}" for low, high in curve.useful
    )
    return f"Shown to be worth more than calling everybody or nobody at thresholds of {ranges}."


def draw_decision_curve(
    path: str | Path,
    predictions: Predictions,
    curve: DecisionCurve,
    *,
    threshold: float | None = None,
    title: str = "",
) -> Path:
    """Write the curve with its band beside calling everybody and calling nobody."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), layout="constrained")
    axes = figure.subplots()
    at = curve.threshold
    axes.fill_between(at, curve.lo, curve.hi, color=BLUE, alpha=0.18, lw=0)
    axes.plot(at, curve.model, color=BLUE, lw=2, label="call by the model")
    axes.plot(at, curve.treat_all, color=ORANGE, lw=1.6, ls="--", label="call everybody")
    axes.axhline(0, color=GREY, lw=1.6, ls=":", label="call nobody")
    if threshold is not None:
        axes.axvline(threshold, color="black", lw=1, ls="--", label=f"threshold {threshold:.3f}")
    share = float(predictions.truth.mean())
    # Room above for the legend, which would hide the band.
    top = max(float(np.nanmax(curve.hi)) if np.isfinite(curve.hi).any() else share, share)
    axes.set(
        xlabel="probability from which a patient is called",
        ylabel="net benefit (findings a patient)",
        xlim=(0, 1),
        ylim=(LOWEST_DRAWN, max(top, 0.01) * 1.35),
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper right", fontsize=9, framealpha=0.9, edgecolor="none")
    cases, patients = len(predictions), predictions.n_patients
    axes.set_title(
        f"{title or 'Decision curve'}\n{cases} cases of {patients} patients", fontsize=13
    )
    path = Path(path)
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})
    return path
