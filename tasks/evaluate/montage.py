"""Worst and best cases side by side, with the masks drawn over the images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.evaluate.figures import DPI, GREY, ORANGE
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.predictions import Predictions

TRUTH_COLOUR, PREDICTION_COLOUR = "#56B4E9", ORANGE
TRUTH_WIDTH, PREDICTION_WIDTH = 3.2, 1.3
"""Widths differ as well as colours, so that neither outline hides the other where they agree."""

WINDOW_PERCENTILES = (0.5, 99.5)
"""Grey values shown from black to white, so that one bright pixel does not blacken the rest."""


@dataclass(frozen=True, eq=False)
class CasePanel:
    """One picture of the montage.

    Parameters
    ----------
    image : array (y, x)
    caption : str
        Opaque id and figures; no identifier.
    truth, prediction : label maps (y, x) of int, optional
        Outlined: truth in a broad light-blue line, prediction over it in a narrow orange one.
    spacing : (row, column) in mm
        Pixels are drawn with this shape.
    """

    image: np.ndarray
    caption: str
    truth: np.ndarray | None = None
    prediction: np.ndarray | None = None
    spacing: tuple[float, float] = (1.0, 1.0)


def worst_and_best(scored: Predictions | MaskScores, count: int = 4) -> tuple[list[int], list[int]]:
    """Return indices of the worst (worst first) and the best cases (best first), no case twice.

    Cases are ranked by the probability given to the true class, or by their mean Dice.
    """
    if isinstance(scored, MaskScores):
        figure = scored.dice.mean(1)
    else:
        figure = scored.probability[np.arange(len(scored)), scored.target]
    order = sorted(range(len(scored)), key=lambda i: (figure[i], scored.case_ids[i]))
    count = min(count, len(order) // 2) if len(order) > 1 else 1
    return order[:count], order[::-1][:count] if len(order) > 1 else []


def best_slice(*masks: np.ndarray) -> int:
    """Return the slice z of volumes (z, y, x) in which the masks together are largest."""
    size = sum(np.asarray(mask > 0).sum((1, 2)) for mask in masks)
    return int(np.argmax(size)) if size.any() else len(size) // 2


def draw_cases(
    path: str | Path, worst: Sequence[CasePanel], best: Sequence[CasePanel], *, title: str = ""
) -> Path:
    """Write a montage: the worst cases in the upper row, the best in the lower one."""
    from matplotlib.figure import Figure

    rows = [(name, panels) for name, panels in (("worst", worst), ("best", best)) if panels]
    if not rows:
        raise ValueError("there are no cases to show")
    width = max(len(panels) for _, panels in rows)
    figure = Figure(figsize=(max(2.6 * width, 5.2), 3.1 * len(rows) + 0.7), layout="constrained")
    grid = figure.subplots(len(rows), width, squeeze=False)
    for row, (name, panels) in zip(grid, rows, strict=True):
        for axes in row:
            axes.set_axis_off()
        for number, (axes, panel) in enumerate(zip(row, panels, strict=False), start=1):
            _draw_panel(axes, panel, f"{name} {number}")
    masks = [panel for _, panels in rows for panel in panels]
    _key(figure, masks)
    figure.suptitle(title or "Worst and best cases", fontsize=13)
    path = Path(path)
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})
    return path


def _draw_panel(axes, panel: CasePanel, rank: str) -> None:
    image = np.asarray(panel.image, float)
    low, high = np.percentile(image[np.isfinite(image)], WINDOW_PERCENTILES)
    row, column = panel.spacing
    axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-9), aspect=row / column)
    _outline(axes, panel.truth, TRUTH_COLOUR, TRUTH_WIDTH)
    _outline(axes, panel.prediction, PREDICTION_COLOUR, PREDICTION_WIDTH)
    axes.set_title(f"{rank}: {panel.caption}", fontsize=8, wrap=True)


def _outline(axes, mask: np.ndarray | None, colour: str, width: float) -> None:
    if mask is None:
        return
    for label in np.unique(mask[mask > 0]):
        inside = (mask == label).astype(float)
        if inside.min() == inside.max():
            continue
        axes.contour(inside, levels=[0.5], colors=[colour], linewidths=[width])


def _key(figure, panels: Sequence[CasePanel]) -> None:
    from matplotlib.lines import Line2D

    handles = []
    if any(panel.truth is not None for panel in panels):
        handles.append(Line2D([], [], color=TRUTH_COLOUR, lw=TRUTH_WIDTH, label="truth"))
    if any(panel.prediction is not None for panel in panels):
        look = {"color": PREDICTION_COLOUR, "lw": PREDICTION_WIDTH}
        handles.append(Line2D([], [], label="prediction", **look))
    if handles:
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=2,
            fontsize=9,
            labelcolor=GREY,
            frameon=False,
        )
