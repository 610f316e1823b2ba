"""Arrays of a part: created and written in whole shards, read in checked boxes."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from tasks.errors import StoreError
from tasks.store.places import Place
from tasks.store.schema import CHANNEL, Layout, array_metadata, layout_of
from tasks.store.shards import Damaged, Each, encode_shard, grid_of, read_box, read_index

INDEXES = 512
"""Shard indexes an open array keeps; that of a large volume has 40 kB."""


def create_array(path: Path, layout: Layout, dtype: np.dtype) -> None:
    """Create an array's metadata.  Chunks equal to the fill value will be stored too: otherwise a
    lost chunk would look like zeros."""
    path.mkdir(parents=True)
    metadata = array_metadata(layout, dtype)
    (path / "zarr.json").write_bytes(json.dumps(metadata, sort_keys=True).encode())


def write_shard(
    path: Path,
    layout: Layout,
    start: int,
    voxels: np.ndarray,
    taken: Callable[[bytes], object] | None = None,
    each: Each = map,
) -> None:
    """Write one whole shard of the array at ``path``.

    Parameters
    ----------
    path : Path
    layout : Layout
    start : int
        First index along the first axis.
    voxels : ndarray
        Reaches to the end of the shard or of the array, whichever comes first.
    taken : callable (bytes), optional
        Given the file's bytes, block by block, as they are written.
    each : callable, optional
        See `encode_shard`.

    Raises
    ------
    ValueError
        Before writing, when the voxels are not one whole shard: two writes to one shard lose data.
    """
    stop = start + voxels.shape[0]
    whole = start % layout.shard[0] == 0 and stop == min(start + layout.shard[0], layout.shape[0])
    if not whole or voxels.shape[1:] != layout.shape[1:]:
        raise ValueError(
            f"rows {start} to {stop} of shape {layout.shape} are not one whole shard "
            f"{layout.shard}: a second write to the same shard would lose data"
        )
    name = path / shard_name(layout, start)
    name.parent.mkdir(parents=True, exist_ok=True)
    # The commit syncs every file once; nobody reads it before.
    with name.open("xb") as stream:
        for block in encode_shard(voxels, layout, each):
            stream.write(block)
            if taken is not None:
                taken(block)


def shard_name(layout: Layout, row: int) -> str:
    """Return the file of the shard that holds an index along the first axis."""
    return "/".join(("c", str(row // layout.shard[0]), *("0" for _ in layout.shape[1:])))


@dataclass(frozen=True)
class StoredArray:
    """An array open for reading; safe in threads and after a fork, since it holds no handle.

    Parameters
    ----------
    place : Place
        Of the part.
    path : str
        Of the array, relative to the part.
    layout : Layout
    dtype : numpy type
    files : mapping
        Bytes of each file of the part.
    """

    place: Place
    path: str
    layout: Layout
    dtype: np.dtype
    files: Mapping[str, int]

    def __post_init__(self) -> None:
        # A cache of its own, not one of the class: it goes with the array.
        object.__setattr__(self, "_index", lru_cache(INDEXES)(self._read_index))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x) of one case."""
        return self.layout.shape[-3:]

    @property
    def channels(self) -> int:
        """Length of the axis of channels, 0 without one."""
        return self.layout.shape[-4] if CHANNEL in self.layout.axes else 0

    def read(
        self,
        what: str,
        row: int,
        start: Sequence[int] | None = None,
        stop: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Read a box of a case, of every channel; every chunk it touches is checked.

        Parameters
        ----------
        what : str
            Names the case in an error.
        row : int
            Of the case in a packed array; else not looked at.
        start, stop : sequence of int, optional
            (z, y, x), inside the image; all of it by default.

        Raises
        ------
        StoreError
            When a chunk is missing, cut short or has another checksum.
        """
        packed = self.layout.packed
        row = row if packed else 0
        name = f"{self.path}/{shard_name(self.layout, row)}"
        ranges = partial(self.place.ranges, name)
        start, stop = start or (0, 0, 0), stop or self.shape
        try:
            index = self._index(name)
            if packed:
                index = index[row % self.layout.shard[0]]
            box = partial(read_box, ranges, chunk=self.layout.chunk[-3:], dtype=self.dtype)
            if not self.channels:
                return box(index, start=start, stop=stop)
            return np.stack([box(of_channel, start=start, stop=stop) for of_channel in index])
        except FileNotFoundError as error:
            raise StoreError(_damaged(what, "a chunk or its metadata is missing")) from error
        except Damaged as error:
            raise StoreError(_damaged(what, str(error))) from error

    def _read_index(self, name: str) -> np.ndarray:
        grid = grid_of(self.layout)
        if name not in self.files:
            raise FileNotFoundError(name)
        ranges = partial(self.place.ranges, name)
        found = read_index(ranges, self.files[name], int(np.prod(grid)))
        return found.reshape(*grid, 2)


def _damaged(what: str, why: str) -> str:
    return f"{what} is damaged: {why}; run radloop verify"


def open_array(place: Place, path: str, metadata: bytes, files: Mapping[str, int]) -> StoredArray:
    """Open an array whose metadata was read.  Raises StoreError when it is not ours."""
    try:
        layout, dtype = layout_of(json.loads(metadata))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        msg = f"array {path} cannot be opened: its metadata cannot be decoded; run radloop verify"
        raise StoreError(msg) from error
    return StoredArray(place, path, layout, dtype, files)


def voxel_digest(array: np.ndarray) -> str:
    """Return SHA-256 over type, shape and C-ordered little-endian voxels, 64 hex characters."""
    array = np.ascontiguousarray(array)
    head = f"{array.dtype.name}|{','.join(map(str, array.shape))}|".encode()
    digest = hashlib.sha256(head)
    digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
