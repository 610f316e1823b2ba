"""The wanted elements of a header by walking its bytes; whatever is odd is left to pydicom.

A header of 130 elements costs pydicom a millisecond, because it makes an object of each; the walk
looks at tag, VR and length of each element (PS3.5 7.1) and cuts out the few that radloop reads.
Slices of one series share most of their bytes: `Stretches` remembers them, so that what was walked
once is compared and not walked again.
"""

import re
import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    UID_dictionary,
)

from tasks.archive.stretches import UNDEFINED, Odd, Stretches

WANTED_TAGS: tuple[int, ...] = (
    0x00080005, 0x00080008, 0x00080016, 0x00080018, 0x00080020, 0x00080021, 0x00080022,
    0x00080023, 0x00080050, 0x00080060, 0x00080068, 0x00080070, 0x00080080, 0x00080081,
    0x00080090, 0x00081010, 0x00081048, 0x00081050, 0x00081060, 0x00081070, 0x00081090,
    0x00100010, 0x00100020, 0x00100021, 0x00100030, 0x00100040, 0x00101000, 0x00101001,
    0x00101005, 0x00101010, 0x00101060, 0x00180010, 0x00180015, 0x00180020, 0x00180050,
    0x00180060, 0x00180080, 0x00180081, 0x00180082, 0x00180087, 0x00181000, 0x00181152,
    0x00181164, 0x00181210, 0x00182010, 0x00185101, 0x0020000D, 0x0020000E, 0x00200010,
    0x00200032, 0x00200037, 0x00200060, 0x00200062, 0x00280004, 0x00280008, 0x00280010,
    0x00280011, 0x00280030, 0x00280301, 0x00321032,
)  # fmt: skip
"""All that `headers`, `deidentify.kept_facts` and `elements` ask for; a test spies on them."""

WANTED: Mapping[int, str] = {tag: dictionary_VR(tag) for tag in WANTED_TAGS}
"""Wanted tag -> its VR in PS3.6; an element with another VR is odd."""

META: Mapping[int, str] = {0x00020002: "UI", 0x00020003: "UI", 0x00020010: "UI"}
"""Wanted elements of the file meta group (PS3.10 7.1)."""

LEFT_TO_PYDICOM = frozenset((0x00041220, 0x00180012))
"""Sequences whose items somebody asks for: directory records, contrast agents."""

MAX_WALKED_NESTING = 8
"""Sequences inside each other that are walked; deeper ones are odd, and pydicom counts them."""

SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
LONG_VRS = frozenset(b"OB OD OF OL OV OW SV UC UR UT UV".split())
"""VRs with a length of four bytes (PS3.5 7.1.2); UN and SQ are looked at more closely."""

PIXELS = frozenset((b"\xe0\x7f\x10\x00", b"\xe0\x7f\x08\x00", b"\xe0\x7f\x09\x00"))
"""Tags of pixel data, also of floating point (PS3.3 C.7.6.24), little endian."""

PIXEL_HEAD = 12
"""Bytes of an element before its value (PS3.5 7.1.2); a file that ends in them was cut."""

_ODD_SYNTAXES = frozenset(
    (
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        "1.2.840.10008.1.2.4.95",  # JPIP, deflated as well
        "1.2.840.10008.1.2.4.205",
    )
)
_SYNTAXES = {
    uid: uid == ImplicitVRLittleEndian
    for uid, entry in UID_dictionary.items()
    if entry[1] == "Transfer Syntax" and uid not in _ODD_SYNTAXES
}
_SYNTAX_OF = {
    (uid + "\0" * (len(uid) % 2)).encode(): (uid, implicit) for uid, implicit in _SYNTAXES.items()
}
META_START = b"\x02\x00\x00\x00UL\x04\x00"
_ITEM, _ITEM_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0"
_SEQUENCE_END = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
_CHARSET = b"\x08\x00\x05\x00"
_PLAIN = re.compile(rb"[\x00-\x1a\x1c-\x7f]*").fullmatch
"""ASCII without the escape that changes the character set."""

_LENGTH = struct.Struct("<I").unpack_from
_TAG_LENGTH = struct.Struct("<4sI").unpack_from


