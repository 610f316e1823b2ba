"""The FROC curve of a detection as a PNG file: sensitivity over false alarms a scan."""

from pathlib import Path

import numpy as np

from tasks.evaluate.figures import BLUE, LINES, _figure, _finish, _words
from tasks.evaluate.finding_scores import FindingScores, marks_of, weighted_findings
from tasks.evaluate.froc import FALSE_ALARMS, froc_curve
from tasks.evaluate.intervals import Interval, bootstrap_replicates, percentile_limits

BAND_REPLICATES = 500
"""Bootstrap replicates of the drawn limits: finer steps are not visible."""

FEWEST_ALARMS = 1 / 16
"""Where the logarithmic axis begins."""


def draw_froc(
    path: str | Path, scores: FindingScores, threshold: float | None = None, *, title: str = ""
) -> Path:
    """Write the curve of each class, CPM's seven points with their limits, and the threshold's."""
    figure, axes = _figure()
    for name, marks, colour in zip(scores.classes, marks_of(scores), LINES[1:] * 9, strict=False):
        alarms, found = froc_curve(marks)
        axes.step(np.maximum(alarms, FEWEST_ALARMS), found, where="post", color=colour, label=name)
    names = ["cpm", *(f"froc/{at:g}" for at in FALSE_ALARMS)]
    statistic = weighted_findings(scores, None, names)
    value = statistic(np.ones(len(scores)))
    drawn = bootstrap_replicates(statistic, scores.patient_keys, BAND_REPLICATES)
    limits = {n: percentile_limits(drawn[n], scores.n_patients) for n in names}
    n = scores.n_patients
    cpm = Interval(float(value["cpm"]), *limits["cpm"], "patient bootstrap", n)
    read = np.array([value[one] for one in names[1:]])
    lo, hi = np.array([limits[one] for one in names[1:]]).T
    if np.isfinite(lo).any():
        axes.fill_between(FALSE_ALARMS, lo, hi, color=BLUE, alpha=0.18, lw=0)
    axes.plot(FALSE_ALARMS, read, "o-", color=BLUE, label=f"mean of classes: CPM {_words(cpm)}")
    if threshold is not None:
        point = weighted_findings(scores, threshold, ["false_alarms", "lesion_recall"])
        at = point(np.ones(len(scores)))
        x = max(float(at["false_alarms"]), FEWEST_ALARMS)
        label = f"shown from {threshold:.3f}"
        axes.plot(x, at["lesion_recall"], "*", ms=14, color=LINES[3], mec="white", label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(FALSE_ALARMS, [f"{at:g}" for at in FALSE_ALARMS])
    axes.set(xlim=(FEWEST_ALARMS, 2 * FALSE_ALARMS[-1]), ylim=(-0.02, 1.02))
    axes.set(xlabel="false alarms a scan", ylabel="sensitivity")
    return _finish(path, figure, axes, title or "FROC", scores, "lower right")
