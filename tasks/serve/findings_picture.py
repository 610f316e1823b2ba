"""Pictures of findings: one slice of the image with the boxes found and the true ones."""

from pathlib import Path

import numpy as np

from tasks.learn.boxes import Findings
from tasks.learn.dataset import spacing_of
from tasks.serve.overlays import overlay

FOUND, TRUE = (230, 159, 0), (86, 180, 233)
"""Orange and sky blue of Okabe and Ito; the true ones are dashed as well."""

DASH = 6
"""Pixels of a dash, and of a gap."""


def findings_png(
    path: str | Path,
    image: np.ndarray,
    affine: np.ndarray,
    found: Findings,
    truth: np.ndarray | None = None,
) -> Path:
    """Write the slice through the middle of the first true box, or else of the best finding.

    Parameters
    ----------
    path : path
    image : array (z, y, x)
    affine : array (4, 4)
        Index (z, y, x) to LPS mm.
    found : Findings
        On the image's grid.
    truth : array (t, 2, 3), optional
        True boxes in index coordinates of the image.
    """
    from PIL import ImageDraw

    truth = np.zeros((0, 2, 3)) if truth is None else truth
    at = _slice(image, found, truth)
    sides = spacing_of(affine)[1:]
    picture = overlay(image[at], spacing=sides)
    scale = np.array(picture.size[::-1]) / image.shape[1:]
    pen = ImageDraw.Draw(picture)
    for box in truth[_crosses(truth, at)]:
        _dashed(pen, *_corners(box, scale))
    for number in np.flatnonzero(_crosses(found.box, at)):
        (x0, y0), (x1, y1) = _corners(found.box[number], scale)
        pen.rectangle((x0, y0, x1, y1), outline=FOUND, width=2)
        pen.text((x0 + 3, max(0, y0 - 12)), f"{found.score[number]:.2f}", fill=FOUND)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return path


def _slice(image: np.ndarray, found: Findings, truth: np.ndarray) -> int:
    if len(truth):
        middle = truth[0, :, 0].mean()
    elif len(found):
        middle = found.box[int(found.score.argmax()), :, 0].mean()
    else:
        return len(image) // 2
    return int(np.clip(round(middle), 0, len(image) - 1))


def _crosses(box: np.ndarray, at: int) -> np.ndarray:
    return (box[:, 0, 0] < at + 0.5) & (box[:, 1, 0] > at - 0.5)


def _corners(box: np.ndarray, scale: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Return (x, y) of two corners in pixels; index i lies half a step from where it begins."""
    return tuple((float(x), float(y)) for y, x in (box[:, 1:] + 0.5) * scale)


def _dashed(pen, low: tuple[float, float], high: tuple[float, float]) -> None:
    (x0, y0), (x1, y1) = low, high
    for first, last in (
        ((x0, y0), (x1, y0)),
        ((x0, y1), (x1, y1)),
        ((x0, y0), (x0, y1)),
        ((x1, y0), (x1, y1)),
    ):
        start, end = np.array(first), np.array(last)
        length = float(np.linalg.norm(end - start))
        for at in np.arange(0, length, 2 * DASH):
            along = (end - start) / max(length, 1e-9)
            pen.line(
                [tuple(start + along * at), tuple(start + along * min(at + DASH, length))],
                fill=TRUE,
                width=2,
            )
