"""Stored pixel values of one DICOM frame: sizes checked from the header, then the fastest decoder.

Native frames are cast here; compressed ones are decoded by `tasks.archive.codecs`, in a child.
"""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import UID

from tasks.archive import codes
from tasks.archive.codecs import JPEG, JPEG_2000, JPEG_LS, RLE
from tasks.archive.codestream import check_stream
from tasks.archive.deflate import DEFLATED, inflated
from tasks.archive.elements import quiet
from tasks.archive.guard import decode_guarded
from tasks.archive.native import halved_chroma, native_frame
from tasks.errors import BadCase

MAX_DECODED_BYTES = 4 << 30
"""Larger images are refused from the header: no single 2-D or 3-D study image needs 4 GiB."""

MAX_EXPANSION = 200
"""Decoded bytes per stored byte beyond which a large image is taken for a decompression bomb."""

EXPANSION_FREE_BYTES = 64 << 20
"""Below this size expansion is not judged: an empty slice compresses a thousandfold, lawfully."""

MAX_PADDING_BYTES = 1
"""Pixel Data has an even length (PS3.5 8.1.1), so one byte more than the image is lawful."""

END_MARKER_REACH = 32
"""JPEG streams must end with FFD9 within so many bytes of the frame's end, else they are cut."""

_HEADER_REACH = 4096
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", _BIG_ENDIAN}


def read_dataset(data: bytes) -> Dataset:
    """Parse one DICOM file held in memory, with or without preamble, deflated or not.

    Raises
    ------
    BadCase
        ``not_dicom``, ``truncated`` or ``decompression_bomb`` (deflated).
    """
    if DEFLATED in data[:_HEADER_REACH]:
        data = inflated(data)
    try:
        with quiet():
            dataset = dcmread(BytesIO(data), force=True)
            known = "SOPClassUID" in dataset or "Rows" in dataset
    except EOFError as error:
        raise BadCase("truncated", "the file ends inside an element; send it again") from error
    except Exception as error:  # pydicom raises many kinds on hostile bytes; RecursionError too
        raise BadCase("not_dicom", f"cannot be parsed as DICOM ({type(error).__name__})") from None
    if not known:
        raise BadCase("not_dicom", "holds neither an SOP class nor an image")
    return dataset


def transfer_syntax(dataset: Dataset) -> str:
    """Return the transfer syntax UID; a file without meta header is implicit little endian."""
    meta = getattr(dataset, "file_meta", None)
    stated = str(meta.get("TransferSyntaxUID", "")) if meta is not None else ""
    if stated:
        return stated
    implicit, little = dataset.original_encoding
    return ("1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1") if little else _BIG_ENDIAN


def frame_count(dataset: Dataset) -> int:
    """Return Number of Frames, one when absent or empty."""
    with quiet():
        return int(dataset.get("NumberOfFrames") or 1)


def check_size(dataset: Dataset) -> int:
    """Check what the header promises against what the file holds, before any pixel is touched.

    Returns
    -------
    int
        Bytes of the decoded image.

    Raises
    ------
    BadCase
        ``no_pixel_data``, ``undecodable`` (no decoder), ``unsupported_bits``, ``too_large``,
        ``truncated`` or ``wrong_length``.
    """
    if "PixelData" not in dataset:
        raise BadCase("no_pixel_data", "has no Pixel Data: not an image, or cut before its pixels")
    syntax = transfer_syntax(dataset)
    if syntax not in _NATIVE | JPEG | JPEG_LS | JPEG_2000 | {RLE}:
        raise BadCase("undecodable", f"no decoder for {_shown_syntax(syntax)}")
    try:
        rows, columns, samples = (
            int(dataset.get(name) or default)
            for name, default in (("Rows", 0), ("Columns", 0), ("SamplesPerPixel", 1))
        )
        bits, frames = int(dataset.get("BitsAllocated") or 0), frame_count(dataset)
    except (TypeError, ValueError) as error:
        raise BadCase("invalid_header", "rows, columns, bits or frames is no number") from error
    if bits not in (8, 16, 32):
        raise BadCase("unsupported_bits", f"{bits} bits allocated; 8, 16 and 32 can be read")
    if min(rows, columns, frames) < 1 or samples not in (1, 3):
        raise BadCase(
            "invalid_header", f"{rows} rows, {columns} columns, {frames} frames, {samples} samples"
        )
    expected = rows * columns * samples * frames * bits // 8
    native = syntax in _NATIVE
    held = expected * 2 // 3 if native and halved_chroma(dataset) else expected
    _check_length(expected, len(dataset.PixelData), native, held)
    return expected


def _check_length(expected: int, stored: int, native: bool, held: int) -> None:
    if expected > MAX_DECODED_BYTES:
        raise BadCase("too_large", f"{expected} bytes decoded, limit {MAX_DECODED_BYTES}")
    if expected > EXPANSION_FREE_BYTES and expected > MAX_EXPANSION * stored:
        raise BadCase(
            "too_large", f"{stored} bytes claim to hold {expected}; limit {MAX_EXPANSION}-fold"
        )
    if stored == 0 or (native and stored < held):
        raise BadCase("truncated", f"{stored} of {held} bytes of Pixel Data; send it again")
    if native and stored > held + MAX_PADDING_BYTES:
        raise BadCase("wrong_length", f"{stored} bytes of Pixel Data where {held} belong")


