"""The FROC curve of a detection as a PNG file: sensitivity over false alarms a scan."""

from pathlib import Path

import numpy as np

from tasks.evaluate.figures import BLUE, LINES, Table, _figure, _finish, _words
from tasks.evaluate.finding_scores import FindingScores, marks_of
from tasks.evaluate.froc import FALSE_ALARMS, froc_curve
from tasks.evaluate.table import metric_table

FEWEST_ALARMS = 1 / 16
"""Where the logarithmic axis begins."""


def draw_froc(
    path: str | Path,
    scores: FindingScores,
    threshold: float | None = None,
    *,
    title: str = "",
    table: Table | None = None,
) -> Path:
    """Write the curve of each class, CPM's seven points with their limits, and the threshold's."""
    figure, axes = _figure()
    for name, marks, colour in zip(scores.classes, marks_of(scores), LINES[1:] * 9, strict=False):
        alarms, found = froc_curve(marks)
        axes.step(np.maximum(alarms, FEWEST_ALARMS), found, where="post", color=colour, label=name)
    table = table or metric_table(scores, threshold)
    read = [table[f"froc/{at:g}"] for at in FALSE_ALARMS]
    if np.isfinite([one.lo for one in read]).any():
        limits = [one.lo for one in read], [one.hi for one in read]
        axes.fill_between(FALSE_ALARMS, *limits, color=BLUE, alpha=0.18, lw=0)
    label = f"mean of classes: CPM {_words(table['cpm'])}"
    axes.plot(FALSE_ALARMS, [one.value for one in read], "o-", color=BLUE, label=label)
    if threshold is not None:
        # As on the curves, those of a class: the figure itself is their sum.
        alarms = table["false_alarms"].value / len(scores.classes)
        x = max(alarms, FEWEST_ALARMS)
        y, label = table["lesion_recall"].value, f"shown from {threshold:.3f}"
        axes.plot(x, y, "*", ms=14, color=LINES[3], mec="white", label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(FALSE_ALARMS, [f"{at:g}" for at in FALSE_ALARMS])
    axes.set(xlim=(FEWEST_ALARMS, 2 * FALSE_ALARMS[-1]), ylim=(-0.02, 1.02))
    axes.set(xlabel="false alarms a scan", ylabel="sensitivity")
    return _finish(path, figure, axes, title or "FROC", scores, "lower right")
