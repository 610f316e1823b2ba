"""Finished cases of a part that is still being made, each trusted by its digests only.

A case has a file: ``RADSTG03``, the length of a JSON header (8 bytes), its SHA-256 (32 bytes), the
header.  Where cases are packed later, the raw voxels and the raw masks follow in the header's
order; else the header names the files of the case, which stand where they stay (`straight`).  It is
written beside and renamed; it is not synced, since a file that a power cut tore fails its digest
and the case is produced again.
"""

import fcntl
import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import StoreError
from tasks.store.schema import MASK_DTYPE
from tasks.store.voxels import voxel_digest

MAGIC = b"RADSTG03"
_FIXED = len(MAGIC) + 8 + 32

SYNCERS = 8
"""Threads that wait for the disk; with one the calling thread does, in a fixed order."""


@dataclass(frozen=True)
class StagedCases(ABC):
    """Finished cases of a part, however their voxels are kept.

    Parameters
    ----------
    folder : Path
        The part's staging folder.
    """

    folder: Path

    def found(self, case_id: str) -> dict[str, Any] | None:
        """Return the header of a whole staged case, else None and nothing of it is left."""
        path = case_file(self.folder, case_id)
        header = staged_header(path)
        if header is not None and self.is_whole(path, header):
            return header
        path.unlink(missing_ok=True)
        self.remove(case_id)
        return None

    @abstractmethod
    def is_whole(self, path: Path, header: dict[str, Any]) -> bool:
        """Say whether a case still holds the voxels and masks that its header names."""

    @abstractmethod
    def remove(self, case_id: str) -> None:
        """Remove what is kept of a case beside its own file."""

    @abstractmethod
    def keep(
        self,
        case_id: str,
        array: np.ndarray,
        info: dict[str, Any],
        masks: Mapping[str, np.ndarray],
    ) -> dict[str, Any]:
        """Keep one finished case.

        Returns
        -------
        dict
            The header: ``shape``, ``dtype``, ``voxels`` (digest), ``masks`` (name to digest),
            ``info`` and, where its files stand where they stay, ``files`` (name in the part to
            SHA-256).

        Raises
        ------
        StoreError
            When the voxels read back other than they were made.
        """


class RawCases(StagedCases):
    """Cases kept as raw voxels until a shard of several is full."""

    def remove(self, case_id: str) -> None:
        pass

    def is_whole(self, path: Path, header: dict[str, Any]) -> bool:
        return voxel_digest(staged_voxels(path, header)) == header["voxels"] and all(
            voxel_digest(staged_mask(path, header, name)) == digest
            for name, digest in header["masks"].items()
        )

    def keep(
        self,
        case_id: str,
        array: np.ndarray,
        info: dict[str, Any],
        masks: Mapping[str, np.ndarray],
    ) -> dict[str, Any]:
        array = np.ascontiguousarray(array)
        masks = {name: np.ascontiguousarray(mask) for name, mask in sorted(masks.items())}
        header = {
            "shape": list(array.shape),
            "dtype": array.dtype.name,
            "voxels": voxel_digest(array),
            "masks": {name: voxel_digest(mask) for name, mask in masks.items()},
            "info": info,
        }
        path = case_file(self.folder, case_id)
        write_header(path, header, (array, *masks.values()))
        return staged_header(path)


def case_file(folder: Path, case_id: str) -> Path:
    """Return the file of a case below the part's staging folder."""
    return folder / "cases" / f"{case_id}.case"


def write_header(path: Path, header: dict[str, Any], raw: Sequence[np.ndarray] = ()) -> None:
    """Write the file of a case, at once or not at all."""
    text = json.dumps(header, sort_keys=True, allow_nan=False).encode()
    beside = path.with_suffix(".tmp")
    with beside.open("wb") as stream:
        stream.write(MAGIC + len(text).to_bytes(8, "little") + hashlib.sha256(text).digest() + text)
        for voxels in raw:
            stream.write(voxels.reshape(-1).view(np.uint8).data)
    beside.replace(path)


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
    expected = 0 if "files" in header else _image_bytes(header) + _masks_bytes(header)
    if path.stat().st_size != _FIXED + length + expected:
        return None
    return {**header, "offset": _FIXED + length}


def staged_voxels(path: Path, header: dict[str, Any]) -> np.ndarray:
    """Return the voxels of a staged case as they are on disk."""
    return _staged(path, header["shape"], header["offset"], header["dtype"])


def staged_mask(path: Path, header: dict[str, Any], name: str) -> np.ndarray:
    """Return a mask of a staged case as it is on disk."""
    # A mask has the axes of space only, one byte a voxel.
    shape = header["shape"][-3:]
    before = list(header["masks"]).index(name) * int(np.prod(shape))
    return _staged(path, shape, header["offset"] + _image_bytes(header) + before, MASK_DTYPE)


def _image_bytes(header: dict[str, Any]) -> int:
    return int(np.prod(header["shape"])) * np.dtype(header["dtype"]).itemsize


def _masks_bytes(header: dict[str, Any]) -> int:
    return int(np.prod(header["shape"][-3:])) * len(header["masks"])


def _staged(path: Path, shape: Sequence[int], offset: int, dtype: str) -> np.ndarray:
    count = int(np.prod(shape))
    return np.fromfile(path, dtype=dtype, count=count, offset=offset).reshape(shape)


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
    """Bring every file and directory below ``folder`` to the disk; raise the first OSError."""
    places = [Path(place, name) for place, _, files in os.walk(folder) for name in (*files, ".")]
    if SYNCERS == 1:
        for place in places:
            sync(place)
        return
    with ThreadPoolExecutor(SYNCERS) as syncers:
        # The disk ends all syncs that wait for it at once: a file by itself costs as much as eight.
        deque(syncers.map(sync, places), maxlen=0)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    sync(folder)


def sync(path: Path) -> None:
    """Bring one file's bytes, or one folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
