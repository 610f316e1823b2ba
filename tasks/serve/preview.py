"""A contact sheet of what a recipe does: each case, each step, its picture, histogram and time."""

import base64
import io
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import BadCase
from tasks.imaging.channels import LaidCase, obey
from tasks.imaging.recipe import FittedRecipe, Image, walk
from tasks.serve.overlays import most_of, overlay
from tasks.serve.pages import page_environment

HISTOGRAM_BINS = 64
"""Bars of a histogram; its picture is about as many pixels wide as two bars."""

HALF_UPRIGHT = 0.5
"""Of two axes of a plane one runs along the body when its cosine with it is above this; else the
plane lies across the body."""

PAGE_MODE = 0o600
"""The page shows patients' images: only its user may read it."""


@dataclass(frozen=True)
class View:
    """One stage of a case.

    Parameters
    ----------
    name : str
        The step, or "as read".
    params : mapping
        Its fitted parameters.
    pictures : tuple of str
        PNG files as data URIs: one of a single image, three planes of a volume.
    histogram : tuple of float
        Share of voxels in `HISTOGRAM_BINS` equal bins from ``low`` to ``high``.
    low, high, mean : float
        Of the voxels.
    shape, spacing : tuple
        (z, y, x) in voxels, and in mm.
    dtype : str
    milliseconds : float
    masks : mapping of name to share of voxels
    """

    name: str
    params: Mapping[str, Any]
    pictures: tuple[str, ...]
    histogram: tuple[float, ...]
    low: float
    high: float
    mean: float
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    dtype: str
    milliseconds: float
    masks: Mapping[str, float]


@dataclass(frozen=True)
class CaseSheet:
    """A case with all its stages; ``problem`` says where and why a recipe stopped."""

    case_id: str
    views: tuple[View, ...]
    certificate: Mapping[str, Any]
    facts: Mapping[str, Any]
    problem: str = ""


def case_sheet(
    case_id: str,
    image: Image,
    recipe: FittedRecipe,
    certificate: Mapping[str, Any],
    read_seconds: float = 0.0,
) -> CaseSheet:
    """Walk one image through a recipe and look at it after every step.

    Parameters
    ----------
    case_id : str
        Pseudonymous.
    image : Image
        As read, in real units.
    recipe : FittedRecipe
    certificate : mapping
        Of the volume's geometry.
    read_seconds : float
        What reading it took.
    """
    views = [_view("as read", {}, image, read_seconds)]
    stages = _timed(recipe, image)
    try:
        for step, done, seconds in stages:
            views.append(_view(step.name, step.params, done, seconds))
    except Exception as error:
        why = f"{recipe.steps[len(views) - 1].name}: {_told(error)}"
        return CaseSheet(case_id, tuple(views), certificate, image.facts, why)
    return CaseSheet(case_id, tuple(views), certificate, image.facts)


def with_channels(sheet: CaseSheet, laid: LaidCase, recipe: FittedRecipe) -> CaseSheet:
    """Add what each channel of a case is after the recipe; a sheet of one series stays as it is.

    Parameters
    ----------
    sheet : CaseSheet
        Of the reference.
    laid : LaidCase
        Of the same case.
    recipe : FittedRecipe
    """
    if recipe.channels is None or sheet.problem:
        return sheet
    started = time.perf_counter()
    try:
        done = obey(recipe, laid)
    except Exception as error:
        return replace(sheet, problem=_told(error))
    seconds = (time.perf_counter() - started) / sum(done.present)
    views = list(sheet.views)
    for name, array, there in zip(
        recipe.channels["names"], done.image.array, done.present, strict=True
    ):
        # A channel that is not there is zeros: nothing to look at.
        if there:
            one = Image(array, done.image.affine, done.image.masks)
            views.append(_view(f"channel {name}", done.aligned.get(name, {}), one, seconds))
    return replace(sheet, views=tuple(views))


def _told(error: Exception) -> str:
    """Say why a case stopped, in the words that preprocessing would keep of it."""
    if isinstance(error, BadCase):
        return str(error)
    # Its message could hold an identifier, as in `tasks.store.write`.
    return f"failed:{type(error).__name__}"


def _timed(recipe: FittedRecipe, image: Image) -> Iterator[tuple[Any, Image, float]]:
    started = time.perf_counter()
    for step, done, _ in walk(recipe.steps, image):
        seconds = time.perf_counter() - started
        yield step, done, seconds
        # Drawing is not the step's time.
        started = time.perf_counter()


