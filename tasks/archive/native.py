"""Uncompressed pixels: byte order, planes and halved chroma (PS3.3 C.7.6.3, PS3.5 annex A)."""

import numpy as np

from tasks.archive.pixel_format import BIG_ENDIAN, HALVED_CHROMA, PixelFormat

_WORDS = {
    (big, size): np.dtype(f"{'>' if big else '<'}u{size}")
    for big in (False, True)
    for size in (1, 2, 4)
}


def native_frame(data: bytes | memoryview, kind: PixelFormat, index: int, vr: str) -> np.ndarray:
    """Return one frame of uncompressed Pixel Data, unsigned.

    Parameters
    ----------
    data : bytes-like
        Pixel Data, whose length was checked.
    kind : PixelFormat
    index : int
        Frame, from 0.
    vr : str
        Value representation of Pixel Data.

    Returns
    -------
    array, shape (rows, columns) or (rows, columns, samples)
        A view of `data` where they stand as they are wanted.
    """
    size, big = kind.bits // 8, kind.syntax == BIG_ENDIAN
    halved = kind.photometric == HALVED_CHROMA
    count = kind.rows * kind.columns * kind.samples
    count = count * 2 // 3 if halved else count
    start = index * count * size
    if big and size == 1 and vr == "OW":
        # PS3.5 annex A.3: bytes travel in swapped pairs when sent as 16-bit words.
        first, last = start - start % 2, start + count + (start + count) % 2
        data = np.frombuffer(data[first:last], ">u2").astype("<u2").tobytes()
        start -= first
    values = np.frombuffer(data, _WORDS[big, size], count=count, offset=start)
    if big:
        values = values.astype(_WORDS[False, size])
    return _paired_chroma(values, kind.shape) if halved else _planes(values, kind)


def _paired_chroma(values: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Give both pixels of a pair their colour: Y1 Y2 Cb Cr."""
    rows, columns, _ = shape
    pairs = values.reshape(rows, columns // 2, 4)
    out = np.empty(shape, dtype=values.dtype)
    out[:, 0::2, 0], out[:, 1::2, 0] = pairs[..., 0], pairs[..., 1]
    out[..., 1], out[..., 2] = (np.repeat(pairs[..., k], 2, axis=1) for k in (2, 3))
    return out


def _planes(values: np.ndarray, kind: PixelFormat) -> np.ndarray:
    """Shape samples stored plane by plane (Planar Configuration 1) or pixel by pixel."""
    if kind.samples == 1:
        return values.reshape(kind.rows, kind.columns)
    if kind.planar:
        return np.moveaxis(values.reshape(kind.samples, kind.rows, kind.columns), 0, -1)
    return values.reshape(kind.shape)
