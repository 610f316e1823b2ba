"""Zarr v3 shards: encode one whole, read boxes out of one; every chunk has its checksum.

A shard is its encoded inner chunks, then an index of (offset, bytes) and the index's checksum
(Zarr v3, codec ``sharding_indexed``).  There is no thread and no lock here, so a process may be
forked at any moment; decoding releases the interpreter lock.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import product

import numpy as np
from google_crc32c import value as crc32c
from imagecodecs import blosc_decode, blosc_encode

from tasks.store.schema import CODEC, Layout

Span = tuple[int, int]
Each = Callable[[Callable[[int], list[bytes]], Iterable[int]], Iterable[list[bytes]]]
"""Calls for each item and gives the results in order, as ``map`` does."""

Ranges = Callable[[Sequence[Span]], Iterable[bytes]]
"""Gives the bytes of each span (first byte, byte after the last)."""

MISSING = (1 << 64) - 1
"""Offset that the index gives a chunk that is not there."""

_CRC = 4
_SHUFFLE = 1
_DAMAGED = "a checksum differs or a shard is cut short"
_UNDECODABLE = "its metadata or data cannot be decoded"


class Damaged(Exception):
    """A chunk or an index is not what was written; says no name and no place."""


def grid_of(layout: Layout) -> tuple[int, ...]:
    """Return how many inner chunks a shard has along each axis."""
    return tuple(s // c for s, c in zip(layout.shard, layout.chunk, strict=True))


def encode_shard(voxels: np.ndarray, layout: Layout, each: Each = map) -> Iterator[bytes]:
    """Yield one shard, a layer of chunks at a time; what lies outside the image is zeros.

    Parameters
    ----------
    voxels : ndarray
        From the shard's first voxel to its end or the end of the array.
    layout : Layout
    each : callable
        As ``map``; one that has layers encoded side by side must keep their order.
    """
    at, index = 0, []
    for encoded in each(partial(_encoded_layer, voxels, layout), range(grid_of(layout)[0])):
        for piece in encoded:
            index.append((at, len(piece)) if piece else (MISSING, MISSING))
            at += len(piece)
        yield b"".join(encoded)
    table = np.array(index, dtype="<u8").tobytes()
    yield table + _checksum(table)


def _encoded_layer(voxels: np.ndarray, layout: Layout, number: int) -> list[bytes]:
    """Return the chunks at one place of the first axis, each with its checksum."""
    depth = layout.chunk[0]
    layer = voxels[number * depth : (number + 1) * depth]
    if not len(layer):
        # Rows after the last case of a packed array: nothing there, and nobody may ask.
        return [b""] * int(np.prod(grid_of(layout)[1:]))
    encoded = []
    axes = [
        [slice(i * edge, (i + 1) * edge) for i in range(count)]
        for count, edge in zip(grid_of(layout)[1:], layout.chunk[1:], strict=True)
    ]
    for place in product(*axes):
        chunk = layer[:, *place]
        if chunk.shape != layout.chunk:
            inside, chunk = chunk, np.zeros(layout.chunk, voxels.dtype)
            chunk[tuple(slice(n) for n in inside.shape)] = inside
        piece = blosc_encode(
            np.ascontiguousarray(chunk).reshape(-1),
            level=CODEC["clevel"],
            compressor=CODEC["cname"],
            shuffle=_SHUFFLE,
            typesize=voxels.dtype.itemsize,
            blocksize=CODEC["blocksize"],
            numthreads=1,
        )
        encoded.append(piece + _checksum(piece))
    return encoded


def _checksum(piece: bytes) -> bytes:
    return crc32c(piece).to_bytes(_CRC, "little")


def read_index(ranges: Ranges, size: int, chunks: int) -> np.ndarray:
    """Return a shard's index (chunk, 2) of offsets and bytes.

    Parameters
    ----------
    ranges : callable
    size : int
        Bytes of the whole shard.
    chunks : int

    Raises
    ------
    Damaged
    """
    length = 16 * chunks + _CRC
    if size < length:
        raise Damaged(_DAMAGED)
    (raw,) = ranges([(size - length, size)])
    if len(raw) != length or _checksum(raw[:-_CRC]) != raw[-_CRC:]:
        raise Damaged(_DAMAGED)
    return np.frombuffer(raw, "<u8", 2 * chunks).reshape(chunks, 2)


def read_box(
    ranges: Ranges,
    index: np.ndarray,
    chunk: tuple[int, int, int],
    dtype: np.dtype,
    start: Sequence[int],
    stop: Sequence[int],
) -> np.ndarray:
    """Return the box from ``start`` to before ``stop``, each chunk it touches checked.

    Parameters
    ----------
    ranges : callable
    index : ndarray (z, y, x, 2)
        The shard's index on the grid of its chunks.
    chunk : tuple of int
        (z, y, x) of a chunk.
    dtype : numpy type
    start, stop : sequence of int
        Inside the image.

    Raises
    ------
    Damaged
    """
    out = np.empty([b - a for a, b in zip(start, stop, strict=True)], dtype)
    axes = [list(_cuts(*axis)) for axis in zip(start, stop, chunk, strict=True)]
    first, last = axes[2][0][0], axes[2][-1][0] + 1
    rows = [(z[1:], y[1:], index[z[0], y[0], first:last].tolist()) for z, y in product(*axes[:2])]
    decoded = np.empty(chunk, dtype)
    flat = decoded.reshape(-1).view(np.uint8)
    # The chunks of a row lie one after the other: one request for all of them.
    for (z, y, places), raw in zip(rows, ranges([_span(row[2]) for row in rows]), strict=True):
        begin = places[0][0]
        for (_, to, where), (offset, length) in zip(axes[2], places, strict=True):
            end = offset - begin + length
            encoded = raw[offset - begin : end - _CRC]
            if len(raw) < end or _checksum(encoded) != raw[end - _CRC : end]:
                raise Damaged(_DAMAGED)
            _decode(encoded, flat)
            out[z[0], y[0], to] = decoded[z[1], y[1], where]
    return out


def _decode(encoded: bytes, out: np.ndarray) -> None:
    # The frame states its decoded bytes (c-blosc, README_CHUNK_FORMAT): fewer would leave what the
    # chunk before it had put there.
    if int.from_bytes(encoded[4:8], "little") != out.nbytes:
        raise Damaged(_UNDECODABLE)
    try:
        blosc_decode(encoded, numthreads=1, out=out)
    except RuntimeError as error:
        raise Damaged(_UNDECODABLE) from error


def _cuts(start: int, stop: int, edge: int) -> Iterator[tuple[int, slice, slice]]:
    """Yield each chunk along an axis: its number, where it goes, and what of it."""
    for number in range(start // edge, -(-stop // edge)):
        corner = number * edge
        low, high = max(start, corner), min(stop, corner + edge)
        yield number, slice(low - start, high - start), slice(low - corner, high - corner)


def _span(places: Sequence[Sequence[int]]) -> Span:
    """Return the bytes a row of chunks takes.  Raises Damaged when they are not one after another.

    Our writer puts them so; an index that does not was not made by it.
    """
    at = places[0][0]
    for offset, length in places:
        if offset == MISSING:
            raise Damaged("a chunk or its metadata is missing")
        if offset != at or length <= _CRC:
            raise Damaged(_UNDECODABLE)
        at += length
    return places[0][0], at
