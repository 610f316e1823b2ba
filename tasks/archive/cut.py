"""A data set whose elements are cut out of the file's bytes and converted when they are asked for.

pydicom copies each element and makes an object of it, a millisecond a file; most nobody asks for.
Here tag, VR and length of each are looked at (PS3.5 7.1.2) and the bytes left where they are.
What one file converted the next one has, too: slices of a series share most of their elements
byte for byte.  Runs of elements that two files shared are looked for in the next one as they are:
one comparison of memory instead of looking at each element again.
"""

import struct

from pydicom import Dataset
from pydicom.dataelem import DataElement, RawDataElement, empty_value_for_VR
from pydicom.dataset import FileMetaDataset
from pydicom.tag import BaseTag

from tasks.archive.codecs import JPEG, JPEG_2000, JPEG_LS, RLE
from tasks.archive.scan import LONG_VRS, META_START, SHORT_VRS, known_charset, skip_sequence
from tasks.archive.stretches import UNDEFINED, Odd

EXPLICIT = frozenset({"1.2.840.10008.1.2.1", RLE}) | JPEG | JPEG_LS | JPEG_2000
"""Transfer syntaxes in explicit VR little endian that are cut here; pydicom reads the others."""

SHARED_BYTES = 256
"""Longer values are not taken over: tables and private blocks take longer to compare."""

RELEARN = 32
"""Elements of one file outside all runs, beyond which the runs are learned anew."""

_BODY = 132
_SEQUENCE = b"SQ"
_PIXELS, _CHARSET, _SYNTAX = BaseTag(0x7FE00010), BaseTag(0x00080005), BaseTag(0x00020010)
_HEAD = struct.Struct("<HH2sH").unpack_from
_ITEM_HEAD = struct.Struct("<4sI").unpack_from
_LENGTH = struct.Struct("<I").unpack_from
_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"

Raws = dict[BaseTag, RawDataElement]
Runs = dict[int, tuple[bytes, Raws]]
"""By the number of their first tag: bytes of consecutive elements, and what is cut out of them."""


class Cutter:
    """Cuts the files of one series; remembers the last one."""

    def __init__(self) -> None:
        self._tags: dict[int, BaseTag] = {}
        self._last: tuple[Raws, Dataset] = ({}, Dataset())
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
            if at != len(data) or not known_charset(_value(found, _CHARSET)):
                return None
        except (Odd, KeyError, AttributeError, UnicodeDecodeError, struct.error):
            # struct.error: the data end inside an element.
            return None
        made = Dataset(self._shared(found))
        made.set_original_encoding(False, True, made._character_set)
        made.file_meta = FileMetaDataset(meta)
        self._learn(data, found, begun)
        self._last = (found, made)
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
        tags, size, runs = self._tags, len(data), self._runs
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
            tag = tags.get(number) or tags.setdefault(number, BaseTag(number))
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
        before, run = self._last[0], list[tuple[BaseTag, int]]()
        for tag, at in begun:
            if tag != _PIXELS and found[tag] == before.get(tag):
                run.append((tag, at))
            elif run:
                self._keep(data[run[0][1] : at], {one: found[one] for one, _ in run})
                run = []

    def _keep(self, data: bytes, raws: Raws) -> None:
        if len(raws) > 1:
            self._runs[int(next(iter(raws)))] = (data, raws)

    def _shared(self, found: Raws) -> dict[BaseTag, RawDataElement | DataElement]:
        """Take over what the last file has converted of the same bytes."""
        before, dataset = self._last
        if _value(before, _CHARSET) != _value(found, _CHARSET):
            return dict(found)
        converted = dataset._dict
        made: dict[BaseTag, RawDataElement | DataElement] = {}
        for tag, raw in found.items():
            ready = converted.get(tag)
            same = (
                type(ready) is DataElement
                and ready.VR != "SQ"
                and raw.length <= SHARED_BYTES
                and (raw is before[tag] or raw == before[tag])
            )
            made[tag] = ready if same else raw
        return made


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