class Scanned(NamedTuple):
    """What a walk found before the pixels: identified, so it never leaves the archive wing."""

    values: dict[int, bytes]
    """Wanted tag -> its bytes as they stand in the file; the VR is that of `WANTED`."""
    meta: dict[int, bytes]
    transfer_syntax: str
    implicit: bool
    end: int
    """Where the element with the pixels begins."""


class Scanner:
    """Walks headers one after the other and remembers what the files of a series share."""

    def __init__(self) -> None:
        self._meta = Stretches(_kind_in_meta, _sequence_is_odd)
        self._body = Stretches(_kind_in_body, skip_sequence)

    def scan(self, data: bytes) -> Scanned | None:
        """Return the wanted elements of a file, or None when it is for pydicom to read.

        Parameters
        ----------
        data : bytes
            The file, or its first bytes: when the header does not end in them the answer is None.
        """
        if data[128:140] != b"DICM" + META_START:
            return None
        try:
            meta, at = self._meta.walk(data, 132)
            syntax, implicit = _SYNTAX_OF[meta[0x00020010]]
            if not _PLAIN(b"".join(meta.values())):
                return None
            values, end = walk_implicit(data, at) if implicit else self._body.walk(data, at)
            # The set decides how text is read; of one pydicom does not know, it guesses.
            if not known_charset(values.get(0x00080005, b"")) or len(data) < end + PIXEL_HEAD:
                return None
        except (Odd, KeyError, struct.error):
            # struct.error: the data end inside an element.
            return None
        return Scanned(values, meta, syntax, implicit, end)


@lru_cache(maxsize=256)
def known_charset(value: bytes) -> bool:
    """Tell a Specific Character Set (PS3.3 C.12.1.1.2) whose every term is a defined one."""
    if not value.isascii():
        return False
    return all(term in python_encoding for term in value.decode().rstrip(" ").split("\\"))


def _kind_in_meta(head: bytes) -> int:
    tag = int.from_bytes(head[:2], "little") << 16 | int.from_bytes(head[2:4], "little")
    if tag >> 16 != 2:
        return Stretches.STOP
    return _kind(tag, head[4:], META)


def _kind_in_body(head: bytes) -> int:
    tag = int.from_bytes(head[:2], "little") << 16 | int.from_bytes(head[2:4], "little")
    if head[:4] in PIXELS:
        # Other VRs than these are nothing that `headers` can measure.
        return Stretches.STOP if head[4:] in (b"OB", b"OW", b"OF", b"OD") else Stretches.ODD
    # A command set or a second meta group has no place in a file (PS3.10 7).
    if tag >> 16 in (0, 2) or tag in LEFT_TO_PYDICOM:
        return Stretches.ODD
    return _kind(tag, head[4:], WANTED)


def _kind(tag: int, vr: bytes, wanted: Mapping[int, str]) -> int:
    if tag in wanted:
        # All wanted ones have short VRs; 0000,0000 to 0000,0007 would be taken for a kind.
        return tag if vr == wanted[tag].encode() else Stretches.ODD
    return _KINDS.get(vr, Stretches.ODD)


_KINDS = {
    **dict.fromkeys(SHORT_VRS, Stretches.SHORT),
    # Of undefined length UN is a sequence (PS3.5 6.2.2), of defined length only bytes.
    **dict.fromkeys(LONG_VRS | {b"UN"}, Stretches.LONG),
    b"SQ": Stretches.SEQUENCE,
}


def _sequence_is_odd(data: bytes, at: int) -> int:
    raise Odd


def skip_sequence(data: bytes, at: int, depth: int = 1) -> int:
    """Return where an explicit VR sequence ends (PS3.5 7.5), all of it well formed.

    Raises
    ------
    Odd
        Anything a reader could see in two ways.
    """
    if depth > MAX_WALKED_NESTING:
        raise Odd
    (length,) = _LENGTH(data, at + 8)
    at += 12
    return _skip_items(data, at, length, lambda start, end: _explicit_item(data, start, end, depth))


