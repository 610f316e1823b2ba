"""Deflated DICOM files (PS3.5 A.5), inflated under a limit before any parser sees them."""

import zlib

from tasks.errors import BadCase

DEFLATED = b"1.2.840.10008.1.2.1.99"
"""Deflated Explicit VR Little Endian: the data set behind the meta group is a zlib stream."""

PLAIN = b"1.2.840.10008.1.2.1\0"
"""Explicit VR Little Endian, what a deflated file is once inflated; padded to an even length."""

MAX_INFLATED_BYTES = 256 << 20
"""A deflated file may inflate to this much: 300 kB can hold 300 MB, which pydicom would unpack."""

_PREAMBLE = 132
_LONG = (b"OB", b"OW", b"UN", b"SQ", b"UT")


def inflated(data: bytes) -> bytes:
    """Return a deflated file as the same file in Explicit VR Little Endian.

    Raises
    ------
    BadCase
        ``decompression_bomb``, ``truncated`` or ``not_dicom``.
    """
    if data[128:_PREAMBLE] != b"DICM":
        raise BadCase("not_dicom", "a deflated data set without its DICOM mark")
    at, named = _PREAMBLE, None
    while data[at : at + 2] == b"\x02\x00" and at + 8 <= len(data):
        if data[at + 4 : at + 6] in _LONG:
            length, value = int.from_bytes(data[at + 8 : at + 12], "little"), at + 12
        else:
            length, value = int.from_bytes(data[at + 6 : at + 8], "little"), at + 8
        if data[at + 2 : at + 4] == b"\x10\x00":
            named = data[value : value + length]
        at = value + length
    if named is None or named.rstrip(b"\0 ") != DEFLATED:
        return data  # the UID stands elsewhere: an ordinary file that mentions it
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        body = unpacker.decompress(data[at:], MAX_INFLATED_BYTES)
    except zlib.error:
        raise BadCase("truncated", "the deflated data set is damaged; send it again") from None
    if unpacker.unconsumed_tail:
        raise BadCase(
            "decompression_bomb", f"the deflated data set exceeds {MAX_INFLATED_BYTES} bytes"
        )
    if not unpacker.eof:
        raise BadCase("truncated", "the deflated data set is cut; send it again")
    # No group length: it would name the former meta group, and readers do without it.
    syntax = b"\x02\x00\x10\x00UI" + len(PLAIN).to_bytes(2, "little") + PLAIN
    return bytes(128) + b"DICM" + syntax + body
