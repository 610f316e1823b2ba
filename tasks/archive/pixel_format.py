"""What a header says of its pixels, read once a file and checked before any pixel is touched."""

from typing import Any, NamedTuple

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag
from pydicom.uid import UID

from tasks.archive import codes
from tasks.archive.codecs import JPEG, JPEG_2000, JPEG_LS, RLE
from tasks.archive.elements import quiet, tag_of
from tasks.errors import BadCase

MAX_DECODED_BYTES = 4 << 30
"""Larger images are refused from the header: no single 2-D or 3-D study image needs 4 GiB."""

MAX_EXPANSION = 200
"""Decoded bytes per stored byte beyond which a large image is taken for a decompression bomb."""

EXPANSION_FREE_BYTES = 64 << 20
"""Below this size expansion is not judged: an empty slice compresses a thousandfold, lawfully."""

MAX_PADDING_BYTES = 1
"""Pixel Data has an even length (PS3.5 8.1.1), so one byte more than the image is lawful."""

BIG_ENDIAN = "1.2.840.10008.1.2.2"
NATIVE = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", BIG_ENDIAN})
"""Transfer syntaxes of uncompressed pixels."""

READABLE = NATIVE | JPEG | JPEG_LS | JPEG_2000 | {RLE}
"""Transfer syntaxes that have a decoder."""

HALVED_CHROMA = "YBR_FULL_422"
"""Of native pixels: two pixels share their colour (PS3.3 C.7.6.3.1.2)."""


class PixelFormat(NamedTuple):
    """The description of pixels (PS3.3 C.7.6.3.1), checked."""

    syntax: str
    """Transfer syntax UID."""
    rows: int
    columns: int
    samples: int
    frames: int
    bits: int
    """Bits Allocated: 8, 16 or 32."""
    stored: int
    """Bits Stored."""
    high: int
    """High Bit."""
    signed: bool
    photometric: str
    planar: bool
    """Whether colour stands plane by plane (Planar Configuration 1)."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns, samples."""
        return self.rows, self.columns, self.samples

    @property
    def native(self) -> bool:
        """Whether the pixels are uncompressed."""
        return self.syntax in NATIVE

    @property
    def decoded_bytes(self) -> int:
        """Bytes of all frames, decoded."""
        return self.rows * self.columns * self.samples * self.frames * self.bits // 8


def transfer_syntax(dataset: Dataset) -> str:
    """Return the transfer syntax UID; a file without meta header is implicit little endian."""
    meta = getattr(dataset, "file_meta", None)
    if meta is not None and _SYNTAX in meta and (stated := str(meta[_SYNTAX].value or "")):
        return stated
    implicit, little = dataset.original_encoding
    return ("1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1") if little else BIG_ENDIAN


def frame_count(dataset: Dataset) -> int:
    """Return Number of Frames, one when absent or empty."""
    if _FRAMES not in dataset:
        return 1
    with quiet():
        return int(dataset[_FRAMES].value or 1)


def pixel_format(dataset: Dataset) -> PixelFormat:
    """Read the description of the pixels and check it against what the file holds.

    Raises
    ------
    BadCase
        ``no_pixel_data``, ``undecodable`` (no decoder), ``invalid_header``, ``unsupported_bits``,
        ``too_large``, ``truncated`` or ``wrong_length``.
    """
    if _PIXELS not in dataset:
        raise BadCase("no_pixel_data", "has no Pixel Data: not an image, or cut before its pixels")
    found = _described(dataset)
    if found.syntax not in READABLE:
        raise BadCase("undecodable", f"no decoder for {_shown_syntax(found.syntax)}")
    if found.bits not in (8, 16, 32):
        raise BadCase("unsupported_bits", f"{found.bits} bits allocated; 8, 16 and 32 can be read")
    if min(found.rows, found.columns, found.frames) < 1 or found.samples not in (1, 3):
        raise BadCase(
            "invalid_header",
            f"{found.rows} rows, {found.columns} columns, {found.frames} frames, "
            f"{found.samples} samples",
        )
    if not (1 <= found.stored <= found.bits and found.stored - 1 <= found.high < found.bits):
        raise BadCase(
            "invalid_header",
            f"{found.stored} bits stored, high bit {found.high}, of {found.bits}",
        )
    _check_length(found, len(dataset.get_item(_PIXELS).value))
    return found


def check_size(dataset: Dataset) -> int:
    """Return the bytes of the decoded image; checks and reasons are those of `pixel_format`."""
    return pixel_format(dataset).decoded_bytes


# As tags and not as keywords, which are looked up in the dictionary each time.
_SYNTAX = tag_of(0x00020010)
_PIXELS, _FRAMES = tag_of(0x7FE00010), tag_of(0x00280008)
_SAMPLES, _PHOTOMETRIC, _PLANAR = tag_of(0x00280002), tag_of(0x00280004), tag_of(0x00280006)
_ROWS, _COLUMNS, _BITS = tag_of(0x00280010), tag_of(0x00280011), tag_of(0x00280100)
_STORED, _HIGH, _SIGNED = tag_of(0x00280101), tag_of(0x00280102), tag_of(0x00280103)


def _described(dataset: Dataset) -> PixelFormat:
    held = dict(dataset.items())

    def value(tag: BaseTag) -> Any:
        # What is converted is taken as it is: to ask the data set again costs four times that.
        element = held.get(tag)
        if isinstance(element, RawDataElement):
            element = dataset[tag]
        return None if element is None else element.value

    def number(tag: BaseTag, default: int) -> int:
        return int(value(tag) or default)

    try:
        bits, samples = number(_BITS, 0), number(_SAMPLES, 1)
        stored = number(_STORED, bits)
        return PixelFormat(
            syntax=transfer_syntax(dataset),
            rows=number(_ROWS, 0),
            columns=number(_COLUMNS, 0),
            samples=samples,
            frames=frame_count(dataset) if _FRAMES in held else 1,
            bits=bits,
            stored=stored,
            high=number(_HIGH, stored - 1),
            signed=number(_SIGNED, 0) == 1,
            photometric=str(value(_PHOTOMETRIC) or ""),
            planar=samples > 1 and number(_PLANAR, 0) == 1,
        )
    except (TypeError, ValueError) as error:
        raise BadCase("invalid_header", "rows, columns, bits or frames is no number") from error


def _shown_syntax(syntax: str) -> str:
    # What is no syntax of the standard may be anything, also a name.
    known = codes.transfer_syntax(syntax) == syntax
    return f"transfer syntax {UID(syntax).name} ({syntax})" if known else "its transfer syntax"


def _check_length(found: PixelFormat, stored: int) -> None:
    expected = found.decoded_bytes
    held = expected * 2 // 3 if found.photometric == HALVED_CHROMA else expected
    if expected > MAX_DECODED_BYTES:
        raise BadCase("too_large", f"{expected} bytes decoded, limit {MAX_DECODED_BYTES}")
    if expected > EXPANSION_FREE_BYTES and expected > MAX_EXPANSION * stored:
        raise BadCase(
            "too_large", f"{stored} bytes claim to hold {expected}; limit {MAX_EXPANSION}-fold"
        )
    native = found.native
    if stored == 0 or (native and stored < held):
        raise BadCase("truncated", f"{stored} of {held} bytes of Pixel Data; send it again")
    if native and stored > held + MAX_PADDING_BYTES:
        raise BadCase("wrong_length", f"{stored} bytes of Pixel Data where {held} belong")