def encoded_frames(dataset: Dataset) -> list[bytes] | None:
    """Return the compressed frames of an image, fragments joined; None for native pixels.

    The Basic or Extended Offset Table tells frames apart, without them the ends of the streams
    (PS3.5 A.4).

    Raises
    ------
    BadCase
        ``undecodable`` when the fragments cannot be told apart, ``truncated`` when frames lack.
    """
    if transfer_syntax(dataset) in _NATIVE:
        return None
    count = frame_count(dataset)
    table = None
    if "ExtendedOffsetTable" in dataset and "ExtendedOffsetTableLengths" in dataset:
        table = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    try:
        with quiet():
            found = list(
                generate_frames(dataset.PixelData, number_of_frames=count, extended_offsets=table)
            )
    except Exception as error:
        raise BadCase(
            "undecodable", f"its {count} frames cannot be told apart ({type(error).__name__})"
        ) from None
    if len(found) < count:
        raise BadCase("truncated", f"holds {len(found)} of {count} frames; send it again")
    return found


def decode_frame(
    dataset: Dataset, index: int = 0, encoded: Sequence[bytes] | None = None
) -> np.ndarray:
    """Decode one frame of an image to its stored values.

    Parameters
    ----------
    dataset : pydicom.Dataset
        With Pixel Data; sizes are checked here again.
    index : int
        Frame, from 0.
    encoded : sequence of bytes, optional
        What `encoded_frames` returned, so that many frames are told apart once.

    Returns
    -------
    array, shape (rows, columns) or (rows, columns, 3)
        Stored values, bits above Bits Stored removed and the sign extended (PS3.5 8.1.1).
        JPEG and JPEG 2000 colour comes out as RGB, native and RLE colour as it is stored.

    Raises
    ------
    BadCase
        Reasons of `check_size`, ``undecodable`` (names the transfer syntax) or ``truncated``.
    """
    check_size(dataset)
    syntax = transfer_syntax(dataset)
    shape = (int(dataset.Rows), int(dataset.Columns), int(dataset.get("SamplesPerPixel") or 1))
    try:
        if syntax in _NATIVE:
            raw = native_frame(dataset, shape, index, big=syntax == _BIG_ENDIAN)
        else:
            frames = encoded_frames(dataset) if encoded is None else encoded
            raw = _compressed(dataset, shape, frames[index])
    except BadCase:
        raise
    except Exception as error:  # every codec has exceptions of its own
        raise BadCase(
            "undecodable", f"{UID(syntax).name} ({syntax}): decoder says {type(error).__name__}"
        ) from None
    if raw.shape[:2] != shape[:2] or raw.size != np.prod(shape):
        raise BadCase("undecodable", f"{syntax} holds {raw.shape} where {shape} was promised")
    return _stored_bits(raw, dataset)


def _shown_syntax(syntax: str) -> str:
    # What is no syntax of the standard may be anything, also a name.
    known = codes.transfer_syntax(syntax) == syntax
    return f"transfer syntax {UID(syntax).name} ({syntax})" if known else "its transfer syntax"


def _compressed(dataset: Dataset, shape: tuple[int, int, int], frame: bytes) -> np.ndarray:
    syntax = transfer_syntax(dataset)
    if syntax != RLE:
        if b"\xff\xd9" not in frame[-END_MARKER_REACH:]:
            raise BadCase("truncated", f"the {UID(syntax).name} stream has no end; send it again")
        check_stream(frame, *shape, jpeg_2000=syntax in JPEG_2000)
    photometric = str(dataset.get("PhotometricInterpretation") or "")
    try:
        return decode_guarded(syntax, frame, shape, int(dataset.BitsAllocated), photometric)
    except BadCase as error:
        raise BadCase(error.reason, f"{UID(syntax).name}: {error.detail}") from None


def _stored_bits(raw: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Keep Bits Stored of each value (old overlays lie above them) and extend the sign."""
    bits = int(dataset.BitsAllocated)
    stored = int(dataset.get("BitsStored") or bits)
    high = int(dataset.get("HighBit") or stored - 1)
    signed = int(dataset.get("PixelRepresentation") or 0) == 1
    if not 1 <= stored <= bits or not stored - 1 <= high < bits:
        raise BadCase("invalid_header", f"{stored} bits stored, high bit {high}, of {bits}")
    if raw.dtype.itemsize * 8 != bits:
        kind = "i" if raw.dtype.kind == "i" else "u"
        raw = raw.astype(f"{kind}{bits // 8}")
    values = np.ascontiguousarray(raw).view(f"u{bits // 8}")
    compressed = transfer_syntax(dataset) not in _NATIVE
    shift = 0 if compressed else high + 1 - stored
    if signed:
        # Up to the top, then an arithmetic shift down, which carries the sign.
        up = bits - stored - shift
        return (values << up).view(f"i{bits // 8}") >> (bits - stored)
    if stored == bits:
        return values
    lowest = values >> shift if shift else values
    return lowest & np.array((1 << stored) - 1, dtype=values.dtype)


def decodes_to_rgb(dataset: Dataset) -> bool:
    """Tell whether colour comes out as RGB: JPEG decoders undo their stream's own transform."""
    return transfer_syntax(dataset) in JPEG | JPEG_2000


def padding_mask(stored: np.ndarray, dataset: Dataset) -> np.ndarray | None:
    """Return where stored values are padding (PS3.3 C.7.5.1.1.2), None when none is declared.

    Pixel Padding Value alone or the closed range up to Pixel Padding Range Limit.
    """
    value = dataset.get("PixelPaddingValue")
    if value is None or stored.ndim != 2:
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = [_as_stored(v, stored.dtype) for v in (value, value if limit is None else limit)]
    mask = (stored >= min(ends)) & (stored <= max(ends))
    return mask if mask.any() else None


def _as_stored(value: int, dtype: np.dtype) -> int:
    """Read a padding value in the sign of the pixels: writers often give the other VR."""
    bits = dtype.itemsize * 8
    value = int(value) % (1 << bits)
    return value - (1 << bits) if dtype.kind == "i" and value >= 1 << (bits - 1) else value
