"""RLE frames (PS3.5 annex G): PackBits by imagecodecs, the header of segments read here."""

import numpy as np

from tasks.errors import BadCase

MAX_PADDING_BYTES = 1
"""A plane of odd length may be padded before it is packed; more means that the bytes shifted."""


def decode_run_length(
    frame: bytes | memoryview | np.ndarray,
    shape: tuple[int, int, int],
    bits: int,
    room: np.ndarray | None = None,
) -> np.ndarray:
    """Decode RLE (PS3.5 annex G): byte planes, most significant first, sample after sample.

    Parameters
    ----------
    frame : bytes-like
        One encoded frame.
    shape : tuple of int
        Rows, columns, samples.
    bits : int
        Bits Allocated.
    room : array of uint8, optional
        As many bytes as the image has, to decode into.

    Returns
    -------
    array, shape (rows, columns) or (rows, columns, samples)
        Unsigned.

    Raises
    ------
    BadCase
        ``truncated`` when header or segments do not fit the image, ``undecodable`` when a segment
        holds more than its plane: bytes were lost, and those behind them would be shown shifted.

    Notes
    -----
    Not pylibjpeg's Rust decoder: it panics on a damaged header, past every `except Exception`.
    """
    from imagecodecs import packbits_decode

    rows, columns, samples = shape
    count, size = samples * bits // 8, rows * columns
    header = np.frombuffer(frame[:64], "<u4")
    starts = [*header[1 : count + 1].tolist(), len(frame)]
    if header[0] != count or starts[0] < 64 or np.any(np.diff(starts) <= 0):
        raise BadCase("truncated", "the RLE header does not fit its frame; send it again")
    kind = np.dtype(f"<u{bits // 8}")
    room = np.empty(size * samples * kind.itemsize, np.uint8) if room is None else room
    values = room.view(kind).reshape(samples, size)
    for index in range(count):
        plane = packbits_decode(frame[starts[index] : starts[index + 1]])
        if len(plane) < size:
            raise BadCase("truncated", f"an RLE segment holds {len(plane)} of {size} bytes")
        if len(plane) > size + MAX_PADDING_BYTES:
            raise BadCase("undecodable", f"an RLE segment holds {len(plane)} bytes, not {size}")
        sample, byte = divmod(index, kind.itemsize)
        whole = np.frombuffer(plane, np.uint8, count=size)
        _add_plane(values[sample], whole, kind.itemsize - 1 - byte, first=byte == 0)
    values = values.reshape(samples, rows, columns)
    return values[0] if samples == 1 else np.moveaxis(values, 0, -1)


def _add_plane(values: np.ndarray, plane: np.ndarray, place: int, *, first: bool) -> None:
    """Set a byte of each value, the most significant first: shifting whole words is the fastest."""
    if first:
        np.left_shift(plane, 8 * place, out=values, dtype=values.dtype)
    elif place:
        values |= plane.astype(values.dtype) << 8 * place
    else:
        np.bitwise_or(values, plane, out=values)
