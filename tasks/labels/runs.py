"""COCO's run-length masks: how many pixels lie outside, inside, outside and so on, by columns.

Tools write the lengths as a list or packed into a text (cocoapi, common/maskApi.c, rleToString):
five bits a character from 48 on, a sixth that says whether more follow, and from the fourth
length on the difference to the last but one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

_DAMAGED = "its run-length mask is damaged: export it again"


@dataclass(frozen=True)
class Runs:
    """A mask of a picture.

    Raises
    ------
    ValueError
        The lengths are not those of a picture of this size, or nothing lies inside.
    """

    size: tuple[int, int]
    """(rows, columns)."""
    lengths: tuple[int, ...] = field(repr=False)
    """Of runs outside and inside in turn, from the upper left corner down each column."""

    def __post_init__(self) -> None:
        rows, columns = self.size
        if min(self.size) < 1 or min(self.lengths, default=-1) < 0:
            raise ValueError(_DAMAGED)
        if sum(self.lengths) != rows * columns:
            raise ValueError(f"its run-length mask is not of {rows} x {columns} pixels")
        if not any(self.lengths[1::2]):
            raise ValueError("its run-length mask is empty")

    def mask(self) -> np.ndarray:
        """Return the pixels inside, shape (rows, columns), bool."""
        flat = np.zeros(self.size[0] * self.size[1], bool)
        ends = np.cumsum(self.lengths)
        for start, stop in list(pairwise(ends))[::2]:
            flat[start:stop] = True
        return flat.reshape(self.size, order="F")


def read_runs(told: Mapping[str, Any]) -> Runs:
    """Return the mask of an annotation's ``segmentation`` with ``size`` and ``counts``.

    Raises
    ------
    ValueError
        It is none; as `Runs`.
    """
    size, counts = told.get("size"), told.get("counts")
    lengths = _unpacked(counts) if isinstance(counts, str) else counts
    for numbers in (size, lengths):
        if not isinstance(numbers, list) or not all(type(one) is int for one in numbers):
            raise ValueError(_DAMAGED)
    if len(size) != 2:
        raise ValueError(_DAMAGED)
    return Runs((size[0], size[1]), tuple(lengths))


def _unpacked(text: str) -> list[int]:
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError(_DAMAGED)
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        value -= 1 << shift if bits & 16 else 0
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError(_DAMAGED)
    return lengths
