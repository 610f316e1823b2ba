"""Pictures of figures with their uncertainty, as PNG files.

Every writer builds its own `Figure` and touches no global state, so threads may draw at once.
Colours are those of Okabe and Ito, which colour-blind readers can tell apart.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tasks.evaluate.calibrate import reliability
from tasks.evaluate.curves import precision_recall_curve, roc_curve
from tasks.evaluate.intervals import Interval
from tasks.evaluate.known import METRICS
from tasks.evaluate.masks import MaskScores, patient_means
from tasks.evaluate.metrics import calls, confusion
from tasks.evaluate.predictions import Predictions
from tasks.evaluate.table import metric_table

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
LINES = (BLUE, ORANGE, GREEN, PINK, "#E69F00", "#56B4E9", "#000000", "#8C6D00")
GREY = "#595959"
DPI = 120
"""Dots an inch: a 6-inch figure is 720 pixels wide, legible in a report without zooming."""

BOX_WORDS = {"dice": "Dice", "nsd": "NSD", "hd95": "HD95 in mm"}
"""Figures of masks that are drawn, and their names on the axis."""

BAND_REPLICATES = 500
"""Bootstrap replicates of a drawn band: finer steps are not visible."""

Table = Mapping[str, Interval]
"""What `metric_table` said of the same scores, given so that a picture says the table's numbers."""


def draw_roc(
    path: str | Path,
    predictions: Predictions,
    *,
    threshold: float | None = None,
    title: str = "",
    table: Table | None = None,
) -> Path:
    """Write the ROC curve with its band; several classes one against the rest, without bands."""
    figure, axes = _figure()
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls=":", label="no skill")
    for name, truth, score, colour in _sides(predictions):
        said = _side_table(predictions, truth, score, table)
        curve = roc_curve(
            truth, score, predictions.patient_keys, replicates=_replicates(predictions)
        )
        _band_and_line(axes, curve, colour, f"{name}: AUROC {_words(said['auroc'])}")
    if predictions.binary and threshold is not None:
        call = predictions.score >= threshold
        truth = predictions.truth.astype(bool)
        point = (np.mean(call[~truth]), np.mean(call[truth]))
        label = f"operating point {threshold:.3f}"
        axes.plot(*point, "o", ms=8, color=ORANGE, mec="white", label=label)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity")
    return _finish(path, figure, axes, title or "ROC", predictions, "lower right")


def draw_precision_recall(
    path: str | Path,
    predictions: Predictions,
    *,
    threshold: float | None = None,
    title: str = "",
    table: Table | None = None,
) -> Path:
    """Write the precision-recall curve with its band and the prevalence."""
    figure, axes = _figure()
    for name, truth, score, colour in _sides(predictions):
        said = _side_table(predictions, truth, score, table)
        curve = precision_recall_curve(
            truth, score, predictions.patient_keys, replicates=_replicates(predictions)
        )
        text = f"{name}: average precision {_words(said['average_precision'])}"
        _band_and_line(axes, curve, colour, text, where="pre")
        if predictions.binary:
            share = float(np.mean(truth))
            axes.axhline(share, color=GREY, lw=1, ls=":", label=f"no skill: prevalence {share:.2f}")
    if predictions.binary and threshold is not None:
        call, truth = predictions.score >= threshold, predictions.truth.astype(bool)
        if call.any() and truth.any():
            point = (np.mean(call[truth]), np.mean(truth[call]))
            label = f"operating point {threshold:.3f}"
            axes.plot(*point, "o", ms=8, color=ORANGE, mec="white", label=label)
    axes.set(xlabel="recall (sensitivity)", ylabel="precision")
    return _finish(path, figure, axes, title or "Precision and recall", predictions, "lower left")


