"""Estimated numbers against true ones, and their differences, as PNG files."""

from pathlib import Path

import numpy as np

from tasks.evaluate.estimates import Estimates
from tasks.evaluate.figures import BLUE, GREY, ORANGE, Table, _figure, _finish
from tasks.evaluate.intervals import Interval
from tasks.evaluate.table import metric_table


def draw_scatter(
    path: str | Path, found: Estimates, *, title: str = "", table: Table | None = None
) -> Path:
    """Write what the model says over what is true, with the line on which both are equal."""
    table = table or metric_table(found)
    figure, axes = _figure()
    ends = [min(found.target.min(), found.value.min()), max(found.target.max(), found.value.max())]
    axes.plot(ends, ends, color=GREY, lw=1, ls=":", label="equal")
    label = f"MAE {_told(table['mae'])}\nSpearman {_told(table['spearman'])}"
    axes.plot(found.target, found.value, "o", ms=4, alpha=0.6, color=BLUE, mec="none", label=label)
    axes.set(xlabel=f"true {found.words}", ylabel=f"estimated {found.words}")
    return _finish(path, figure, axes, title or "Estimated and true", found, "upper left")


def draw_bland_altman(
    path: str | Path, found: Estimates, *, title: str = "", table: Table | None = None
) -> Path:
    """Write differences over means with bias, limits of agreement and their intervals.

    Bland and Altman, Lancet 1986: over the truth alone even a model without any error in its mean
    would seem to lean.
    """
    table = table or metric_table(found)
    figure, axes = _figure()
    middle, gap = (found.value + found.target) / 2, found.value - found.target
    axes.plot(middle, gap, "o", ms=4, alpha=0.6, color=BLUE, mec="none")
    axes.axhline(0, color=GREY, lw=1, ls=":")
    rows = {"bias": ("bias", "-"), "loa_lower": ("lower limit of agreement", "--")}
    for name, (words, dash) in {**rows, "loa_upper": ("upper limit of agreement", "--")}.items():
        one = table[name]
        axes.axhline(one.value, color=ORANGE, ls=dash, lw=1.6, label=f"{words} {_told(one)}")
        if np.isfinite(one.lo):
            axes.axhspan(one.lo, one.hi, color=ORANGE, alpha=0.12, lw=0)
    # Room above for the legend, which would hide differences.
    low, high = axes.get_ylim()
    axes.set(ylim=(low, high + 0.3 * (high - low)))
    axes.set(xlabel=f"mean of true and estimated {found.words}", ylabel="estimated minus true")
    return _finish(path, figure, axes, title or "Agreement", found, "upper left")


def _told(one: Interval) -> str:
    # Limits may be negative: a dash between them would read as another sign.
    if not np.isfinite(one.lo):
        return f"{one.value:.3g}"
    return f"{one.value:.3g} ({one.lo:.3g} to {one.hi:.3g})"
