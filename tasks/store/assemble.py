"""Turn staged cases into a Zarr group, one shard in memory at a time, and read it all back."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import StoreError
from tasks.store.schema import (
    FORMAT_VERSION,
    PACKED,
    case_layout,
    group_metadata,
    packed_layout,
)
from tasks.store.staging import staged_voxels
from tasks.store.voxels import create_array, open_array, read_voxels, voxel_digest, write_shard


def assemble(
    staging: Path,
    identity: dict[str, Any],
    headers: dict[str, dict],
    fixed_shape: tuple[int, int, int] | None,
    dtype: np.dtype,
) -> Path:
    """Write the Zarr group from the staged cases, one shard in memory at a time."""
    folder = staging / "part.zarr"
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    infos = {case_id: header["info"] for case_id, header in headers.items()}
    attributes = {**identity, "format_version": FORMAT_VERSION, "cases": infos}
    (folder / "zarr.json").write_bytes(group_metadata({"radloop": attributes}))
    if fixed_shape is not None:
        _assemble_packed(staging, folder, headers, fixed_shape, dtype)
        return folder
    (folder / "cases").mkdir()
    (folder / "cases" / "zarr.json").write_bytes(group_metadata())
    for case_id, header in headers.items():
        layout = case_layout(tuple(header["shape"]))
        array = create_array(folder / "cases" / case_id, layout, dtype)
        write_shard(array, layout, 0, _take(staging, case_id, header))
    return folder


def _assemble_packed(
    staging: Path,
    folder: Path,
    headers: dict[str, dict],
    fixed_shape: tuple[int, int, int],
    dtype: np.dtype,
) -> None:
    if not headers:
        return
    case_ids = list(headers)
    layout = packed_layout(len(case_ids), fixed_shape, dtype)
    array = create_array(folder / PACKED, layout, dtype)
    rows = layout.shard[0]
    for start in range(0, len(case_ids), rows):
        batch = case_ids[start : start + rows]
        shard = np.empty((len(batch), *fixed_shape), dtype)
        for row, case_id in enumerate(batch):
            shard[row] = _take(staging, case_id, headers[case_id])
        write_shard(array, layout, start, shard)


def _take(staging: Path, case_id: str, header: dict) -> np.ndarray:
    # Not compared here: what is read back is compared with the digest of what was produced.
    return staged_voxels(staging / "cases" / f"{case_id}.case", header)


def read_back(folder: Path, headers: dict[str, dict], *, packed: bool) -> None:
    """Read every chunk as a reader would and compare with what was produced."""
    array = open_array(folder / PACKED, cached=False) if packed and headers else None
    for row, (case_id, header) in enumerate(headers.items()):
        if array is not None:
            voxels = read_voxels(array, row, f"case {case_id}")
        else:
            own = open_array(folder / "cases" / case_id, cached=False)
            voxels = read_voxels(own, ..., f"case {case_id}")
        if voxel_digest(voxels) != header["voxels"]:
            raise StoreError(
                f"case {case_id} reads back other than it was made: check the disk and run again"
            )
