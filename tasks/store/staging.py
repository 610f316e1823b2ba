"""Finished cases of a part that is still being made: one file each, trusted by digest only.

A file is ``RADSTG01``, the length of a JSON header (8 bytes), its SHA-256 (32 bytes), the header
and the raw voxels.  It is written beside and renamed; it is not synced, since a file that a power
cut tore fails its digest and the case is produced again.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import StoreError
from tasks.store.voxels import voxel_digest

MAGIC = b"RADSTG01"
_FIXED = len(MAGIC) + 8 + 32


def stage(path: Path, array: np.ndarray, info: dict[str, Any]) -> dict[str, Any]:
    """Keep one finished case.

    Returns
    -------
    dict
        The header: ``shape``, ``dtype``, ``voxels`` (digest) and ``info``.
    """
    array = np.ascontiguousarray(array)
    header = {
        "shape": list(array.shape),
        "dtype": array.dtype.name,
        "voxels": voxel_digest(array),
        "info": info,
    }
    text = json.dumps(header, sort_keys=True, allow_nan=False).encode()
    beside = path.with_suffix(".tmp")
    with beside.open("wb") as stream:
        stream.write(MAGIC + len(text).to_bytes(8, "little") + hashlib.sha256(text).digest() + text)
        stream.write(array.reshape(-1).view(np.uint8).data)
    beside.replace(path)
    return header


def staged_header(path: Path) -> dict[str, Any] | None:
    """Return the header of a staged case, or None when there is none or it is torn."""
    try:
        with path.open("rb") as stream:
            fixed = stream.read(_FIXED)
            length = int.from_bytes(fixed[len(MAGIC) : len(MAGIC) + 8], "little")
            if fixed[: len(MAGIC)] != MAGIC or length > path.stat().st_size:
                return None
            text = stream.read(length)
    except FileNotFoundError:
        return None
    if hashlib.sha256(text).digest() != fixed[len(MAGIC) + 8 :]:
        return None
    header = json.loads(text)
    expected = int(np.prod(header["shape"])) * np.dtype(header["dtype"]).itemsize
    if path.stat().st_size != _FIXED + length + expected:
        return None
    return {**header, "offset": _FIXED + length}


def staged_voxels(path: Path, header: dict[str, Any]) -> np.ndarray:
    """Return the voxels of a staged case as they are on disk."""
    array = np.fromfile(path, dtype=header["dtype"], offset=header["offset"])
    return array.reshape(header["shape"])


def is_whole(path: Path, header: dict[str, Any]) -> bool:
    """Say whether a staged case still holds the voxels that were staged."""
    return voxel_digest(staged_voxels(path, header)) == header["voxels"]


@contextmanager
def sole_writer(folder: Path, part_id: str) -> Iterator[None]:
    """Hold the staging folder of a part; the lock goes with the process, also when it is killed."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = f"part {part_id} is being written by another process: wait for it to end"
            raise StoreError(msg) from error
        yield


def sync_tree(folder: Path) -> None:
    """Bring every file and directory below ``folder`` to the disk, files first."""
    for place, _, files in os.walk(folder, topdown=False):
        for name in files:
            _sync(Path(place, name))
        _sync(Path(place))


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
