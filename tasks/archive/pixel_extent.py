"""Whether the pixels of a file are all there, told from its lengths and without decoding them."""

import struct

from pydicom.uid import UID

from tasks.archive.elements import Elements
from tasks.errors import BadCase

_PIXELS = {b"\xe0\x7f\x10\x00", b"\xe0\x7f\x08\x00", b"\xe0\x7f\x09\x00"}
_PIXELS_BIG = {b"\x7f\xe0\x00\x10", b"\x7f\xe0\x00\x08", b"\x7f\xe0\x00\x09"}
_ITEM, _ITEM_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_UNDEFINED = 0xFFFFFFFF


def check_pixels(elements: Elements, sop_class: str, body: bytes, end: int, size: int) -> None:
    """Refuse a file that was cut: its elements parse without an error all the same.

    Parameters
    ----------
    elements : Elements
        All before the pixels.
    sop_class : str
    body : bytes
        The data set, or of one with native pixels its beginning.
    end : int
        Where in it the element with the pixels begins.
    size : int
        Length of the whole data set.

    Raises
    ------
    BadCase
        ``truncated``, ``no_pixel_data`` or ``missing_matrix``.
    """
    tag = body[end : end + 4]
    if tag in _PIXELS:
        start, length = _element_length(body, end)
        if length == _UNDEFINED:
            length = _fragments_length(body, start, int(elements.number(0x00280008) or 1))
        if start + length > size:
            raise BadCase("truncated", "the file ends inside its pixel data: send it again")
    elif tag in _PIXELS_BIG:
        # Explicit VR big endian: OW or OB with two reserved bytes (PS3.5 7.1.2).
        (length,) = struct.unpack(">I", body[end + 8 : end + 12])
        if end + 12 + length > size:
            raise BadCase("truncated", "the file ends inside its pixel data: send it again")
    else:
        name = UID(sop_class).name
        raise BadCase("no_pixel_data", f"{name}: the header ends without pixels (cut or removed)")
    if not (elements.number(0x00280010) and elements.number(0x00280011)):
        raise BadCase("missing_matrix", "rows or columns are missing or 0")


def _element_length(body: bytes, at: int) -> tuple[int, int]:
    """Return where the value of the element at `at` begins, and its length."""
    explicit = body[at + 4 : at + 6] in (b"OB", b"OW", b"OF", b"OD", b"UN")
    head = 12 if explicit else 8
    if at + head > len(body):
        raise BadCase("truncated", "the file ends at its pixel data: send it again")
    return at + head, int.from_bytes(body[at + head - 4 : at + head], "little")


def _fragments_length(body: bytes, start: int, frames: int) -> int:
    """Return the length of encapsulated pixel data (PS3.5 A.4), or one past the end if cut."""
    at, items = start, 0
    while body[at : at + 4] == _ITEM:
        at += 8 + int.from_bytes(body[at + 4 : at + 8], "little")
        items += 1
    # The closing delimiter may be lost at the very end of old files: then the fragments are whole,
    # and there is the offset table and at least one for each frame.
    whole = at == len(body) and items > frames
    return at - start if whole or body[at : at + 4] == _ITEM_END else len(body)
