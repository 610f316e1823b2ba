"""Uncompressed pixels: byte order, planes and halved chroma (PS3.3 C.7.6.3, PS3.5 annex A)."""

import numpy as np
from pydicom import Dataset


def halved_chroma(dataset: Dataset) -> bool:
    """Tell native YBR_FULL_422, where two pixels share their colour (PS3.3 C.7.6.3.1.2)."""
    return dataset.get("PhotometricInterpretation") == "YBR_FULL_422"


def native_frame(
    dataset: Dataset, shape: tuple[int, int, int], index: int, *, big: bool
) -> np.ndarray:
    """Return one frame of uncompressed Pixel Data, unsigned.

    Parameters
    ----------
    dataset : pydicom.Dataset
        Whose length was checked.
    shape : tuple of int
        Rows, columns, samples.
    index : int
        Frame, from 0.
    big : bool
        Whether the transfer syntax is big endian.

    Returns
    -------
    array, shape (rows, columns) or (rows, columns, samples)
    """
    size = int(dataset.BitsAllocated) // 8
    halved = halved_chroma(dataset)
    count = int(np.prod(shape)) * 2 // 3 if halved else int(np.prod(shape))
    data, start = dataset.PixelData, index * count * size
    if big and size == 1 and dataset["PixelData"].VR == "OW":
        # PS3.5 annex A.3: bytes travel in swapped pairs when sent as 16-bit words.
        first, last = start - start % 2, start + count + (start + count) % 2
        data = np.frombuffer(data[first:last], ">u2").astype("<u2").tobytes()
        start -= first
    order = ">" if big else "<"
    values = np.frombuffer(data, f"{order}u{size}", count=count, offset=start)
    values = values.astype(f"u{size}", copy=False)
    return _paired_chroma(values, shape) if halved else _planes(values, shape, dataset)


def _paired_chroma(values: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Give both pixels of a pair their colour: Y1 Y2 Cb Cr."""
    rows, columns, _ = shape
    pairs = values.reshape(rows, columns // 2, 4)
    out = np.empty(shape, dtype=values.dtype)
    out[:, 0::2, 0], out[:, 1::2, 0] = pairs[..., 0], pairs[..., 1]
    out[..., 1], out[..., 2] = (np.repeat(pairs[..., k], 2, axis=1) for k in (2, 3))
    return out


def _planes(values: np.ndarray, shape: tuple[int, int, int], dataset: Dataset) -> np.ndarray:
    """Shape samples stored plane by plane (Planar Configuration 1) or pixel by pixel."""
    rows, columns, samples = shape
    if samples == 1:
        return values.reshape(rows, columns)
    if int(dataset.get("PlanarConfiguration") or 0) == 1:
        return np.moveaxis(values.reshape(samples, rows, columns), 0, -1)
    return values.reshape(rows, columns, samples)
