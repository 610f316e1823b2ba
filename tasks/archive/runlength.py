"""RLE frames (PS3.5 annex G): PackBits by imagecodecs, the header of segments read here."""

import numpy as np

from tasks.errors import BadCase

MAX_PADDING_BYTES = 1
"""A plane of odd length may be padded before it is packed; more means that the bytes shifted."""


def decode_run_length(frame: bytes, shape: tuple[int, int, int], bits: int) -> np.ndarray:
    """Decode RLE (PS3.5 annex G): byte planes, most significant first, sample after sample.

    Parameters
    ----------
    frame : bytes
        One encoded frame.
    shape : tuple of int
        Rows, columns, samples.
    bits : int
        Bits Allocated.

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
    depth = bits // 8
    words = np.empty((samples, size, depth), dtype=np.uint8)
    for index in range(count):
        plane = packbits_decode(frame[starts[index] : starts[index + 1]])
        if len(plane) < size:
            raise BadCase("truncated", f"an RLE segment holds {len(plane)} of {size} bytes")
        if len(plane) > size + MAX_PADDING_BYTES:
            raise BadCase("undecodable", f"an RLE segment holds {len(plane)} bytes, not {size}")
        sample, byte = divmod(index, depth)
        # Little endian in memory: the first plane is the most significant byte.
        words[sample, :, depth - 1 - byte] = np.frombuffer(plane, np.uint8, count=size)
    values = words.view(f"<u{depth}").reshape(samples, rows, columns)
    return values[0] if samples == 1 else np.moveaxis(values, 0, -1)
