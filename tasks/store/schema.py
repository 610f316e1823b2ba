"""What a part looks like on disk; docs/store-format.md is this module in words."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.errors import StoreError
from tasks.hashing import digest_json
from tasks.imaging.recipe import FittedRecipe, fixed_shape

FORMAT_VERSION = 2
"""Raised when bytes on disk change meaning; in every recipe_id, checked when a part opens."""

CHANNELS_VERSION = 3
"""Of parts whose images have an axis of channels, which a reader of version 2 cannot know."""

INNER = (16, 32, 64)
"""Voxels (z, y, x) of an inner chunk of an unequal image.  Measured beside 32x32x32: random patches
of 64 to 128 voxels as fast, whole slices 1.8 and whole volumes 1.3 times as fast."""

CODEC = {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "blocksize": 0}
"""Bytes shuffled, not bits: decodes two to three times as fast, for files a seventh larger."""

SHARD_BYTES = 16 << 20
"""A packed shard holds as many whole cases as fit in this (at least one)."""

PARTS = "parts"
STAGING = "staging"
MANIFEST = "MANIFEST.json"
PART = "part.zarr"
"""A part in its staging folder."""

CASES = "cases"
"""Group of the images of a part that is not packed."""

PACKED = "voxels"
"""Image group of a packed part, which holds all its cases; other parts have ``cases/<case_id>``."""

IMAGE = "0"
"""Array of an image group, and of each group of a mask: level 0 of an NGFF multiscale."""

MASKS = "labels"
"""Group of an image's masks, one group each (the NGFF name)."""

MASK_DTYPE = "uint8"

SPACE = ("z", "y", "x")
CASE = "case"
CHANNEL = "c"
"""NGFF's name for the axis of channels."""

KINDS = ("image", "label")
DTYPES = ("uint8", "uint16", "int16", "float16", "float32")


@dataclass(frozen=True)
class Layout:
    """Where the voxels of one array are.

    Parameters
    ----------
    shape : tuple of int
        [case,] [channel,] z, y, x; the first of them when packed, the second where images have
        channels.
    chunk, shard : tuple of int
        Inner chunk and shard, same axes; a shard is a whole number of chunks.
    packed : bool
        Whether the first axis counts cases.
    """

    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    shard: tuple[int, ...]
    packed: bool = False

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes."""
        cases = (CASE,) if self.packed else ()
        return (*cases, *(CHANNEL,) * (len(self.shape) - len(cases) - len(SPACE)), *SPACE)


def case_layout(shape: Sequence[int]) -> Layout:
    """Return one case's own array ([channel,] z, y, x): small chunks in one shard that covers the
    image."""
    inner = (*(1 for _ in shape[:-3]), *INNER)
    chunk = tuple(min(edge, size) for edge, size in zip(inner, shape, strict=True))
    shard = tuple(-(-size // edge) * edge for size, edge in zip(shape, chunk, strict=True))
    return Layout(tuple(shape), chunk, shard)


def packed_layout(n: int, shape: Sequence[int], dtype: np.dtype) -> Layout:
    """Return the packed array: one channel of one case an inner chunk, whole cases a shard."""
    rows = min(n, shard_cases(shape, dtype))
    inner = (*(1 for _ in shape[:-3]), *shape[-3:])
    return Layout((n, *shape), (1, *inner), (rows, *shape), packed=True)


def shard_cases(shape: Sequence[int], dtype: np.dtype) -> int:
    """Return how many cases a packed shard holds."""
    return max(1, SHARD_BYTES // (int(np.prod(shape)) * np.dtype(dtype).itemsize))


def array_metadata(layout: Layout, dtype: np.dtype) -> dict[str, Any]:
    """Return the Zarr v3 array metadata, checksums on chunks and on the shard's index."""
    dtype = np.dtype(dtype)
    endian = {"name": "bytes"}
    if dtype.itemsize > 1:
        endian["configuration"] = {"endian": "little"}
    blosc = {**CODEC, "typesize": dtype.itemsize}
    index_bytes = {"name": "bytes", "configuration": {"endian": "little"}}
    sharding = {
        "chunk_shape": list(layout.chunk),
        "codecs": [endian, {"name": "blosc", "configuration": blosc}, {"name": "crc32c"}],
        "index_codecs": [index_bytes, {"name": "crc32c"}],
        "index_location": "end",
    }
    return {
        "zarr_format": 3,
        "node_type": "array",
        "attributes": {},
        "shape": list(layout.shape),
        "data_type": dtype.name,
        "fill_value": 0,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(layout.shard)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "dimension_names": list(layout.axes),
    }


def layout_of(metadata: dict[str, Any]) -> tuple[Layout, np.dtype]:
    """Return layout and type out of array metadata as `array_metadata` makes them."""
    shape, shard = metadata["shape"], metadata["chunk_grid"]["configuration"]["chunk_shape"]
    chunk = metadata["codecs"][0]["configuration"]["chunk_shape"]
    packed = metadata["dimension_names"][0] == CASE
    layout = Layout(tuple(shape), tuple(chunk), tuple(shard), packed)
    return layout, np.dtype(metadata["data_type"])


def group_metadata(attributes: dict[str, Any] | None = None) -> bytes:
    """Return the bytes of a Zarr v3 group's ``zarr.json``."""
    body = {"zarr_format": 3, "node_type": "group", "attributes": attributes or {}}
    return json.dumps(body, sort_keys=True, allow_nan=False).encode()


def check_version(version: Any, what: str) -> None:
    """Refuse another format version.  Raises StoreError."""
    if version not in (FORMAT_VERSION, CHANNELS_VERSION):
        known = f"{FORMAT_VERSION} and {CHANNELS_VERSION}"
        raise StoreError(
            f"{what} has store format {version} and this radloop reads {known}: "
            "preprocess again, or use the radloop that wrote it"
        )


def image_group(case_id: str, *, packed: bool) -> str:
    """Return the group of a case's image, relative to the part."""
    return PACKED if packed else f"{CASES}/{case_id}"


def image_array(group: str) -> str:
    """Return the array of an image group."""
    return f"{group}/{IMAGE}"


def mask_array(group: str, name: str) -> str:
    """Return the array of one mask of an image group."""
    return f"{group}/{MASKS}/{name}/{IMAGE}"


def recipe_id(recipe: FittedRecipe) -> str:
    """Return the id of a fitted recipe, its step versions and the store format."""
    return digest_json(
        {"recipe": recipe.to_dict(), "format": format_version(bool(recipe.channels))}
    )


def format_version(channels: bool) -> int:
    """Return the version of a part, by whether its images have an axis of channels."""
    return CHANNELS_VERSION if channels else FORMAT_VERSION


def channels_of(recipe: FittedRecipe) -> tuple[int, ...]:
    """Return the length of the axis of channels, as a shape; empty where images have none."""
    return (len(recipe.channels["names"]),) if recipe.channels else ()


def stored_shape(recipe: FittedRecipe) -> tuple[int, ...] | None:
    """Return the one shape ([c,] z, y, x) every image is stored in, or None."""
    shape = fixed_shape(recipe)
    return None if shape is None else (*channels_of(recipe), *shape)


def part_id(
    case_ids: Iterable[str], recipe_id: str, kind: str, label_set_id: str | None = None
) -> str:
    """Return the id of a part; the order of the cases does not matter."""
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}: it must be one of {', '.join(KINDS)}")
    body = {"cases": sorted(case_ids), "recipe": recipe_id, "kind": kind, "labels": label_set_id}
    return digest_json(body)
