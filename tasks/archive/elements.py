"""Elements of a header as plain values, converted only when they are asked for."""

import logging
import math
import warnings
from collections.abc import Iterator, MutableSequence
from contextlib import contextmanager
from datetime import date
from typing import Any

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from tasks.archive.textform import normalise

_PLAIN_TEXT_VRS = frozenset(("AE", "AS", "CS", "DA", "DS", "IS", "LO", "PN", "SH", "TM", "UI"))
"""Multi-valued text whose ASCII bytes mean themselves, whatever the character set."""

_ESCAPE = 0x1B
"""Starts a change of character set (PS3.5 6.1.2.5): such bytes are ASCII and mean another text."""


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom silent: it puts the values it complains of, names too, into warnings and log."""
    logger = logging.getLogger("pydicom")
    disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled


class Elements:
    """A header's elements by tag; what is missing or cannot be converted is absent."""

    def __init__(self, ds: Dataset | None) -> None:
        self._ds = ds
        self._raw = {} if ds is None else dict(ds.items())

    def __contains__(self, tag: int) -> bool:
        return tag in self._raw

    def values(self, tag: int) -> list[Any]:
        """Return an element's values; none for an empty element."""
        element = self._raw.get(tag)
        if element is None:
            return []
        if isinstance(element, RawDataElement) and element.VR in _PLAIN_TEXT_VRS:
            raw = element.value
            # pydicom's conversion builds objects and validates: ten times the time of a decode.
            if raw is not None and raw.isascii() and _ESCAPE not in raw:
                text = raw.decode("ascii").strip(" \0")
                return text.split("\\") if text else []
        return self._converted(tag)

    def _converted(self, tag: int) -> list[Any]:
        try:
            value = self._ds[tag].value
        except Exception:
            # A value that breaks its VR raises whatever pydicom's converters raise.
            return []
        if value is None or value == "":
            return []
        # Not everything that can be iterated has several values: a person's name is one.
        return list(value) if isinstance(value, MutableSequence) else [value]

    def text(self, tag: int) -> str:
        """Return the first value as normalised text, "" when there is none."""
        values = self.values(tag)
        return normalise(str(values[0])) if values else ""

    def number(self, tag: int, at: int = 0) -> float | None:
        """Return a finite number."""
        try:
            value = float(self.values(tag)[at])
        except (IndexError, TypeError, ValueError):
            return None
        return value if math.isfinite(value) else None

    def numbers(self, tag: int, count: int) -> list[float] | None:
        """Return exactly so many finite numbers, or None."""
        try:
            numbers = [float(value) for value in self.values(tag)]
        except (TypeError, ValueError):
            return None
        return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None

    def day(self, tag: int) -> date | None:
        """Return a date (DA, or the old form with dots)."""
        text = self.text(tag).replace(".", "").replace("-", "")[:8]
        try:
            return date(int(text[:4]), int(text[4:6]), int(text[6:8])) if len(text) == 8 else None
        except ValueError:
            return None
