"""Stored pixel values of one DICOM frame: sizes checked from the header, then the fastest decoder.

Native frames are cast here; compressed ones are decoded by `tasks.archive.codecs`, in a child.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from io import BytesIO
from itertools import groupby
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import UID

from tasks.archive.codecs import JPEG, JPEG_2000, RLE, Coded
from tasks.archive.codestream import check_stream
from tasks.archive.cut import Cutter
from tasks.archive.deflate import DEFLATED, inflated
from tasks.archive.elements import quiet, tag_of
from tasks.archive.encapsulated import encoded_frames
from tasks.archive.guard import decode_each_guarded
from tasks.archive.native import native_frame
from tasks.archive.pixel_format import (
    PixelFormat,
    pixel_format,
    transfer_syntax,
)
from tasks.errors import BadCase

END_MARKER_REACH = 32
"""JPEG streams must end with FFD9 within so many bytes of the frame's end, else they are cut."""

_HEADER_REACH = 4096
_UNSIGNED = {size: np.dtype(f"u{size}") for size in (1, 2, 4)}
_PIXELS, _SOP_CLASS, _ROWS = tag_of(0x7FE00010), tag_of(0x00080016), tag_of(0x00280010)


def read_dataset(data: bytes, cutter: Cutter | None = None) -> Dataset:
    """Parse one DICOM file held in memory, with or without preamble, deflated or not.

    Parameters
    ----------
    data : bytes
    cutter : Cutter, optional
        One for the files of a series is faster, since it remembers what they share.

    Raises
    ------
    BadCase
        ``not_dicom``, ``truncated`` or ``decompression_bomb`` (deflated).
    """
    made = (cutter or Cutter()).cut(data)
    if made is not None and _is_known(made):
        return made
    if DEFLATED in data[:_HEADER_REACH]:
        data = inflated(data)
    try:
        with quiet():
            dataset = dcmread(BytesIO(data), force=True)
            known = _is_known(dataset)
    except EOFError as error:
        raise BadCase("truncated", "the file ends inside an element; send it again") from error
    except Exception as error:  # pydicom raises many kinds on hostile bytes; RecursionError too
        raise BadCase("not_dicom", f"cannot be parsed as DICOM ({type(error).__name__})") from None
    if not known:
        raise BadCase("not_dicom", "holds neither an SOP class nor an image")
    return dataset


def _is_known(dataset: Dataset) -> bool:
    return _SOP_CLASS in dataset or _ROWS in dataset


