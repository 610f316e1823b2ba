"""What NRRD and MetaImage share: named fields, packed values and a grid that is even by itself.

Own readers and not ITK's, because files come as bytes (from archives, buckets and folders alike),
because sizes are checked before anything is unpacked, and because a header that names another
file must not make a reader open it. Tests hold both to SimpleITK and pynrrd, voxel by voxel.
"""

import bz2
import math
import zlib
from dataclasses import dataclass

import numpy as np

from tasks.archive.geometry import UNKNOWN_SLICE_SPACING_MM
from tasks.archive.grey import exact
from tasks.archive.nifti import LPS_RAS, certify_grid
from tasks.archive.pixel_format import MAX_DECODED_BYTES
from tasks.archive.volume import IMAGE_PLANE, Volume
from tasks.errors import BadCase

MAX_HEADER_BYTES = 1 << 20
"""A longer header is none: a segmentation of 500 named segments needs some 200 kB."""

MAX_DIMENSIONS = 8
"""More axes are no image; real files have two to five."""

MAX_EDGE = 1 << 20
"""More voxels along one axis are no image, and products of such numbers fill the memory."""

GZIP_WBITS = zlib.MAX_WBITS | 32
"""zlib tells by itself whether a stream has the gzip or the zlib form."""


@dataclass(frozen=True)
class Grid:
    """What a header says: how values are stored and where they lie.

    Parameters
    ----------
    sizes : tuple of int
        Of the spatial axes, the fastest first: (x, y) or (x, y, z).
    dtype : dtype
        As stored, with its byte order.
    directions : array, shape (3, n axes), or None
        Step along each axis in LPS mm; None when the file states no orientation.
    spacings : tuple of float
        Length of each step in mm.
    origin : array, shape (3,)
        Centre of the first voxel in LPS mm.
    stated : str
        Which field placed it, "" when none states even a spacing.
    packing : str
        ``"raw"``, ``"zlib"`` (also gzip) or ``"bzip2"``.
    data_file : str or None
        Plain name of the file beside it that holds the values; None when they follow the header.
    start : int
        Where the values begin in their file; -1 when they are its last bytes.
    lines : int
        Lines to skip before that.
    """

    sizes: tuple[int, ...]
    dtype: np.dtype
    directions: np.ndarray | None
    spacings: tuple[float, ...]
    origin: np.ndarray
    stated: str
    packing: str
    data_file: str | None
    start: int
    lines: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (z, y, x)."""
        return ((*self.sizes, 1)[2], self.sizes[1], self.sizes[0])

    @property
    def n_bytes(self) -> int:
        """Return the bytes of all values."""
        return int(np.prod([int(n) for n in self.sizes], dtype=object)) * self.dtype.itemsize


def numbers(text: str, count: int | None, kind: type, reason: str) -> list:
    """Return the numbers of a field, finite and as many as wanted.

    Raises
    ------
    BadCase
        With the given reason; the field's text is not repeated.
    """
    try:
        found = [kind(word) for word in text.split()]
    except ValueError:
        found = []
    finite = kind is int or all(map(math.isfinite, found))
    if not found or (count is not None and len(found) != count) or not finite:
        raise BadCase(reason, "a field does not hold the finite numbers it should")
    return found


def checked_sizes(sizes: list[int], reason: str) -> tuple[int, ...]:
    """Return sizes that can be an image's.

    Raises
    ------
    BadCase
        With the given reason.
    """
    if not sizes or len(sizes) > MAX_DIMENSIONS or min(sizes) < 1 or max(sizes) > MAX_EDGE:
        raise BadCase(reason, f"{len(sizes)} axes, the longest {max(sizes, default=0)} voxels")
    return tuple(sizes)


def read_values(grid: Grid, data: bytes) -> np.ndarray:
    """Return the values (z, y, x) of a file, unpacking no more than the header promises.

    Parameters
    ----------
    grid : Grid
    data : bytes
        The file that holds the values, whole.

    Raises
    ------
    BadCase
        ``too_large``, ``truncated``, ``wrong_length`` or ``non_finite``.
    """
    expected = grid.n_bytes
    if expected > MAX_DECODED_BYTES:
        raise BadCase("too_large", f"{expected} bytes of voxels, limit {MAX_DECODED_BYTES}")
    packed = _after_lines(data, grid.lines)
    if grid.start < 0:
        if len(packed) < expected:
            raise BadCase("truncated", f"{len(packed)} of {expected} bytes of voxels")
        packed = packed[len(packed) - expected :]
    else:
        packed = packed[grid.start :]
    plain = _unpack(packed, grid.packing, expected)
    if len(plain) != expected:
        reason = "truncated" if len(plain) < expected else "wrong_length"
        raise BadCase(reason, f"{len(plain)} bytes of voxels where {expected} belong")
    values = np.frombuffer(plain, dtype=grid.dtype).reshape(grid.shape)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise BadCase("non_finite", "holds voxels that are not numbers; replace them first")
    return exact(values)


def volume_of(grid: Grid, data: bytes) -> Volume:
    """Return the volume of a grid and the file that holds its values."""
    affine = affine_of(grid)
    certificate = certify_grid(grid.shape, affine)
    if grid.directions is None:
        certificate = {**certificate, "orientation": IMAGE_PLANE}
    rows, columns = grid.shape[1:]
    facts = {"rows": rows, "cols": columns, "frames": grid.shape[0], "spacing": grid.stated}
    return Volume(read_values(grid, data), affine, certificate, facts)


def affine_of(grid: Grid) -> np.ndarray:
    """Return the affine from index (z, y, x, 1) to LPS mm."""
    steps = np.zeros((3, 3))
    n = len(grid.sizes)
    if grid.directions is None:
        # No orientation is stated: the axes of the picture are taken as they are.
        steps[:n, :n] = np.diag(grid.spacings)
    else:
        steps[:, :n] = grid.directions
    if n == 2:
        normal = np.cross(steps[:, 0], steps[:, 1])
        length = np.linalg.norm(normal)
        steps[:, 2] = normal / length * UNKNOWN_SLICE_SPACING_MM if length else 0.0
    affine = np.eye(4)
    affine[:3, :3] = steps[:, ::-1]
    affine[:3, 3] = grid.origin
    return affine


def to_lps(vectors: np.ndarray, signs: tuple[int, int, int]) -> np.ndarray:
    """Return vectors (3, n) of a space whose axes have these signs against LPS."""
    return np.asarray(signs, dtype=np.float64)[:, None] * vectors


RAS_SIGNS = tuple(int(sign) for sign in np.diag(LPS_RAS)[:3])
"""Signs of the axes of RAS against LPS."""


def _after_lines(data: bytes, lines: int) -> bytes:
    at = 0
    for _ in range(lines):
        at = data.find(b"\n", at) + 1
        if at == 0:
            raise BadCase("truncated", "the file has fewer lines than its header skips")
    return data[at:]


def _unpack(packed: bytes, packing: str, expected: int) -> bytes:
    if packing == "raw":
        return packed
    # One byte more than promised tells a bomb, without unpacking it.
    try:
        if packing == "bzip2":
            return bz2.BZ2Decompressor().decompress(packed, expected + 1)
        return zlib.decompressobj(GZIP_WBITS).decompress(packed, expected + 1)
    except (zlib.error, OSError, EOFError, ValueError):
        raise BadCase("truncated", "the packed voxels are cut or damaged; send it again") from None
