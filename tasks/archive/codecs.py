"""One compressed frame to its pixels: which decoder reads which transfer syntax.

Measured on one thread, decoded MB/s: JPEG and JPEG lossless by libjpeg-turbo 230, JPEG-LS by CharLS
110, JPEG 2000 by OpenJPEG 20, HTJ2K by the same. GDCM is not used: malformed input makes it abort
the whole process. The codecs run in the child of `tasks.archive.guard`, never in the caller.
"""

from dataclasses import dataclass

import numpy as np

from tasks.archive.runlength import decode_run_length

RLE = "1.2.840.10008.1.2.5"
JPEG = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70))
JPEG_LS = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (80, 81))
JPEG_2000 = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203))

Encoded = bytes | memoryview | np.ndarray
"""A frame's bytes; an array is one of uint8."""


@dataclass(frozen=True)
class Coded:
    """One compressed frame and what its header promises.

    Parameters
    ----------
    syntax : str
        Transfer syntax UID.
    data : bytes-like
        The frame, its fragments joined (PS3.5 A.4).
    shape : tuple of int
        Rows, columns, samples.
    bits : int
        Bits Allocated.
    photometric : str
        Photometric Interpretation.
    """

    syntax: str
    data: Encoded
    shape: tuple[int, int, int]
    bits: int
    photometric: str

    @property
    def size(self) -> int:
        """Bytes of the pixels as promised, at least one."""
        rows, columns, samples = self.shape
        return max(rows * columns * samples * self.bits // 8, 1)


def decode_stream(
    syntax: str,
    frame: Encoded,
    shape: tuple[int, int, int],
    bits: int,
    photometric: str,
    room: np.ndarray | None = None,
) -> np.ndarray:
    """Decode one encapsulated frame.

    Parameters
    ----------
    syntax : str
        Transfer syntax UID: `RLE` or one of `JPEG`, `JPEG_LS`, `JPEG_2000`.
    frame : bytes-like
        The frame, its fragments joined (PS3.5 A.4).
    shape : tuple of int
        Rows, columns and samples that the header promises.
    bits : int
        Bits Allocated.
    photometric : str
        Photometric Interpretation.
    room : array of uint8, optional
        As many bytes as the header promises; pixels that are as promised are decoded into it.

    Returns
    -------
    array, shape (rows, columns) or (rows, columns, 3)
        A view of `room`, or an array of its own when the stream holds others than promised.

    Raises
    ------
    BadCase
        ``truncated`` or ``undecodable``; the codecs raise errors of their own.
    """
    if syntax == RLE:
        return decode_run_length(frame, shape, bits, room)
    if room is not None:
        kind = np.dtype(f"u{bits // 8}")
        promised = room.view(kind).reshape(shape if shape[2] > 1 else shape[:2])
        try:
            return _decoded(syntax, frame, photometric, promised)
        except ValueError:
            # Signed, or of another size: known from the stream's header, so little is done twice.
            pass
    return _decoded(syntax, frame, photometric, None)


def _decoded(syntax: str, frame: Encoded, photometric: str, out: np.ndarray | None) -> np.ndarray:
    import imagecodecs

    if syntax in JPEG_LS:
        return imagecodecs.jpegls_decode(frame, out=out)
    if syntax in JPEG_2000:
        return imagecodecs.jpeg2k_decode(frame, out=out)
    if photometric == "RGB":
        # Without an Adobe marker libjpeg would take RGB for YCbCr and convert it once too often.
        return imagecodecs.jpeg_decode(frame, colorspace="RGB", outcolorspace="RGB", out=out)
    return imagecodecs.jpeg_decode(frame, out=out)
