"""One compressed frame to its pixels: which decoder reads which transfer syntax.

Measured on one thread, decoded MB/s: JPEG and JPEG lossless by libjpeg-turbo 230, JPEG-LS by CharLS
110, JPEG 2000 by OpenJPEG 20, HTJ2K by the same. GDCM is not used: malformed input makes it abort
the whole process. The codecs run in the child of `tasks.archive.guard`, never in the caller.
"""

import numpy as np

from tasks.errors import BadCase

RLE = "1.2.840.10008.1.2.5"
JPEG = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70))
JPEG_LS = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (80, 81))
JPEG_2000 = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203))


def decode_stream(
    syntax: str, frame: bytes, shape: tuple[int, int, int], bits: int, photometric: str
) -> np.ndarray:
    """Decode one encapsulated frame.

    Parameters
    ----------
    syntax : str
        Transfer syntax UID: `RLE` or one of `JPEG`, `JPEG_LS`, `JPEG_2000`.
    frame : bytes
        The frame, its fragments joined (PS3.5 A.4).
    shape : tuple of int
        Rows, columns and samples that the header promises.
    bits : int
        Bits Allocated.
    photometric : str
        Photometric Interpretation.

    Returns
    -------
    array, shape (rows, columns) or (rows, columns, 3)

    Raises
    ------
    BadCase
        ``truncated`` or ``undecodable``; the codecs raise errors of their own.
    """
    import imagecodecs

    if syntax == RLE:
        return _run_length(frame, shape, bits)
    if syntax in JPEG_LS:
        return imagecodecs.jpegls_decode(frame)
    if syntax in JPEG_2000:
        return imagecodecs.jpeg2k_decode(frame)
    if photometric == "RGB":
        # Without an Adobe marker libjpeg would take RGB for YCbCr and convert it once too often.
        return imagecodecs.jpeg_decode(frame, colorspace="RGB", outcolorspace="RGB")
    return imagecodecs.jpeg_decode(frame)


def _run_length(frame: bytes, shape: tuple[int, int, int], bits: int) -> np.ndarray:
    """Decode RLE (PS3.5 annex G): byte planes, most significant first, sample after sample.

    PackBits by imagecodecs and the header read here: the Rust decoder panics on a damaged header,
    past every `except Exception`.
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
        sample, byte = divmod(index, depth)
        # Little endian in memory: the first plane is the most significant byte.
        words[sample, :, depth - 1 - byte] = np.frombuffer(plane, np.uint8, count=size)
    values = words.view(f"<u{depth}").reshape(samples, rows, columns)
    return values[0] if samples == 1 else np.moveaxis(values, 0, -1)
