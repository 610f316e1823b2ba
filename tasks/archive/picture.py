"""PNG, JPEG and TIFF pictures: one grey plane in the values the file stores."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.archive import geometry
from tasks.archive.grey import LUMINANCE, exact
from tasks.archive.pixel_format import MAX_DECODED_BYTES, MAX_EXPANSION
from tasks.archive.volume import IMAGE_PLANE, UNKNOWN_SPACING, Volume
from tasks.errors import BadCase

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "TIFF")
"""All that is tried: every other decoder of Pillow would only be more to attack."""

MAX_PIXELS = MAX_DECODED_BYTES >> 4
"""Pixels of the largest picture: each may take some 16 bytes while it becomes grey."""

EXPANSION_FREE_PIXELS = 16 << 20
"""Up to this size a picture may be packed as tightly as it likes: an empty page packs well."""

_GREY = ("1", "L", "I;16", "I;16L", "I;16B", "I", "F")
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_SIGN = 258, 262, 339
_WHITE_IS_ZERO = 0
_ORIENTATION, _ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)


@dataclass(frozen=True)
class PictureFacts:
    """What a picture's header says."""

    rows: int
    cols: int
    photometric: str
    """``MONOCHROME2`` or ``RGB``: a picture of which grey is stored, or made."""


def picture_facts(data: bytes) -> PictureFacts:
    """Read a picture's header, and check that it can be decoded at all.

    Raises
    ------
    BadCase
        ``not_picture``, ``too_large``, ``needs_multiframe``, ``unsupported_bits`` or ``not_grey``.
    """
    with _opened(data) as image:
        columns, rows = image.size
        # Of a TIFF that lies on its side Pillow gives the size of the upright picture.
        if image.format != "TIFF" and image.getexif().get(_ORIENTATION, 1) in _ON_ITS_SIDE:
            columns, rows = rows, columns
        return PictureFacts(rows, columns, "MONOCHROME2" if image.mode in _GREY else "RGB")


def read_picture(data: bytes, spacing: tuple[float, float] | None) -> Volume:
    """Read a picture as one slice; colour becomes luminance, upright as its EXIF says.

    Parameters
    ----------
    data : bytes
    spacing : (row, column) in mm, or None
        From the mapping. Resolutions inside pictures are those of paper or screens, and are not
        looked at.

    Raises
    ------
    BadCase
        As `picture_facts`, and ``truncated``.
    """
    from PIL import ImageOps

    with _opened(data) as image:
        inverted = _is_inverted(image)
        # Loading turns a TIFF by itself, and takes the note of its orientation away.
        image.load()
        grey = _grey(ImageOps.exif_transpose(image))
    if inverted:
        grey = np.iinfo(np.uint16).max - grey.astype(np.int64)
    row, column = spacing or (1.0, 1.0)
    origin, x, y = np.zeros((1, 3)), np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    certificate, _ = geometry.certify(origin, x, y, (row, column))
    facts = {
        "rows": grey.shape[0],
        "cols": grey.shape[1],
        "frames": 1,
        "spacing": "mapping" if spacing else UNKNOWN_SPACING,
    }
    affine = geometry.affine_from(origin, x, y, (row, column))
    plain = {**certificate.to_dict(), "orientation": IMAGE_PLANE}
    return Volume(np.ascontiguousarray(exact(grey))[None], affine, plain, facts)


@contextmanager
def _opened(data: bytes) -> Iterator["Image"]:
    """Open a picture and check it; whatever it makes the decoders raise becomes a reason."""
    from PIL import Image

    is_open = False
    with warnings.catch_warnings():
        # Pillow warns of sizes, which are judged here, and of damaged tags, quoting them.
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check(image, len(data))
                is_open = True
                yield image
        except (BadCase, MemoryError):
            raise
        except Image.DecompressionBombError:
            raise BadCase("too_large", f"more pixels than the limit of {MAX_PIXELS}") from None
        except Exception as error:
            # Damaged pictures raise many kinds, and their messages may quote the file.
            name = type(error).__name__
            if is_open:
                raise BadCase("truncated", f"its pixels end or break ({name})") from None
            raise BadCase("not_picture", f"its header cannot be read ({name})") from None


def _check(image: "Image", n_bytes: int) -> None:
    columns, rows = image.size
    pixels = columns * rows
    if not 0 < pixels <= MAX_PIXELS:
        raise BadCase("too_large", f"{rows} x {columns} pixels, limit {MAX_PIXELS}")
    if pixels > EXPANSION_FREE_PIXELS and pixels > n_bytes * MAX_EXPANSION:
        raise BadCase("too_large", f"{n_bytes} bytes claim {pixels} pixels")
    if getattr(image, "n_frames", 1) > 1:
        raise BadCase("needs_multiframe", f"{image.n_frames} pages in one file; export each alone")
    # Pillow would quietly cut the samples of deeper colour to 8 bits.
    if image.mode not in _GREY and _bits(image) > 8:
        raise BadCase("unsupported_bits", f"colour with {_bits(image)} bits a sample; 8 are read")
    if image.mode == "I" and image.format == "TIFF" and _unsigned_32(image):
        raise BadCase("unsupported_bits", "unsigned 32-bit grey; up to 16 bits are read")


def _bits(image: "Image") -> int:
    if image.format == "PNG":
        # IHDR: width, height, then the depth (PNG specification, 11.2.1).
        image.fp.seek(24)
        depth = image.fp.read(1)[0]
        image.fp.seek(0)
        return depth
    if image.format == "TIFF":
        bits = image.tag_v2.get(_TIFF_BITS, (8,))
        return max(bits) if isinstance(bits, tuple) else int(bits)
    return 8


def _unsigned_32(image: "Image") -> bool:
    sign = image.tag_v2.get(_TIFF_SIGN, (1,))
    return _bits(image) == 32 and (sign[0] if isinstance(sign, tuple) else sign) == 1


def _is_inverted(image: "Image") -> bool:
    """Tell deep grey whose zero is white: Pillow turns it for 8 bits, and not for 16."""
    if image.format != "TIFF" or not image.mode.startswith("I;16"):
        return False
    return image.tag_v2.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO


def _grey(image: "Image") -> np.ndarray:
    if image.mode == "1":
        image = image.convert("L")
    if image.mode in _GREY:
        values = np.asarray(image)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise BadCase("non_finite", "holds pixels that are not numbers; replace them first")
        return values
    rgba = np.asarray(image.convert("RGBA"))
    if (rgba[..., 3] != 255).any():
        raise BadCase("not_grey", "transparent pixels: what lies behind them is not stated")
    return np.rint(rgba[..., :3] @ np.array(LUMINANCE)).astype(np.int32)


def facts_of(found: PictureFacts) -> dict[str, Any]:
    """Return the kept fields that a picture itself states."""
    return {
        "rows": found.rows,
        "cols": found.cols,
        "frames": 1,
        "photometric": found.photometric,
    }
