"""Elements of a header as plain values, converted only when they are asked for."""

import logging
import math
import warnings
from collections.abc import Iterator, Mapping, MutableSequence, Sequence
from contextlib import contextmanager
from datetime import date
from functools import lru_cache
from typing import Any

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement, empty_value_for_VR
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from tasks.archive.textform import normalise

_PLAIN_TEXT_VRS = frozenset(("AE", "AS", "CS", "DA", "DS", "IS", "LO", "PN", "SH", "TM", "UI"))
"""Multi-valued text whose ASCII bytes mean themselves, whatever the character set."""

_PLAIN_PARAGRAPH_VRS = frozenset(("LT", "ST"))
"""Text of one value, in which a backslash is a backslash and spaces may lead (PS3.5 6.2)."""

_ESCAPE = 0x1B
"""Starts a change of character set (PS3.5 6.1.2.5): such bytes are ASCII and mean another text."""


tag_of = lru_cache(maxsize=1 << 13)(BaseTag)
"""Give each tag one object: tags that are not the same object are compared by Python code."""


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


@lru_cache(maxsize=8192)
def plain_values(vr: str | None, raw: bytes) -> tuple[Any, ...] | None:
    """Return the values of a little endian element that need no pydicom, None for the others.

    pydicom's conversion builds objects and validates: ten times the time of a decode.  Slices of a
    series repeat most values, hence the cache.
    """
    if vr in _PLAIN_TEXT_VRS and raw.isascii() and _ESCAPE not in raw:
        text = raw.decode("ascii").strip(" \0")
        return tuple(text.split("\\")) if text else ()
    if vr in _PLAIN_PARAGRAPH_VRS and raw.isascii() and _ESCAPE not in raw:
        text = raw.decode("ascii").rstrip(" \0")
        return (text,) if text else ()
    if vr == "US" and len(raw) == 2:
        return (raw[0] | raw[1] << 8,)
    return None


@lru_cache(maxsize=8192)
def _plain_text(vr: str, raw: bytes) -> str | None:
    values = plain_values(vr, raw)
    if values is None:
        return None
    return normalise(str(values[0])) if values else ""


@lru_cache(maxsize=1024)
def _finite(values: tuple[Any, ...]) -> tuple[float, ...] | None:
    try:
        numbers = tuple(map(float, values))
    except (TypeError, ValueError):
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


@lru_cache(maxsize=1024)
def _standard_vr(tag: int) -> str | None:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return None


class Elements:
    """A header's elements by tag; what is missing or cannot be converted is absent."""

    def __init__(self, ds: Dataset | None) -> None:
        self._ds = ds
        self._raw = {} if ds is None else dict(ds.items())

    def __contains__(self, tag: int) -> bool:
        return tag in self._raw

    def values(self, tag: int) -> Sequence[Any]:
        """Return an element's values; none for an empty element."""
        element = self._raw.get(tag)
        if element is None:
            return ()
        if isinstance(element, RawDataElement) and element.value is not None:
            # An element of implicit VR has the one of the dictionary (PS3.5 7.1.3).
            vr = element.VR or _standard_vr(tag)
            plain = plain_values(vr, element.value)
            if plain is not None and (element.is_little_endian or vr != "US"):
                return plain
        return self._converted(tag)

    def transfer_syntax(self) -> str:
        """Return the transfer syntax of the file meta group, "" when there is none."""
        meta = getattr(self._ds, "file_meta", None)
        with quiet():
            return str(meta.get("TransferSyntaxUID", "") or "") if meta is not None else ""

    def meta_text(self, tag: int) -> str:
        """Return the first value of an element of the file meta group, "" when there is none."""
        return Elements(getattr(self._ds, "file_meta", None)).text(tag)

    def _dataset(self) -> Dataset | None:
        return self._ds

    def _converted(self, tag: int) -> Sequence[Any]:
        try:
            with quiet():
                value = self._dataset()[tag].value
        except Exception:
            # A value that breaks its VR raises whatever pydicom's converters raise.
            return ()
        if value is None or value == "":
            return ()
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

    def numbers(self, tag: int, count: int) -> tuple[float, ...] | None:
        """Return exactly so many finite numbers, or None."""
        values = self.values(tag)
        return _finite(tuple(values)) if len(values) == count else None

    def day(self, tag: int) -> date | None:
        """Return a date (DA, or the old form with dots)."""
        text = self.text(tag).replace(".", "").replace("-", "")[:8]
        try:
            return date(int(text[:4]), int(text[4:6]), int(text[6:8])) if len(text) == 8 else None
        except ValueError:
            return None


class ScannedElements(Elements):
    """Elements whose bytes a scan cut out; pydicom converts what is more than plain text.

    Parameters
    ----------
    values : mapping
        Tag -> bytes, little endian.
    vrs : mapping
        Tag -> VR, for all of them.
    implicit : bool
    transfer_syntax : str
    meta : mapping
        The same of the file meta group, all with VR UI.
    """

    def __init__(
        self,
        values: Mapping[int, bytes],
        vrs: Mapping[int, str],
        implicit: bool,
        transfer_syntax: str,
        meta: Mapping[int, bytes],
    ) -> None:
        # Once a file, so without what the base would make for a data set.
        self._ds, self._raw, self._vrs = None, values, vrs
        self._implicit, self._syntax, self._meta = implicit, transfer_syntax, meta

    def values(self, tag: int) -> Sequence[Any]:
        """Return an element's values; none for an empty element."""
        raw = self._raw.get(tag)
        if raw is None:
            return ()
        plain = plain_values(self._vrs[tag], raw)
        return self._converted(tag) if plain is None else plain

    def text(self, tag: int) -> str:
        """Return the first value as normalised text, "" when there is none."""
        raw = self._raw.get(tag)
        if raw is None:
            return ""
        text = _plain_text(self._vrs[tag], raw)
        return super().text(tag) if text is None else text

    def transfer_syntax(self) -> str:
        """Return the transfer syntax of the file meta group."""
        return self._syntax

    def meta_text(self, tag: int) -> str:
        """Return the first value of an element of the file meta group, "" when there is none."""
        # A scan leaves a file whose meta group is not plain text to pydicom.
        return _plain_text("UI", self._meta.get(tag, b"")) or ""

    def _dataset(self) -> Dataset:
        if self._ds is None:
            made = {
                BaseTag(tag): RawDataElement(
                    BaseTag(tag),
                    None if self._implicit else self._vrs[tag],
                    len(raw),
                    # As pydicom's reader does: nothing is not the same as an empty text.
                    raw or empty_value_for_VR(None if self._implicit else self._vrs[tag], raw=True),
                    0,
                    self._implicit,
                    True,
                )
                for tag, raw in self._raw.items()
            }
            self._ds = Dataset(made)
            # The character set of the header, found as pydicom's reader finds it.
            self._ds.set_original_encoding(self._implicit, True, self._ds._character_set)
        return self._ds
