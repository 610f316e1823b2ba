"""The picture of a robustness curve: one small panel a corruption."""

from math import ceil
from pathlib import Path

import numpy as np

from tasks.evaluate.figures import BLUE, DPI, GREY
from tasks.evaluate.robustness import CLEAN, Robustness
from tasks.evaluate.stress import SEVERITIES

COLUMNS = 4


def draw_robustness(path: str | Path, found: Robustness, *, title: str = "") -> Path:
    """Write the primary figure by severity with its 95 % limits; the dotted line is the clean one.

    Parameters
    ----------
    path : path of a PNG
    found : Robustness
    title : str, optional
    """
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(p.corruption for p in found.points if p.corruption != CLEAN))
    columns = min(COLUMNS, len(names))
    rows = ceil(len(names) / columns)
    # One panel alone is wider: the title has to fit above it.
    width = max(5.4, 2.7 * columns)
    figure = Figure(figsize=(width, 2.35 * rows + 0.9), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(grid.flat, names, strict=False):
        curve = [found.points[0], *(p for p in found.points if p.corruption == name)]
        at = [point.severity for point in curve]
        value = np.array([point.figure.value for point in curve])
        lo = np.array([point.figure.lo for point in curve])
        hi = np.array([point.figure.hi for point in curve])
        axes.axhline(value[0], color=GREY, lw=1, ls=":")
        if np.isfinite(lo).all():
            axes.fill_between(at, lo, hi, color=BLUE, alpha=0.18, lw=0)
        axes.plot(at, value, "o-", ms=4, lw=1.8, color=BLUE)
        axes.set_title(name.replace("_", " "), fontsize=10)
        axes.set_xticks([0, *SEVERITIES])
        axes.grid(axis="y", color="#DDDDDD")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    word = found.primary.replace("_", " ")
    figure.supylabel(word.upper() if word == "auroc" else word, fontsize=10)
    figure.supxlabel("severity (0: as it is)", fontsize=10)
    heading = f"{title or 'Corrupted images'}\n{found.n_cases} cases of {found.n_patients} patients"
    figure.suptitle(heading, fontsize=12)
    path = Path(path)
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})
    return path