class StoredPixels:
    """The pixels of one file: its header read and checked once, its frames told apart once.

    Parameters
    ----------
    dataset : pydicom.Dataset

    Raises
    ------
    BadCase
        Reasons of `pixel_format`.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.format = pixel_format(dataset)
        self._dataset = dataset
        self._encoded: list[bytes | memoryview] | None = None

    def native(self, index: int) -> np.ndarray:
        """Return the stored values of an uncompressed frame; see `decode_frame`."""
        # As it stands: to convert it would only make an object of it.
        element = self._dataset.get_item(_PIXELS)
        raw = native_frame(element.value, self.format, index, element.VR)
        return self._stored(raw)

    def coded(self, index: int) -> Coded:
        """Return a compressed frame for the decoder, after what can be told without decoding.

        Raises
        ------
        BadCase
            ``undecodable`` or ``truncated``.
        """
        kind = self.format
        if self._encoded is None:
            self._encoded = encoded_frames(self._dataset)
        frame, syntax = self._encoded[index], kind.syntax
        if syntax != RLE:
            if b"\xff\xd9" not in bytes(frame[-END_MARKER_REACH:]):
                said = f"the {UID(syntax).name} stream has no end; send it again"
                raise BadCase("truncated", said)
            check_stream(frame, *kind.shape, jpeg_2000=syntax in JPEG_2000)
        return Coded(syntax, frame, kind.shape, kind.bits, kind.photometric)

    def decoded(self, raw: np.ndarray) -> np.ndarray:
        """Return the stored values of what the decoder made of a frame.

        Raises
        ------
        BadCase
            ``undecodable`` when it is not the image that the header promises.
        """
        kind = self.format
        if raw.shape[:2] != kind.shape[:2] or raw.size != np.prod(kind.shape):
            raise BadCase(
                "undecodable", f"{kind.syntax} holds {raw.shape} where {kind.shape} was promised"
            )
        return self._stored(raw)

    def _stored(self, raw: np.ndarray) -> np.ndarray:
        """Keep Bits Stored of each value (old overlays lie above them) and extend the sign."""
        bits, stored, native = self.format.bits, self.format.stored, self.format.native
        size = bits // 8
        if raw.dtype.itemsize != size:
            raw = raw.astype(f"{'i' if raw.dtype.kind == 'i' else 'u'}{size}")
        values = np.ascontiguousarray(raw).view(_UNSIGNED[size])
        shift = self.format.high + 1 - stored if native else 0
        if self.format.signed:
            # Up to the top, then an arithmetic shift down, which carries the sign.
            up = bits - stored - shift
            if up == 0 and stored == bits:
                return values.view(f"i{bits // 8}")
            return (values << up).view(f"i{bits // 8}") >> (bits - stored)
        if shift:
            values = values >> shift
        # Looking costs half of masking, and scanners leave the upper bits empty.
        if stored == bits or int(values.max()) >> stored == 0:
            return values
        return values & np.array((1 << stored) - 1, dtype=values.dtype)


def decode_frame(dataset: Dataset, index: int = 0) -> np.ndarray:
    """Decode one frame of an image to its stored values.

    Parameters
    ----------
    dataset : pydicom.Dataset
        With Pixel Data; sizes are checked here.
    index : int
        Frame, from 0.

    Returns
    -------
    array, shape (rows, columns) or (rows, columns, 3)
        Stored values, bits above Bits Stored removed and the sign extended (PS3.5 8.1.1).
        JPEG and JPEG 2000 colour comes out as RGB, native and RLE colour as it is stored.
        Perhaps a view of the Pixel Data, which cannot be written.

    Raises
    ------
    BadCase
        Reasons of `pixel_format`, ``undecodable`` (names the transfer syntax) or ``truncated``.
    """
    (found,) = decode_frames([(StoredPixels(dataset), index)], keep=True)
    return found


def decode_frames(
    wanted: Iterable[tuple[StoredPixels, int]], *, keep: bool = False
) -> Iterator[np.ndarray]:
    """Decode frames of one or more files; compressed ones are decoded ahead, in the child.

    Parameters
    ----------
    wanted : iterable of (StoredPixels, int)
        File and frame, from 0; taken some frames ahead.
    keep : bool
        Whether an array must hold when the next one is asked for.

    Yields
    ------
    array
        As `decode_frame`, in the order of `wanted`.

    Raises
    ------
    BadCase
        As `decode_frame`, after the frames before have been yielded.
    """
    for native, run in groupby(wanted, key=lambda one: one[0].format.native):
        if native:
            for pixels, index in run:
                yield _named(pixels.format, pixels.native, index)
        else:
            yield from _compressed(run, keep)


def _compressed(wanted: Iterable[tuple[StoredPixels, int]], keep: bool) -> Iterator[np.ndarray]:
    under_way: deque[StoredPixels] = deque()

    def coded() -> Iterator[Coded]:
        for pixels, index in wanted:
            one = _named(pixels.format, pixels.coded, index)
            under_way.append(pixels)
            yield one

    with closing(decode_each_guarded(coded())) as found:
        while True:
            try:
                raw = next(found, None)
            except BadCase as error:
                if not under_way:
                    # Refused before it reached the decoder, all others being through.
                    raise
                name = UID(under_way[0].format.syntax).name
                raise BadCase(error.reason, f"{name}: {error.detail}") from None
            if raw is None:
                return
            pixels = under_way.popleft()
            values = _named(pixels.format, pixels.decoded, raw)
            yield values.copy() if keep else values


def _named(kind: PixelFormat, call: Callable[[Any], Any], argument: Any) -> Any:
    """Return what a call gives; an error that is no reason becomes one that names the syntax."""
    try:
        return call(argument)
    except BadCase:
        raise
    except Exception as error:  # hostile bytes make codecs and pydicom raise anything
        said = f"{UID(kind.syntax).name} ({kind.syntax}): {type(error).__name__}"
        raise BadCase("undecodable", said) from None


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
