"""COCO's JSON of boxes, polygons and masks (Lin 2014): images, categories, annotations."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tasks.labels.runs import Runs, read_runs
from tasks.labels.shapes import PixelBox, checked_box

_NOT_COCO = (
    "The file is no COCO JSON: an object with the lists images (id, file_name), categories "
    "(id, name) and annotations (image_id, category_id, bbox). Export it again from its tool."
)


@dataclass(frozen=True)
class Coco:
    """What a file says; whoever lists an image has looked at it."""

    categories: tuple[str, ...]
    images: Mapping[str, Sequence[tuple[PixelBox, bool]]] = field(repr=False)
    """File name -> its boxes, and whether each is a crowd, which counts for nothing."""
    sizes: Mapping[str, tuple[int, int]] = field(repr=False)
    """File name -> (rows, columns) of the picture its boxes were drawn on, where the file says."""
    problems: tuple[tuple[int, str, str], ...] = field(repr=False)
    """(number of the annotation from 1, reason, file name)."""


def read_coco(data: bytes) -> Coco:
    """Read a file; of a crowd the box alone, since it counts for nothing.

    Raises
    ------
    ValueError
        It is no COCO, two images have one name or id, or an annotation names an image or a
        category that is not listed.
    """
    try:
        body = json.loads(data)
        images = {one["id"]: str(one["file_name"]) for one in body["images"]}
        sizes = {str(one["file_name"]): _size(one) for one in body["images"]}
        categories = {one["id"]: str(one["name"]) for one in body["categories"]}
        told, count = body["annotations"], len(body["images"])
        if not all(
            isinstance(body[name], list) for name in ("images", "categories", "annotations")
        ):
            raise TypeError("lists")
        of = [(one["image_id"], one["category_id"]) for one in told]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(_NOT_COCO) from None
    if not len(images) == len({*images.values()}) == count:
        raise ValueError("The COCO file lists two images of one id or file_name: correct it.")
    found: dict[str, list[tuple[PixelBox, bool]]] = {name: [] for name in images.values()}
    problems = []
    for line, (one, (image, category)) in enumerate(zip(told, of, strict=True), start=1):
        if image not in images or category not in categories:
            raise ValueError(
                f"Annotation {line} of the COCO file names an image or a category that is not "
                "listed: export it again."
            )
        name = images[image]
        try:
            box = _box(line, name, categories[category], one)
            found[name].append((box, bool(one.get("iscrowd"))))
        except ValueError as error:
            problems.append((line, str(error), name))
    known = {name: size for name, size in sizes.items() if size is not None}
    return Coco(tuple(categories.values()), found, known, tuple(problems))


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return rows and columns; None where they are left out or, as some tools write, 0."""
    rows, columns = image.get("height"), image.get("width")
    whole = isinstance(rows, int) and isinstance(columns, int)
    return (rows, columns) if whole and min(rows, columns) > 0 else None


def _box(line: int, image: str, name: str, one: Mapping[str, Any]) -> PixelBox:
    sides = one.get("bbox")
    if not isinstance(sides, list) or len(sides) != 4:
        raise ValueError("its bbox is not four numbers: left, top, width, height")
    box = checked_box(line, image, name, *sides)
    told = one.get("segmentation")
    if isinstance(told, Mapping) and told and not one.get("iscrowd"):
        return replace(box, runs=_runs_in(box, told))
    return replace(box, outline=_outline(told)) if isinstance(told, list) else box


def _runs_in(box: PixelBox, told: Mapping[str, Any]) -> Runs:
    """Return a mask that lies within its box, but for a pixel that tools round off."""
    runs = read_runs(told)
    for at, low, high in zip(np.nonzero(runs.mask()), box.start, box.stop, strict=True):
        if at.min() < low - 1 or at.max() + 1 > high + 1:
            raise ValueError("its run-length mask reaches out of its bbox: export it again")
    return runs


def _outline(polygons: list[Any]) -> tuple[tuple[tuple[float, float], ...], ...]:
    rings = []
    for flat in polygons:
        try:
            numbers = [float(value) for value in flat]
        except (TypeError, ValueError):
            raise ValueError("its outline has a side that is no number") from None
        if len(numbers) < 6 or len(numbers) % 2 or not all(map(math.isfinite, numbers)):
            raise ValueError("its outline is not of three points or more")
        rings.append(tuple(zip(numbers[1::2], numbers[::2], strict=True)))
    return tuple(rings)
