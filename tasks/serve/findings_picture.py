"""Pictures of findings: planes of the image through each, with the found and the true boxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.imaging.reorient import REORIENT
from tasks.imaging.step import Image
from tasks.learn.boxes import Findings, box_on, boxes_on, rows_of, world_of
from tasks.learn.dataset import spacing_of
from tasks.serve.overlays import overlay
from tasks.serve.planes import LEAST_SIDE, SHOWN_AS, lettered, side_by_side, stacked

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageDraw import ImageDraw

FOUND, TRUE, NEITHER = (230, 159, 0), (86, 180, 233), (180, 180, 180)
"""Orange and sky blue of Okabe and Ito, and grey; all but the found ones are dashed as well."""

DASH = 4
"""Pixels of a dash, and of a gap."""

LINE = 2
"""Pixels of a box's line, drawn around the box, so that a small finding is not hidden by it."""

TEXT = 13
"""Pixels of letters."""

MOST_PLACES = 4
"""Findings of a case that are shown, each from three sides; the legend tells of others."""

PLANES = ("axial", "coronal", "sagittal")


@dataclass(frozen=True, eq=False)
class Mark:
    """One box to be drawn: lowest and highest corner (2, 3) on the grid that is shown."""

    box: np.ndarray
    text: str
    colour: tuple[int, int, int]

    def crosses(self, axis: int, at: int) -> bool:
        """Say whether the box reaches into a plane."""
        return bool(self.box[0, axis] < at + 0.5 and self.box[1, axis] > at - 0.5)


def findings_png(
    path: str | Path,
    image: np.ndarray,
    affine: np.ndarray,
    found: Findings,
    classes: Sequence[str],
    truth: Sequence[Sequence[float]] | None = None,
    outline: np.ndarray | None = None,
    *,
    placed: bool = True,
) -> Path:
    """Write planes through what is there and what was found, with a legend.

    A volume is shown from three sides as radiologists are used to, in true proportions; what has
    fewer than `LEAST_SIDE` slices, or pixels a side, is shown slice by slice as it was taken.  A
    row of planes goes through each true box and each finding that no row above shows, at most
    `MOST_PLACES`; where there is neither it goes through the middle.

    Parameters
    ----------
    path : path
    image : array (z, y, x)
    affine : array (4, 4)
        Index (z, y, x) to LPS mm.
    found : Findings
        On the image's grid.
    classes : sequence of str
    truth : rows of `tasks.learn.boxes.ROW` numbers, optional
        True boxes: class, centre and edges in LPS mm, irrelevant.
    outline : integer array (z, y, x), optional
        1 + class where something is outlined; it is shaded.
    placed : bool
        Whether the image lies in the patient; else it is shown slice by slice.
    """
    affine = np.asarray(affine, float)
    shown, axes = Image(np.asarray(image), affine), (0,)
    shaded = None if outline is None or not outline.any() else Image(outline, affine)
    if min(image.shape) >= LEAST_SIDE and placed:
        how = REORIENT.parameters(orientation=SHOWN_AS)
        shown, _ = REORIENT.apply(shown, how)
        shaded = None if shaded is None else REORIENT.apply(shaded, how)[0]
        axes = (0, 1, 2)
    marks = [*_true(truth, shown.affine, classes), *_found(found, affine, shown.affine, classes)]
    places = _places(marks, shown.array.shape, axes)
    rows = [
        side_by_side(
            [_plane(shown, shaded, axis, place[axis], marks, len(axes) > 1) for axis in axes]
        )
        for place in places[:MOST_PLACES]
    ]
    words = [] if shaded is None else ["shaded: outline of what was found"]
    words += [] if len(found) else ["no finding is shown"]
    if (more := len(places) - MOST_PLACES) > 0:
        words.append(f"{more} more places are not shown")
    legend = _legend(rows[0].width, marks, words)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    stacked([*rows, legend]).save(path)
    return path


def _true(
    truth: Sequence[Sequence[float]] | None, affine: np.ndarray, classes: Sequence[str]
) -> list[Mark]:
    rows = rows_of([] if truth is None else truth)
    # Of one class all true boxes are that; letters would only hide the image.
    names = [classes[int(row[0])] if len(classes) > 1 else "" for row in rows]
    colours = [NEITHER if row[13] else TRUE for row in rows]
    return list(map(Mark, boxes_on(rows, affine), names, colours))


def _found(
    found: Findings, affine: np.ndarray, shown: np.ndarray, classes: Sequence[str]
) -> list[Mark]:
    found = found.take(np.argsort(-found.score, kind="stable"))
    boxes = box_on(*world_of(found.box, np.asarray(affine, float)), shown)
    texts = [f"{classes[k]} {s:.2f}" for k, s in zip(found.label, found.score, strict=True)]
    return [Mark(box, text, FOUND) for box, text in zip(boxes, texts, strict=True)]


