"""A data set whose elements are cut out of the file's bytes and converted when they are asked for.

pydicom copies each element and makes an object of it, a millisecond a file; most nobody asks for.
Here tag, VR and length of each are looked at (PS3.5 7.1.2) and the bytes left where they are.
What one file converted the others have, too: slices of a series share most of their elements
byte for byte.  Runs of elements that two files shared are looked for in the next one as they are:
one comparison of memory instead of looking at each element again.
"""

import struct
from functools import lru_cache
from typing import Any

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement, empty_value_for_VR
from pydicom.dataset import FileMetaDataset
from pydicom.tag import BaseTag

from tasks.archive.codecs import JPEG, JPEG_2000, JPEG_LS, RLE
from tasks.archive.elements import tag_of
from tasks.archive.scan import LONG_VRS, META_START, SHORT_VRS, known_charset, skip_sequence
from tasks.archive.stretches import UNDEFINED, Odd

EXPLICIT = frozenset({"1.2.840.10008.1.2.1", RLE}) | JPEG | JPEG_LS | JPEG_2000
"""Transfer syntaxes in explicit VR little endian that are cut here; pydicom reads the others."""

SHARED_BYTES = 256
"""Longer values are not taken over: tables and private blocks take longer to compare."""

SHARED_ELEMENTS = 1 << 14
"""Converted elements that are remembered, before all are forgotten: some differ in every file."""

RELEARN = 32
"""Elements of one file outside all runs, beyond which the runs are learned anew."""

_BODY = 132
_SEQUENCE = b"SQ"
_PIXELS, _CHARSET, _SYNTAX = tag_of(0x7FE00010), tag_of(0x00080005), tag_of(0x00020010)
_HEAD = struct.Struct("<HH2sH").unpack_from
_ITEM_HEAD = struct.Struct("<4sI").unpack_from
_LENGTH = struct.Struct("<I").unpack_from
_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"

_OWN = ("SQ", "UN")
"""Never taken over: items know their parent, and what is unknown may depend on other elements."""

Raws = dict[BaseTag, RawDataElement]
Converted = dict[RawDataElement, DataElement]
Runs = dict[int, tuple[bytes, Raws]]
"""By the number of their first tag: bytes of consecutive elements, and what is cut out of them."""


class _Sharing(Dataset):
    """pydicom's data set, which takes over what others of its series have converted."""

    _converted: Converted

    def get(self, key: Any, default: Any = None) -> Any:
        """Return what pydicom's does, a keyword's tag being looked up once."""
        tag = _tag_named(key) if type(key) is str else None
        if tag is None:
            return super().get(key, default)
        found = self._dict.get(tag)
        if found is None:
            return default
        return (found if type(found) is DataElement else self[tag]).value

    def __getitem__(self, key: Any) -> Any:
        tag = _tag_named(key) if type(key) is str else key
        raw = self._dict.get(tag) if type(tag) is BaseTag else None
        if type(raw) is DataElement:
            return raw
        if raw is None or raw.length > SHARED_BYTES or raw.VR in _OWN:
            return super().__getitem__(key)
        ready = self._converted.get(raw)
        if ready is None:
            if len(self._converted) >= SHARED_ELEMENTS:
                self._converted.clear()
            ready = self._converted[raw] = super().__getitem__(tag)
        self._dict[tag] = ready
        return ready


class _Meta(_Sharing, FileMetaDataset):
    """The file meta group."""


