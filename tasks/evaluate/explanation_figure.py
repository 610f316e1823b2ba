"""Pictures of explanations: maps over images, how they bear ruined weights, columns of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.evaluate.figures import BLUE, DPI, GREY, LINES, ORANGE
from tasks.evaluate.saliency import SIMILAR, Looked

WINDOW_PERCENTILES = (0.5, 99.5)
"""Grey values shown from black to white, so that one bright pixel does not blacken the rest."""

MAP_OPACITY = 0.65
"""Share of colour where a map is strongest."""

SHOWN_COLUMNS = 20
"""Columns of a table that are drawn, those of the largest values."""

DOTS_HEIGHT = 0.32
"""How far dots of one column are spread, in rows."""


@dataclass(frozen=True, eq=False)
class LookPanel:
    """One row of the picture: a slice (y, x), what is said of it, its maps and outlined mask."""

    image: np.ndarray
    caption: str
    maps: Mapping[str, np.ndarray]
    mask: np.ndarray | None = None


def draw_looks(path: str | Path, panels: Sequence[LookPanel], *, title: str = "") -> Path:
    """Write each case in a row: the image, then a map a method; red speaks for, blue against.

    Parameters
    ----------
    path : path of a PNG
    panels : sequence of LookPanel
        Maps in [-1, 1]; captions without identifiers.
    title : str, optional
    """
    from matplotlib.figure import Figure

    methods = list(panels[0].maps)
    rows, columns = len(panels), 1 + len(methods)
    figure = Figure(figsize=(2.5 * columns, 2.7 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes_row, panel in zip(grid, panels, strict=True):
        for axes, name in zip(axes_row, ["", *methods], strict=True):
            _slice(axes, panel)
            if name:
                looked = np.asarray(panel.maps[name], float)
                strong = np.abs(looked).max() or 1.0
                axes.imshow(
                    looked, cmap="bwr", vmin=-strong, vmax=strong,
                    alpha=MAP_OPACITY * np.clip(np.abs(looked) / strong, 0, 1),
                )  # fmt: skip
                axes.set_title(name.replace("_", " "), fontsize=9)
            else:
                axes.set_title(panel.caption, fontsize=8)
    figure.suptitle(title or "Where the model looks", fontsize=12)
    return _save(path, figure)


def _slice(axes, panel: LookPanel) -> None:
    image = np.asarray(panel.image, float)
    low, high = np.percentile(image[np.isfinite(image)], WINDOW_PERCENTILES)
    axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-9))
    axes.set_axis_off()
    if panel.mask is not None and 0 < np.mean(panel.mask) < 1:
        look = {"levels": [0.5], "colors": ["#F0E442"], "linewidths": [1.0]}
        axes.contour(np.asarray(panel.mask, float), **look)


def draw_ruin(path: str | Path, found: Sequence[Looked], *, title: str = "") -> Path:
    """Write how much of each map is left as the weights are ruined from the output inwards."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2, sharey=True), ("rank", "ssim"), strict=True):
        for number, method in enumerate(dict.fromkeys(one.method for one in found)):
            curves = np.array([getattr(one, name) for one in found if one.method == method])
            curves = np.concatenate([np.ones((len(curves), 1)), curves], axis=1)
            at, colour = np.arange(curves.shape[1]), LINES[number]
            axes.plot(at, curves.T, color=colour, alpha=0.25, lw=0.8)
            label = method.replace("_", " ")
            axes.plot(at, curves.mean(0), "o-", ms=4, color=colour, lw=2, label=label)
        axes.axhline(SIMILAR if name == "rank" else 0, color=GREY, lw=1, ls=":")
        axes.set_xticks(at)
        axes.set(
            xlabel="stages whose weights are drawn anew",
            ylabel="rank correlation with its own map"
            if name == "rank"
            else "SSIM with its own map",
            ylim=(-1.05, 1.05),
        )
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, framealpha=0.9, edgecolor="none")
    cases = len({one.case_id for one in found})
    figure.suptitle(f"{title or 'Do the maps show the model?'}\n{cases} cases", fontsize=11)
    return _save(path, figure)


def draw_shapley(
    path: str | Path,
    names: Sequence[str],
    values: np.ndarray,
    rows: np.ndarray,
    *,
    title: str = "",
    unit: str = "log-odds",
) -> Path:
    """Write the Shapley values of the columns that matter most, a dot a row.

    Parameters
    ----------
    path : path of a PNG
    names : sequence of str
        Columns.
    values : (n, columns) array
        Shapley values.
    rows : (n, columns) array
        Rank of each cell in its column, 0 to 1; NaN for a word or an empty cell.
    title : str, optional
    unit : str
        Of the values.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    order = np.argsort(-np.abs(values).mean(0), kind="stable")[:SHOWN_COLUMNS]
    figure = Figure(figsize=(7.2, 1.6 + 0.32 * len(order)), layout="constrained")
    axes = figure.subplots()
    scale = LinearSegmentedColormap.from_list("cells", [BLUE, "#C8C8C8", ORANGE])
    # Dots are spread by rank, not by chance: the same values draw the same picture.
    spread = ((np.arange(len(values)) * 0.618) % 1 - 0.5) * 2 * DOTS_HEIGHT
    axes.axvline(0, color=GREY, lw=1)
    for place, column in enumerate(order):
        cells = rows[:, column]
        colours = [GREY if np.isnan(cell) else scale(cell) for cell in cells]
        axes.scatter(values[:, column], place + spread, c=colours, s=12, linewidths=0)
    labels = [f"{names[column]}  {np.abs(values[:, column]).mean():.2f}" for column in order]
    axes.set_yticks(range(len(order)), labels, fontsize=9)
    axes.invert_yaxis()
    axes.set(xlabel=f"Shapley value in {unit} (orange: high cell, blue: low, grey: word or empty)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title(f"{title or 'What speaks for the class'}\n{len(values)} rows; mean size beside "
                   "each name", fontsize=11)  # fmt: skip
    return _save(path, figure)


def _save(path: str | Path, figure) -> Path:
    path = Path(path)
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})
    return path