def _places(
    marks: Sequence[Mark], shape: tuple[int, ...], axes: Sequence[int]
) -> list[tuple[int, ...]]:
    """Return where planes cross (z, y, x), so that every box is cut by all planes of one place."""
    places: list[tuple[int, ...]] = []
    for mark in marks:
        seen = any(all(mark.crosses(axis, at[axis]) for axis in axes) for at in places)
        if mark.colour != NEITHER and not seen:
            middle = np.clip(np.round(mark.box.mean(0)), 0, np.array(shape) - 1)
            places.append(tuple(int(at) for at in middle))
    return places or [tuple(n // 2 for n in shape)]


def _plane(
    shown: Image, shaded: Image | None, axis: int, at: int, marks: Sequence[Mark], named: bool
) -> "Picture":
    from PIL import ImageDraw

    kept = [other for other in range(3) if other != axis]
    plane = shown.array.take(at, axis)
    mask = None if shaded is None else shaded.array.take(at, axis)
    sides = [spacing_of(shown.affine)[other] for other in kept]
    picture = overlay(plane, mask=mask, spacing=sides)
    scale = np.array(picture.size[::-1]) / plane.shape
    pen = ImageDraw.Draw(picture)
    if named:
        _write(pen, (4, 2), PLANES[axis], (255, 255, 255))
        lettered(picture, axis)
    # Dashes over lines: where the two lie on each other both are seen.
    for mark in sorted(marks, key=lambda mark: mark.colour != FOUND):
        if mark.crosses(axis, at):
            # Index i lies half a step from where its pixel begins.
            corners = (mark.box[:, kept] + 0.5) * scale
            _outline(pen, picture.size, corners[:, ::-1], mark)
    return picture


def _outline(pen: "ImageDraw", size: tuple[int, int], corners: np.ndarray, mark: Mark) -> None:
    """Draw a box of corners (2, 2), each (x, y) in pixels, and its text above or below it."""
    low = np.clip(np.floor(corners[0]) - LINE, 0, np.array(size) - 1)
    high = np.clip(np.ceil(corners[1]) - 1 + LINE, 0, np.array(size) - 1)
    (x0, y0), (x1, y1) = low.tolist(), high.tolist()
    if mark.colour == FOUND:
        pen.rectangle((x0, y0, x1, y1), outline=mark.colour, width=LINE)
    else:
        for start, end in (
            ((x0, y0), (x1, y0)),
            ((x0, y1), (x1, y1)),
            ((x0, y0), (x0, y1)),
            ((x1, y0), (x1, y1)),
        ):
            _dashed(pen, np.array(start), np.array(end), mark.colour)
    if mark.text:
        # What was found stands above its box and what is true below, as they mostly overlap.
        above, below = y0 - TEXT - 3, y1 + 1
        fits = above >= 0 if mark.colour == FOUND else below > size[1] - TEXT - 3
        left = max(0, min(x0, size[0] - _font().getlength(mark.text) - 2))
        _write(pen, (left, above if fits else below), mark.text, mark.colour)


def _dashed(
    pen: "ImageDraw", start: np.ndarray, end: np.ndarray, colour: tuple[int, int, int]
) -> None:
    length = float(np.linalg.norm(end - start))
    for at in np.arange(0, max(length, 1.0), 2 * DASH):
        along = (end - start) / max(length, 1.0)
        pen.line(
            [tuple(start + along * at), tuple(start + along * min(at + DASH, length))],
            fill=colour,
            width=LINE,
        )


def _write(
    pen: "ImageDraw", at: tuple[float, float], text: str, colour: tuple[int, int, int]
) -> None:
    pen.text(at, text, fill=colour, font=_font(), stroke_width=1, stroke_fill=(0, 0, 0))


def _font():
    from PIL import ImageFont

    return ImageFont.load_default(TEXT)


def _legend(width: int, marks: Sequence[Mark], words: Sequence[str]) -> "Picture":
    """Return what the colours mean, and words on what else is shown or not, a line each."""
    from PIL import Image as Pictures
    from PIL import ImageDraw

    told = {FOUND: "found, with class and score", TRUE: "true box", NEITHER: "counts for nothing"}
    held = [colour for colour in told if any(mark.colour == colour for mark in marks)]
    line = TEXT + 6
    legend = Pictures.new("RGB", (width, line * (len(held) + len(words)) + 4))
    pen = ImageDraw.Draw(legend)
    for number, colour in enumerate(held):
        y = number * line + line // 2 + 2
        if colour == FOUND:
            pen.line([(6, y), (34, y)], fill=colour, width=LINE)
        else:
            _dashed(pen, np.array([6, y]), np.array([34, y]), colour)
        _write(pen, (42, number * line + 3), told[colour], colour)
    for number, text in enumerate(words, start=len(held)):
        _write(pen, (6, number * line + 3), text, (255, 255, 255))
    return legend
