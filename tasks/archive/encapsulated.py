"""Compressed Pixel Data cut into its frames (PS3.5 A.4)."""

import struct

from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.tag import BaseTag

from tasks.archive.elements import quiet
from tasks.archive.pixel_format import NATIVE, frame_count, transfer_syntax
from tasks.errors import BadCase

_PIXELS = BaseTag(0x7FE00010)
_ITEM, _END = 0xE000FFFE, 0xE0DDFFFE
"""Tags of an item and of the sequence's end, as a little endian word reads them."""

_HEAD = struct.Struct("<II")


def encoded_frames(dataset: Dataset) -> list[bytes | memoryview] | None:
    """Return the compressed frames of an image, fragments joined; None for native pixels.

    The Basic or Extended Offset Table tells frames apart, without them the ends of the streams
    (PS3.5 A.4).

    Raises
    ------
    BadCase
        ``undecodable`` when the fragments cannot be told apart, ``truncated`` when frames lack.
    """
    if transfer_syntax(dataset) in NATIVE:
        return None
    count = frame_count(dataset)
    if count == 1 and (only := _only_frame(dataset[_PIXELS].value)) is not None:
        return [only]
    table = None
    if "ExtendedOffsetTable" in dataset and "ExtendedOffsetTableLengths" in dataset:
        table = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    data = bytes(dataset[_PIXELS].value)
    try:
        with quiet():
            found = list(generate_frames(data, number_of_frames=count, extended_offsets=table))
    except Exception as error:
        raise BadCase(
            "undecodable", f"its {count} frames cannot be told apart ({type(error).__name__})"
        ) from None
    if len(found) < count:
        raise BadCase("truncated", f"holds {len(found)} of {count} frames; send it again")
    return found


def _only_frame(data: bytes | memoryview) -> bytes | memoryview | None:
    """Return the frame of an image with one: a view where it is one fragment.

    None where anything is unusual, for pydicom to look at: several frames in spite of the count,
    items that do not end with the data.
    """
    fragments = []
    at, view = 0, memoryview(data)
    while at + _HEAD.size <= len(data):
        tag, length = _HEAD.unpack_from(data, at)
        if tag == _END:
            break
        start, at = at + _HEAD.size, at + _HEAD.size + length
        if tag != _ITEM or at > len(data):
            return None
        fragments.append(view[start:at])
    else:
        if at != len(data):
            return None
    if len(fragments) < 2 or len(fragments[0]) not in (0, 4):
        # The first item is the Basic Offset Table: empty, or the one frame's place.
        return None
    return fragments[1] if len(fragments) == 2 else b"".join(fragments[1:])
