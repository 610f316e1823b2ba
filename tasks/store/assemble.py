"""Turn staged cases into a Zarr group: pack them, one shard in memory at a time, and read it back.

Cases of unequal shape stand there already, each read back when it was written (`straight`).
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import StoreError
from tasks.store import ngff
from tasks.store.contents import Contents
from tasks.store.places import Folder
from tasks.store.schema import (
    CASES,
    MANIFEST,
    MASK_DTYPE,
    MASKS,
    PACKED,
    PART,
    format_version,
    group_metadata,
    image_array,
    mask_array,
    packed_layout,
)
from tasks.store.staging import case_file, staged_mask, staged_voxels
from tasks.store.voxels import create_array, voxel_digest, write_shard

Headers = Mapping[str, dict]
"""Header of each staged case, in the order of the part."""

Shape = tuple[int, int, int]


def assemble(
    staging: Path,
    identity: dict[str, Any],
    headers: Headers,
    fixed_shape: Shape | None,
    dtype: np.dtype,
) -> Path:
    """Write the Zarr group from the staged cases and return its folder.

    Raises
    ------
    StoreError
        When a packed case reads back other than it was made.
    """
    folder = staging / PART
    if fixed_shape is not None and folder.exists():
        shutil.rmtree(folder)
    _keep_only(folder, headers)
    infos = {
        case_id: {**header["info"], "masks": list(header["masks"])}
        for case_id, header in headers.items()
    }
    version = format_version("channels" in identity)
    attributes = {**identity, "format_version": version, "cases": infos}
    write_group(folder, {"radloop": attributes})
    if fixed_shape is None:
        write_group(folder / CASES)
    elif headers:
        channels = len(identity.get("channels", ()))
        _assemble_packed(staging, folder, headers, fixed_shape, dtype, channels)
        read_back(folder, headers)
    return folder


def _keep_only(folder: Path, headers: Headers) -> None:
    """Remove what a killed run left: its manifest, and cases that it had not finished."""
    folder.mkdir(exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    for path in (folder / CASES).glob("*"):
        if path.is_dir() and path.name not in headers:
            shutil.rmtree(path)


def _assemble_packed(
    staging: Path, folder: Path, headers: Headers, shape: Shape, dtype: np.dtype, channels: int
) -> None:
    affine = ngff.common_affine([header["info"]["affine"] for header in headers.values()])
    names = sorted({name for header in headers.values() for name in header["masks"]})
    image_groups(folder / PACKED, affine, names, packed=True, channels=channels > 0)

    def image(case_id: str) -> np.ndarray:
        return _take(staging, case_id, headers[case_id])

    whole = (channels, *shape) if channels else shape
    _pack(folder / image_array(PACKED), list(headers), whole, dtype, image)
    for name in names:

        def mask(case_id: str, name: str = name) -> np.ndarray:
            header = headers[case_id]
            if name not in header["masks"]:
                # Not read by anybody: the case's own list of masks says it has none.
                return np.zeros(shape, MASK_DTYPE)
            return _take_mask(staging, case_id, header, name)

        path = folder / mask_array(PACKED, name)
        _pack(path, list(headers), shape, np.dtype(MASK_DTYPE), mask)


def _pack(
    path: Path,
    case_ids: list[str],
    shape: tuple[int, ...],
    dtype: np.dtype,
    take: Callable[[str], np.ndarray],
) -> None:
    layout = packed_layout(len(case_ids), shape, dtype)
    create_array(path, layout, dtype)
    rows = layout.shard[0]
    for start in range(0, len(case_ids), rows):
        batch = case_ids[start : start + rows]
        shard = np.empty((len(batch), *shape), dtype)
        for row, case_id in enumerate(batch):
            shard[row] = take(case_id)
        write_shard(path, layout, start, shard)


def image_groups(
    folder: Path,
    affine: np.ndarray | None,
    names: list[str],
    *,
    packed: bool,
    channels: bool = False,
) -> None:
    """Write the groups of an image and its masks, with NGFF's metadata."""
    own = {} if packed or affine is None else {"radloop": {"affine": affine.tolist()}}
    write_group(folder, {"ome": ngff.multiscale(affine, packed=packed, channels=channels), **own})
    if names:
        write_group(folder / MASKS, {"ome": ngff.mask_list(names)})
    for name in names:
        write_group(folder / MASKS / name, {"ome": ngff.mask_multiscale(affine, packed=packed)})


def write_group(folder: Path, attributes: dict[str, Any] | None = None) -> None:
    """Write the metadata of a group, and its folder."""
    folder.mkdir(exist_ok=True)
    (folder / "zarr.json").write_bytes(group_metadata(attributes))


def _take(staging: Path, case_id: str, header: dict) -> np.ndarray:
    # Not compared here: what is read back is compared with the digest of what was produced.
    return staged_voxels(case_file(staging, case_id), header)


def _take_mask(staging: Path, case_id: str, header: dict, name: str) -> np.ndarray:
    return staged_mask(case_file(staging, case_id), header, name)


def read_back(folder: Path, headers: Headers) -> None:
    """Read every chunk of a packed part as a reader would and compare with what was produced."""
    place = Folder(folder)
    contents = Contents(place, place.files(), tuple(headers), packed=True)
    for case_id, header in headers.items():
        whole = voxel_digest(contents.image(case_id)) == header["voxels"] and all(
            voxel_digest(contents.mask(case_id, name)) == digest
            for name, digest in header["masks"].items()
        )
        if not whole:
            raise StoreError(differs(case_id))


def differs(case_id: str) -> str:
    """Return what is said of a case that reads back other than it was made."""
    return f"case {case_id} reads back other than it was made: check the disk and run again"
