"""Read voxels of a committed part, each chunk checked; a missing one is an error, never zeros."""

import hashlib
import json
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorstore as ts

from tasks.errors import StoreError
from tasks.store.manifest import read_manifest
from tasks.store.schema import PACKED, check_root
from tasks.store.voxels import open_array, read_voxels

OPEN_ARRAYS = 512
"""Handles a part keeps; one costs about 10 kB and 0.2 ms to open again."""


@dataclass(frozen=True)
class CaseInfo:
    """What is known of a stored case.

    Parameters
    ----------
    affine : ndarray (4, 4)
        Maps index (z, y, x, 1) of the stored grid to LPS millimetres.
    traces : tuple of dict
        For replay and invert.
    certificate, facts : dict
    """

    affine: np.ndarray
    traces: tuple[dict, ...]
    certificate: dict
    facts: dict


class Part:
    """A committed part, open for reading.

    Pickles as its place only, so a loader's child opens it anew.  Start such children by spawn or
    forkserver: TensorStore has threads, and aborts a process that is forked after a read.
    """

    def __init__(self, root: str, path: str, digest: str | None = None) -> None:
        self._place = (str(root), str(path), digest)
        self._folder = Path(check_root(root)) / path
        self._manifest = read_manifest(self._folder, digest)
        self._infos = json.loads(self._checked("zarr.json"))["attributes"]["radloop"]["cases"]
        self._rows = {case_id: row for row, case_id in enumerate(self._manifest["cases"])}
        self._packed = self._manifest["fixed_shape"] is not None
        self._arrays: OrderedDict[str, ts.TensorStore] = OrderedDict()

    def __reduce__(self) -> tuple:
        return open_part, self._place

    @property
    def part_id(self) -> str:
        """Id of the part."""
        return self._manifest["part_id"]

    @property
    def digest(self) -> str:
        """Digest of the manifest."""
        return self._manifest["digest"]

    @property
    def case_ids(self) -> tuple[str, ...]:
        """Cases in the part, sorted."""
        return tuple(self._rows)

    def shape(self, case_id: str) -> tuple[int, int, int]:
        """Return (z, y, x) of a case without reading it."""
        return tuple(self._array(case_id).shape[-3:])

    def info(self, case_id: str) -> CaseInfo:
        """Return what is known of a case."""
        self._row(case_id)
        info = self._infos[case_id]
        affine = np.array(info["affine"], dtype=np.float64)
        return CaseInfo(affine, tuple(info["traces"]), info["certificate"], info["facts"])

    def read(self, case_id: str) -> np.ndarray:
        """Return a whole case (z, y, x).  Raises StoreError when it is damaged or not here."""
        where = self._row(case_id) if self._packed else ...
        return read_voxels(self._array(case_id), where, f"case {case_id}")

    def read_patch(
        self, case_id: str, start: tuple[int, int, int], stop: tuple[int, int, int]
    ) -> np.ndarray:
        """Return the box from index ``start`` to before ``stop`` (z, y, x).

        Raises
        ------
        ValueError
            When the box is empty or leaves the image: pad it after reading.
        StoreError
            When a chunk it touches is damaged, or the case is not here.
        """
        array = self._array(case_id)
        shape = array.shape[-3:]
        axes = tuple(zip(start, stop, shape, strict=True))
        if any(low < 0 or low >= high or high > size for low, high, size in axes):
            raise ValueError(
                f"box {tuple(start)} to {tuple(stop)} leaves an image of shape {tuple(shape)}: "
                "keep it inside and pad after reading"
            )
        where = tuple(slice(low, high) for low, high, _ in axes)
        if self._packed:
            where = (self._row(case_id), *where)
        return read_voxels(array, where, f"case {case_id}")

    def _row(self, case_id: str) -> int:
        if case_id not in self._rows:
            raise StoreError(f"case {case_id} is not in part {self.part_id}: ask the catalog")
        return self._rows[case_id]

    def _array(self, case_id: str) -> ts.TensorStore:
        self._row(case_id)
        name = PACKED if self._packed else f"cases/{case_id}"
        if name in self._arrays:
            self._arrays.move_to_end(name)
            return self._arrays[name]
        self._checked(f"{name}/zarr.json")
        self._arrays[name] = open_array(self._folder / name, cached=True)
        if len(self._arrays) > OPEN_ARRAYS:
            self._arrays.popitem(last=False)
        return self._arrays[name]

    def _checked(self, name: str) -> bytes:
        """Return a metadata file that is as its manifest says."""
        try:
            raw = (self._folder / name).read_bytes()
        except FileNotFoundError as error:
            msg = f"part {self.part_id} has no {name}: run radloop verify"
            raise StoreError(msg) from error
        if hashlib.sha256(raw).hexdigest() != self._manifest["files"][name]["sha256"]:
            raise StoreError(f"{name} of part {self.part_id} was changed: run radloop verify")
        return raw


def open_part(root: str, path: str, digest: str | None = None) -> Part:
    """Open a committed part.

    Parameters
    ----------
    root : str
        Store root.
    path : str
        Of the part, relative to the root, as in its record.
    digest : str, optional
        The manifest's, from the catalog.

    Raises
    ------
    StoreError
        When it is not committed, of another format version, or not the part of ``digest``.
    """
    return Part(root, path, digest)