def draw_reliability(
    path: str | Path, predictions: Predictions, *, title: str = "", table: Table | None = None
) -> Path:
    """Write the reliability diagram with Wilson's limits and the distribution of probabilities."""
    figure, (axes, below) = _figure(rows=2, heights=(4, 1))
    if predictions.binary:
        truth, score = predictions.truth, predictions.score
        name = predictions.classes[predictions.positive_index]
    else:
        call = predictions.probability.argmax(1)
        truth, score, name = call == predictions.target, predictions.probability.max(1), "the call"
    curve = reliability(truth, score)
    predicted, observed = np.array(curve.predicted), np.array(curve.observed)
    reach = np.array([observed - curve.lo, np.array(curve.hi) - observed]).clip(0)
    table = table or metric_table(predictions, 0.5 if predictions.binary else None)
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls=":", label="perfectly calibrated")
    label = f"{len(predicted)} equal-mass bins, 95 % limits over cases; ECE {_words(table['ece'])}"
    if predictions.binary and np.isfinite(table["calibration_slope"].value):
        label += f"\nslope {_words(table['calibration_slope'])}"
    axes.errorbar(predicted, observed, reach, fmt="o-", ms=5, capsize=3, color=BLUE, label=label)
    # Room above for the legend, which would hide the limits of high bins.
    axes.set(ylabel="observed share", xlim=(-0.02, 1.02), ylim=(-0.05, 1.2))
    axes.tick_params(labelbottom=False)
    below.hist(score, bins=np.linspace(0, 1, 31), color=BLUE, alpha=0.8)
    below.set(xlabel=f"probability of {name}", ylabel="cases", xlim=(-0.02, 1.02))
    below.spines[["top", "right"]].set_visible(False)
    return _finish(path, figure, axes, title or "Reliability", predictions, "upper left")


def draw_confusion(
    path: str | Path, predictions: Predictions, *, threshold: float | None = None, title: str = ""
) -> Path:
    """Write the confusion matrix: counts, and shares of each true class."""
    k = len(predictions.classes)
    counts = confusion(predictions.target, calls(predictions, threshold), k)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, axes = _figure(size=max(5.2, 1.6 + 0.95 * k))
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for i in range(k):
        for j in range(k):
            colour = "white" if share[i, j] > 0.55 else "black"
            text = f"{int(counts[i, j])}\n{share[i, j]:.0%}"
            axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=12)
    turned = 30 if max(map(len, predictions.classes)) * k > 40 else 0
    anchor = {"rotation": turned, "ha": "right", "rotation_mode": "anchor"} if turned else {}
    axes.set_xticks(range(k), predictions.classes, **anchor)
    axes.set_yticks(range(k), predictions.classes)
    axes.set(xlabel="called", ylabel="truth")
    axes.spines[:].set_visible(False)
    at = f" at threshold {threshold:.3f}" if threshold is not None else ""
    return _finish(path, figure, axes, title or f"Confusion{at}", predictions, None)


def draw_score_histogram(
    path: str | Path, predictions: Predictions, *, threshold: float | None = None, title: str = ""
) -> Path:
    """Write the distribution of the positive probability in both classes (two classes only)."""
    figure, axes = _figure()
    bins = np.linspace(0, 1, 31)
    truth = predictions.truth.astype(bool)
    positive = predictions.positive_index
    for side, colour, hatch in ((False, BLUE, ""), (True, ORANGE, "///")):
        name = predictions.classes[positive if side else 1 - positive]
        values = predictions.score[truth == side]
        look = {"color": colour, "alpha": 0.25, "label": f"{name} ({len(values)})", "hatch": hatch}
        axes.hist(values, bins=bins, histtype="stepfilled", **look)
        axes.hist(values, bins=bins, histtype="step", color=colour, lw=1.8)
    if threshold is not None:
        axes.axvline(threshold, color="black", ls="--", label=f"threshold {threshold:.3f}")
    name = predictions.classes[positive]
    axes.set(xlabel=f"probability of {name}", ylabel="cases", xlim=(-0.02, 1.02))
    return _finish(path, figure, axes, title or "Scores by true class", predictions, "upper center")


def draw_learning_curve(
    path: str | Path,
    history: Sequence[Mapping] | Mapping[str, Sequence[Mapping]],
    *,
    title: str = "",
) -> Path:
    """Write losses and validation figures over the epochs.

    Parameters
    ----------
    history : sequence of records, or mapping name (e.g. fold) -> records
        Keys with "loss" go to the left panel, other ``val`` keys to the right, the rest nowhere.
    """
    runs = history if isinstance(history, Mapping) else {"": history}
    keys = [key for records in runs.values() for record in records for key in record]
    losses = sorted({key for key in keys if "loss" in key})
    scores = sorted({key for key in keys if key.startswith("val") and key not in losses})
    panels = [keys for keys in (losses, scores) if keys]
    if not panels:
        raise ValueError("the history holds neither a loss nor a validation figure")
    figure, grid = _figure(columns=len(panels), size=5.2)
    for axes, names in zip(np.atleast_1d(grid), panels, strict=True):
        for number, key in enumerate(names):
            for order, records in enumerate(runs.values()):
                points = [(r.get("epoch", i), r[key]) for i, r in enumerate(records) if key in r]
                label = key if order == 0 else None
                look = {"color": LINES[number % len(LINES)], "lw": 1.6, "label": label}
                dash = "-" if key.startswith("val") else "--"
                axes.plot(*zip(*points, strict=True), dash, **look) if points else None
        axes.set(xlabel="epoch", ylabel="loss" if names is losses else "validation")
        axes.xaxis.get_major_locator().set_params(integer=True)
        _legend(axes, "best")
    many = f", {len(runs)} runs" if len(runs) > 1 else ""
    figure.suptitle(f"{title or 'Learning curve'}{many}", fontsize=13)
    return _save(path, figure)