class Cutter:
    """Cuts the files of one series; remembers the last one, and what all of them converted."""

    def __init__(self) -> None:
        self._last: Raws = {}
        self._charset = b""
        self._converted: Converted = {}
        self._runs: Runs = {}

    def cut(self, data: bytes) -> Dataset | None:
        """Return the data set of a file, or None when it is for pydicom to read.

        Parameters
        ----------
        data : bytes
            The whole file. Pixel Data are a view of it.
        """
        if data[128 : _BODY + 8] != b"DICM" + META_START:
            return None
        try:
            meta, at = self._elements(data, _BODY, meta=True)
            syntax = meta[_SYNTAX].value.rstrip(b"\0 ").decode("ascii")
            if syntax not in EXPLICIT:
                return None
            begun: list[tuple[BaseTag, int]] = []
            found, at = self._elements(data, at, meta=False, begun=begun)
            charset = _value(found, _CHARSET)
            if at != len(data) or not known_charset(charset):
                return None
        except (Odd, KeyError, AttributeError, UnicodeDecodeError, struct.error):
            # struct.error: the data end inside an element.
            return None
        if charset != self._charset:
            self._charset, self._converted = charset, {}
        made, made.file_meta = _Sharing(dict(found)), _Meta(meta)
        made._converted = made.file_meta._converted = self._converted
        made.set_original_encoding(False, True, made._character_set)
        self._learn(data, found, begun)
        self._last = found
        return made

    def _elements(
        self,
        data: bytes,
        at: int,
        *,
        meta: bool,
        begun: list[tuple[BaseTag, int]] | None = None,
    ) -> tuple[Raws, int]:
        """Return the elements from `at` on and where they end: the meta group, or all behind.

        In `begun`, where those begin that stand in no run.
        """
        found: Raws = {}
        size, runs = len(data), self._runs
        while at < size:
            group, element, vr, length = _HEAD(data, at)
            if (group == 2) is not meta:
                if meta:
                    return found, at
                raise Odd
            number = group << 16 | element
            run = runs.get(number)
            # What an element is depends on its own bytes alone, so equal bytes are equal elements.
            if run is not None and data.startswith(run[0], at):
                found.update(run[1])
                at += len(run[0])
                continue
            tag = tag_of(number)
            if begun is not None:
                begun.append((tag, at))
            if vr in SHORT_VRS:
                start = at + 8
                at = start + length
                value = data[start:at]
            else:
                value, at = _long_value(data, at, number, vr)
                length = len(value)
            if at > size or not group:
                raise Odd
            name = vr.decode("ascii")
            found[tag] = RawDataElement(
                tag, name, length, value if length else empty_value_for_VR(name, raw=True), 0,
                False, True,
            )  # fmt: skip
        return found, at

    def _learn(self, data: bytes, found: Raws, begun: list[tuple[BaseTag, int]]) -> None:
        """Find the runs that this file and the last one share; forget those that do not help."""
        if self._runs:
            if len(begun) > RELEARN:
                self._runs = {}
            return
        if len(begun) != len(found):
            # An element stands twice: a run with the first one would tell the value of the second.
            return
        before, run = self._last, list[tuple[BaseTag, int]]()
        for tag, at in begun:
            if tag != _PIXELS and found[tag] == before.get(tag):
                run.append((tag, at))
            elif run:
                self._keep(data[run[0][1] : at], {one: found[one] for one, _ in run})
                run = []

    def _keep(self, data: bytes, raws: Raws) -> None:
        if len(raws) > 1:
            self._runs[int(next(iter(raws)))] = (data, raws)


@lru_cache(maxsize=512)
def _tag_named(keyword: str) -> BaseTag | None:
    number = tag_for_keyword(keyword)
    return None if number is None else tag_of(number)


def _value(elements: Raws, tag: BaseTag) -> bytes:
    return (elements[tag].value or b"") if tag in elements else b""


def _long_value(data: bytes, at: int, number: int, vr: bytes) -> tuple[bytes | memoryview, int]:
    """Return the value of an element with a length of four bytes, and where it ends."""
    (length,) = _LENGTH(data, at + 8)
    start = at + 12
    if vr == _SEQUENCE:
        end = skip_sequence(data, at)
        return data[start : end - (8 if length == UNDEFINED else 0)], end
    if vr not in LONG_VRS and vr != b"UN":
        raise Odd
    if length != UNDEFINED:
        end = start + length
        value = memoryview(data)[start:end] if number == _PIXELS else data[start:end]
        return value, end
    if number != _PIXELS:
        raise Odd
    end = start
    while end + 8 <= len(data):
        tag, size = _ITEM_HEAD(data, end)
        if tag != _ITEM:
            break
        end += 8 + size
    if data[end : end + 8] != _END:
        raise Odd
    return memoryview(data)[start:end], end + 8