def _skip_items(data: bytes, at: int, length: int, item: Callable[[int, int | None], int]) -> int:
    end = None if length == UNDEFINED else at + length
    while at != end:
        tag, size = _TAG_LENGTH(data, at)
        if end is None and data[at : at + 8] == _SEQUENCE_END:
            return at + 8
        if tag != _ITEM or (end is not None and at > end):
            raise Odd
        at = item(at + 8, None if size == UNDEFINED else at + 8 + size)
    if end > len(data):
        raise Odd
    return at


def _explicit_item(data: bytes, at: int, end: int | None, depth: int) -> int:
    while at != end:
        tag, _ = _TAG_LENGTH(data, at)
        if tag == _ITEM_END and end is None:
            return _after_item_end(data, at)
        kind = _KINDS.get(data[at + 4 : at + 6])
        if kind == Stretches.SHORT:
            size = data[at + 6] | data[at + 7] << 8
            if tag == _CHARSET and not known_charset(data[at + 8 : at + 8 + size]):
                raise Odd
            at += 8 + size
        elif kind == Stretches.LONG:
            (size,) = _LENGTH(data, at + 8)
            at += 12 + size
        elif kind == Stretches.SEQUENCE:
            at = skip_sequence(data, at, depth + 1)
        else:
            raise Odd
        # Also what has an undefined length here ends far beyond the data.
        if at > (len(data) if end is None else end):
            raise Odd
    return at


def _after_item_end(data: bytes, at: int) -> int:
    if data[at + 4 : at + 8] != b"\0\0\0\0":
        raise Odd
    return at + 8


def walk_implicit(data: bytes, at: int) -> tuple[dict[int, bytes], int]:
    """Return the wanted elements of an implicit VR little endian data set and where it ends.

    Raises
    ------
    Odd, struct.error
        Left to pydicom.
    """
    if data[at + 4 : at + 6].isalpha() and data[at + 4 : at + 6].isupper():
        # Two letters where a length stands: explicit after all.
        raise Odd
    values: dict[int, bytes] = {}
    while True:
        head, length = _TAG_LENGTH(data, at)
        kind = _implicit_kind(head)
        if kind == Stretches.STOP:
            return values, at
        if kind == Stretches.ODD:
            raise Odd
        if length == UNDEFINED:
            if kind != Stretches.SEQUENCE:
                raise Odd
            at = _implicit_sequence(data, at, 1)
            continue
        start, at = at + 8, at + 8 + length
        if kind not in (Stretches.SHORT, Stretches.SEQUENCE):
            values[kind] = data[start:at]


@lru_cache(maxsize=4096)
def _implicit_kind(head: bytes) -> int:
    tag = int.from_bytes(head[:2], "little") << 16 | int.from_bytes(head[2:], "little")
    if head in PIXELS:
        return Stretches.STOP
    if tag >> 16 in (0, 2, 0xFFFE) or tag in LEFT_TO_PYDICOM:
        return Stretches.ODD
    if tag in WANTED:
        return tag
    try:
        return Stretches.SEQUENCE if dictionary_VR(tag) == "SQ" else Stretches.SHORT
    except KeyError:
        return Stretches.SHORT


def _implicit_sequence(data: bytes, at: int, depth: int) -> int:
    if depth > MAX_WALKED_NESTING:
        raise Odd
    (length,) = _LENGTH(data, at + 4)
    return _skip_items(
        data, at + 8, length, lambda start, end: _implicit_item(data, start, end, depth)
    )


def _implicit_item(data: bytes, at: int, end: int | None, depth: int) -> int:
    while at != end:
        tag, size = _TAG_LENGTH(data, at)
        if tag == _ITEM_END and end is None:
            return _after_item_end(data, at)
        if tag[:2] == b"\xfe\xff":
            raise Odd
        if size == UNDEFINED:
            # Only of undefined length does pydicom look into a sequence of implicit VR.
            if _implicit_kind(tag) != Stretches.SEQUENCE:
                raise Odd
            at = _implicit_sequence(data, at, depth + 1)
        else:
            if tag == _CHARSET and not known_charset(data[at + 8 : at + 8 + size]):
                raise Odd
            at += 8 + size
        if at > (len(data) if end is None else end):
            raise Odd
    return at