def draw_mask_box(
    path: str | Path,
    scores: MaskScores,
    figure_name: str = "dice",
    *,
    title: str = "",
    table: Table | None = None,
) -> Path:
    """Write a figure of masks class by class: a box and every patient as a dot."""
    _, mean = patient_means(scores, figure_name)
    table = table or metric_table(scores)
    k = len(scores.classes)
    figure, axes = _figure(size=max(5.2, 1.6 + 1.3 * k))
    place = np.arange(k)
    axes.boxplot(mean, positions=place, widths=0.5, showfliers=False, medianprops={"color": BLUE})
    # Dots are spread by rank, not by chance: the same scores draw the same picture.
    spread = ((np.arange(len(mean)) * 0.618) % 1 - 0.5) * 0.36
    for j in range(k):
        axes.plot(place[j] + spread, mean[:, j], ".", color=BLUE, alpha=0.55, ms=6)
    names = [f"{name}\n{_words(table[f'{figure_name}/{name}'])}" for name in scores.classes]
    axes.set_xticks(place, names)
    word = BOX_WORDS.get(figure_name, figure_name)
    axes.set(ylabel=f"{word} (mean of a patient's cases)")
    if METRICS[figure_name].range == (0, 1):
        axes.set(ylim=(np.floor(10 * mean.min()) / 10 - 0.02, 1.02))
    axes.grid(axis="y", color="#DDDDDD")
    axes.set_axisbelow(True)
    empty = int(np.sum(scores.empty > 0))
    note = f"; {empty} empty masks" if empty else ""
    return _finish(path, figure, axes, (title or f"{word} by class") + note, scores, None)


def _sides(predictions: Predictions):
    """Yield (name, truth, score, colour): the positive class, or each class against the rest."""
    if predictions.binary:
        name = predictions.classes[predictions.positive_index]
        yield name, predictions.truth, predictions.score, BLUE
        return
    for j, name in enumerate(predictions.classes):
        colour = LINES[j % len(LINES)]
        yield name, (predictions.target == j).astype(int), predictions.probability[:, j], colour


def _side_table(predictions: Predictions, truth, score, table: Table | None) -> Table:
    if table is not None and predictions.binary:
        return table
    pair = np.stack([1 - score, score], 1)
    two = Predictions(predictions.case_ids, predictions.patient_keys, truth, pair, ("rest", "it"))
    return metric_table(two, 0.5)


def _replicates(predictions: Predictions) -> int:
    # Bands of many classes lie over each other and hide the lines.
    return BAND_REPLICATES if predictions.binary else 0


def _band_and_line(axes, curve, colour, label, where="post") -> None:
    if np.isfinite(curve.lo).any():
        axes.fill_between(curve.grid, curve.lo, curve.hi, color=colour, alpha=0.18, lw=0)
    # Lines are stepped: no figure lies between two thresholds.
    axes.step(curve.x, curve.y, where=where, color=colour, lw=2, label=label)


def _words(interval: Interval) -> str:
    # Millimetres and millilitres need no thousandths, and three of them would run into the next.
    places = 3 if abs(interval.value) < 10 else 1
    if not np.isfinite(interval.lo):
        return f"{interval.value:.{places}f}"
    return f"{interval.value:.{places}f} ({interval.lo:.{places}f}-{interval.hi:.{places}f})"


def _figure(rows: int = 1, columns: int = 1, size: float = 6.0, heights=None):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size * columns, size), layout="constrained")
    axes = figure.subplots(rows, columns, height_ratios=heights)
    return figure, axes


def _finish(path, figure, axes, title, scored, legend) -> Path:
    patients, cases = scored.n_patients, len(scored)
    axes.set_title(f"{title}\n{cases} cases of {patients} patients", fontsize=13)
    if legend:
        axes.spines[["top", "right"]].set_visible(False)
        _legend(axes, legend)
    return _save(path, figure)


def _legend(axes, place: str) -> None:
    axes.legend(loc=place, fontsize=9, framealpha=0.9, edgecolor="none")


def _save(path: str | Path, figure) -> Path:
    path = Path(path)
    # Without the version of the library: the same figures give the same bytes.
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})
    return path
