"""TensorStore behind one door: write whole arrays, read checked voxels."""

import functools
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from tasks.errors import StoreError
from tasks.store.schema import Layout, array_metadata

CACHE_BYTES = 32 << 20
"""Shard indexes and a few decoded chunks a process."""

THREADS = 1
"""Read and decode threads a process: loaders and workers scale by processes."""


@functools.cache
def _shared_context() -> ts.Context:
    return _context(CACHE_BYTES)


def _context(cache_bytes: int) -> ts.Context:
    return ts.Context(
        {
            "cache_pool": {"total_bytes_limit": cache_bytes},
            "data_copy_concurrency": {"limit": THREADS},
            "file_io_concurrency": {"limit": THREADS},
            # The commit syncs every file once; syncing each write too would double the wait.
            "file_io_sync": False,
        }
    )


def create_array(path: Path, layout: Layout, dtype: np.dtype) -> ts.TensorStore:
    """Create an array; chunks equal to the fill value will be stored too."""
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(path)},
        "metadata": array_metadata(layout, dtype),
        # Otherwise a chunk of zeros is not stored and a lost chunk looks like zeros.
        "store_data_equal_to_fill_value": True,
    }
    return ts.open(spec, create=True, context=_context(0)).result()


def write_shard(array: ts.TensorStore, layout: Layout, start: int, voxels: np.ndarray) -> None:
    """Write one whole shard.

    Parameters
    ----------
    array : TensorStore
    layout : Layout
    start : int
        First index along the first axis.
    voxels : ndarray
        Reaches to the end of the shard or of the array, whichever comes first.

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
    with ts.Transaction() as transaction:
        array.with_transaction(transaction)[start:stop].write(voxels).result()


def open_array(path: Path, *, cached: bool) -> ts.TensorStore:
    """Open an array so that a missing chunk is an error.  Raises StoreError."""
    spec: dict[str, Any] = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(path)},
        "fill_missing_data_reads": False,
        # Parts are immutable: look at a file again only when the array is opened anew.
        "recheck_cached_data": "open",
    }
    context = _shared_context() if cached else _context(0)
    try:
        return ts.open(spec, read=True, open=True, context=context).result()
    except (ValueError, OSError) as error:
        raise StoreError(f"array {path.name} cannot be opened: {_short(error)}") from error


def read_voxels(array: ts.TensorStore, where: Any, what: str) -> np.ndarray:
    """Read a box; every chunk it touches is checked.

    Parameters
    ----------
    array : TensorStore
    where : index
        As numpy takes it.
    what : str
        Names the case in an error.

    Raises
    ------
    StoreError
        When a chunk is missing, cut short or has another checksum.
    """
    try:
        return array[where].read().result()
    except (ValueError, OSError) as error:
        raise StoreError(f"{what} is damaged: {_short(error)}; run radloop verify") from error


def _short(error: Exception) -> str:
    """Return TensorStore's code and nothing of its message, which holds paths."""
    code = str(error).partition(":")[0]
    meaning = {
        "NOT_FOUND": "a chunk or its metadata is missing",
        "DATA_LOSS": "a checksum differs or a shard is cut short",
        "FAILED_PRECONDITION": "its metadata or data cannot be decoded",
        "INVALID_ARGUMENT": "its metadata or data cannot be decoded",
    }
    return meaning.get(code, type(error).__name__)


def voxel_digest(array: np.ndarray) -> str:
    """Return SHA-256 over type, shape and C-ordered little-endian voxels, 64 hex characters."""
    array = np.ascontiguousarray(array)
    head = f"{array.dtype.name}|{','.join(map(str, array.shape))}|".encode()
    digest = hashlib.sha256(head)
    digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