def _view(name: str, params: Mapping[str, Any], image: Image, seconds: float) -> View:
    array = image.array
    low, high = float(array.min()), float(array.max())
    counts, _ = np.histogram(array, HISTOGRAM_BINS, (low, high if high > low else low + 1))
    return View(
        name=name,
        params=params,
        pictures=tuple(_data_uri(one) for one in _planes(image)),
        histogram=tuple((counts / max(array.size, 1)).tolist()),
        low=low,
        high=high,
        mean=float(array.mean(dtype=np.float64)),
        shape=tuple(array.shape),
        spacing=tuple(np.linalg.norm(image.affine[:3, :3], axis=0).tolist()),
        dtype=array.dtype.name,
        milliseconds=seconds * 1000,
        masks={key: float(np.mean(mask > 0)) for key, mask in image.masks.items()},
    )


def _planes(image: Image) -> Iterator[Any]:
    """Draw the plane with most of the masks, else the middle one, across each axis of a volume.

    Slices are drawn as they are stored, planes across them upright. Of a cine, whose first axis is
    time, there is nothing to see across its frames.
    """
    labels = _marked(image)
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    flat = image.array.shape[0] == 1 or image.facts.get("axis") == "time"
    for axis in (0,) if flat else (0, 1, 2):
        moved, marked = (np.moveaxis(a, axis, 0) for a in (image.array, labels))
        at, left = most_of(marked), [other for other in range(3) if other != axis]
        turned, upside_down = _upright(image.affine[:3, left] / spacing[left]) if axis else (0, 0)
        seen = tuple(
            (one[at].T if turned else one[at])[:: -1 if upside_down else 1]
            for one in (moved, marked)
        )
        sides = spacing[left[::-1] if turned else left].tolist()
        yield overlay(seen[0], mask=seen[1] if image.masks else None, spacing=sides)


def _upright(directions: np.ndarray) -> tuple[bool, bool]:
    """Say whether a plane is to be turned by 90 degrees, and then upside down, to stand upright.

    Rows run to the feet, or to the back in a plane across the body, whatever plane was acquired.

    Parameters
    ----------
    directions : ndarray (3, 2)
        Unit vectors (LPS) of the plane's rows and of its columns.
    """
    along = np.abs(directions)
    # The feet lie at the low end of z, the back at the high end of y.
    body, down = (2, -1) if along[2].max() > HALF_UPRIGHT else (1, 1)
    turned = bool(along[body, 1] > along[body, 0])
    return turned, bool(directions[body, int(turned)] * down < 0)


def _marked(image: Image) -> np.ndarray:
    """Return which mask is seen where, numbered as they were made: the smaller lies above.

    Bone is inside of the body; the other way round nobody would see it.
    """
    labels = np.zeros(image.array.shape, np.uint8)
    inside = [mask > 0 for mask in image.masks.values()]
    for number in np.argsort([-np.count_nonzero(one) for one in inside], kind="stable").tolist():
        labels[inside[number]] = number + 1
    return labels


def _data_uri(picture: Any) -> str:
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def bars(histogram: Sequence[float], width: int, height: int) -> str:
    """Return the path of an SVG area for a histogram; heights by square root, so small bins show.

    Air and background fill most of an image, and beside them nothing else would be seen.
    """
    tall = max(*histogram, 1e-12) ** 0.5
    step = width / len(histogram)
    points = [f"M0 {height}"]
    for index, share in enumerate(histogram):
        level = height - height * share**0.5 / tall
        points.append(f"L{index * step:.1f} {level:.1f}L{(index + 1) * step:.1f} {level:.1f}")
    return "".join([*points, f"L{width} {height}Z"])


def write_preview(
    path: Path,
    sheets: Iterable[CaseSheet],
    *,
    title: str,
    scenario: str,
    synthetic: bool,
    fitted: str,
    warnings: Sequence[str] = (),
) -> Path:
    """Write the page, readable by its user alone.

    Parameters
    ----------
    path : Path
        An old page there is replaced.
    sheets : iterable of CaseSheet
    title, scenario : str
    synthetic : bool
        Whether the images were drawn by a program.
    fitted : str
        What the recipe's fit rests on, in words.
    warnings : sequence of str
        What a person should know about the recipe.
    """
    environment = page_environment()
    environment.globals["bars"] = bars
    environment.filters["short"] = lambda value: f"{value:.4g}"
    text = environment.get_template("preview.html.j2").render(
        sheets=list(sheets),
        title=title,
        scenario=scenario,
        synthetic=synthetic,
        fitted=fitted,
        warnings=list(warnings),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PAGE_MODE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    return path
