"""What a part looks like on disk; docs/store-format.md is this module in words."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.errors import StoreError
from tasks.hashing import digest_json
from tasks.imaging.recipe import FittedRecipe

FORMAT_VERSION = 1
"""Raised when bytes on disk change meaning; in every recipe_id, checked when a part opens."""

INNER_EDGE = 32
"""Voxels along an inner chunk of an unequal image: a random 96-voxel patch then decodes 2.3 times
its own voxels, with 64 it would be 4.5 times."""

SHARD_BYTES = 16 << 20
"""A packed shard holds as many whole cases as fit in this (at least one)."""

PARTS = "parts"
STAGING = "staging"
MANIFEST = "MANIFEST.json"
PACKED = "voxels"
"""Name of the one array of a packed part; the arrays of other parts are ``cases/<case_id>``."""

KINDS = ("image", "label")
DTYPES = ("uint8", "uint16", "int16", "float16", "float32")


@dataclass(frozen=True)
class Layout:
    """Where the voxels of one array are.

    Parameters
    ----------
    shape : tuple of int
        (z, y, x), or (n, z, y, x) when packed.
    chunk, shard : tuple of int
        Inner chunk and shard, same axes; a shard is a whole number of chunks.
    """

    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    shard: tuple[int, ...]


def case_layout(shape: tuple[int, int, int]) -> Layout:
    """Return one case's own array: small chunks in one shard that covers the image."""
    chunk = tuple(min(INNER_EDGE, size) for size in shape)
    shard = tuple(-(-size // edge) * edge for size, edge in zip(shape, chunk, strict=True))
    return Layout(tuple(shape), chunk, shard)


def packed_layout(n: int, shape: tuple[int, int, int], dtype: np.dtype) -> Layout:
    """Return the packed array: one case an inner chunk, whole cases a shard."""
    rows = shard_cases(shape, dtype)
    return Layout((n, *shape), (1, *shape), (rows, *shape))


def shard_cases(shape: tuple[int, int, int], dtype: np.dtype) -> int:
    """Return how many cases a packed shard holds."""
    return max(1, SHARD_BYTES // (int(np.prod(shape)) * np.dtype(dtype).itemsize))


def array_metadata(layout: Layout, dtype: np.dtype) -> dict[str, Any]:
    """Return the Zarr v3 array metadata, checksums on chunks and on the shard's index."""
    dtype = np.dtype(dtype)
    endian = {"name": "bytes"}
    if dtype.itemsize > 1:
        endian["configuration"] = {"endian": "little"}
    blosc = {
        "cname": "lz4",
        "clevel": 5,
        "shuffle": "bitshuffle",
        "typesize": dtype.itemsize,
        "blocksize": 0,
    }
    index_bytes = {"name": "bytes", "configuration": {"endian": "little"}}
    sharding = {
        "chunk_shape": list(layout.chunk),
        "codecs": [endian, {"name": "blosc", "configuration": blosc}, {"name": "crc32c"}],
        "index_codecs": [index_bytes, {"name": "crc32c"}],
        "index_location": "end",
    }
    return {
        "shape": list(layout.shape),
        "data_type": dtype.name,
        "fill_value": 0,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(layout.shard)}},
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "dimension_names": ["case", "z", "y", "x"][-len(layout.shape) :],
    }


def group_metadata(attributes: dict[str, Any] | None = None) -> bytes:
    """Return the bytes of a Zarr v3 group's ``zarr.json``."""
    body = {"zarr_format": 3, "node_type": "group", "attributes": attributes or {}}
    return json.dumps(body, sort_keys=True, allow_nan=False).encode()


def check_version(version: Any, what: str) -> None:
    """Refuse another format version.  Raises StoreError."""
    if version != FORMAT_VERSION:
        raise StoreError(
            f"{what} has store format {version} and this radloop reads {FORMAT_VERSION}: "
            "preprocess again, or use the radloop that wrote it"
        )


def check_root(root: str) -> str:
    """Return a local store root.  Raises StoreError for places that are not supported yet."""
    if "://" in str(root):
        raise StoreError(
            f"the store {str(root).split('://')[0]}://… is not a local folder: object stores are "
            "not supported yet, use a folder"
        )
    return str(root)


def recipe_id(recipe: FittedRecipe) -> str:
    """Return the id of a fitted recipe, its step versions and the store format."""
    return digest_json({"recipe": recipe.to_dict(), "format": FORMAT_VERSION})


def part_id(
    case_ids: Iterable[str], recipe_id: str, kind: str, label_set_id: str | None = None
) -> str:
    """Return the id of a part; the order of the cases does not matter."""
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}: it must be one of {', '.join(KINDS)}")
    body = {"cases": sorted(case_ids), "recipe": recipe_id, "kind": kind, "labels": label_set_id}
    return digest_json(body)
