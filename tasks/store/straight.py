"""Cases of unequal shape go straight to their place in the part: encoded once, read back at once.

While the main thread encodes, a helper digests the voxels and the file's bytes; then both read back
while another waits for the disk.  All this releases the interpreter lock, and nothing is computed
that would not be computed without the helpers.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import StoreError
from tasks.store.assemble import differs, image_groups
from tasks.store.places import Folder
from tasks.store.schema import (
    CASES,
    INNER,
    PART,
    case_layout,
    image_array,
    image_group,
    mask_array,
)
from tasks.store.staging import StagedCases, case_file, sync, write_header
from tasks.store.voxels import (
    StoredArray,
    create_array,
    open_array,
    shard_name,
    voxel_digest,
    write_shard,
)

HELPED_BYTES = 4 << 20
"""Arrays below this are done in one thread: digesting 4 MB takes 2 ms, a thread half of one."""

Submit = Callable[..., Any]


class ShardedCases(StagedCases):
    """Cases kept as the files that they will be in the part, each read back when written."""

    def remove(self, case_id: str) -> None:
        shutil.rmtree(self.folder / PART / image_group(case_id, packed=False), ignore_errors=True)

    def is_whole(self, path: Path, header: dict[str, Any]) -> bool:
        place = Folder(self.folder / PART)
        try:
            return all(place.sha256(name) == sha256 for name, sha256 in header["files"].items())
        except FileNotFoundError:
            return False

    def keep(
        self,
        case_id: str,
        array: np.ndarray,
        info: dict[str, Any],
        masks: Mapping[str, np.ndarray],
    ) -> dict[str, Any]:
        part, group = self.folder / PART, image_group(case_id, packed=False)
        names = sorted(masks)
        (part / CASES).mkdir(parents=True, exist_ok=True)
        image_groups(part / group, np.array(info["affine"]), names, packed=False)
        voxels, shards = _write_array(part, image_array(group), array, case_id)
        digests = {}
        for name in names:
            path = mask_array(group, name)
            digests[name], shard = _write_array(part, path, masks[name], case_id)
            shards |= shard
        place = Folder(part)
        files = sorted(f"{group}/{name}" for name in Folder(part / group).files())
        header = {
            "shape": list(array.shape),
            "dtype": array.dtype.name,
            "voxels": voxels,
            "masks": digests,
            "info": info,
            "files": {name: shards.get(name) or place.sha256(name) for name in files},
        }
        write_header(case_file(self.folder, case_id), header)
        return header


def file_digests(headers: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """Return the SHA-256 of the files of staged cases, by name in the part."""
    return {
        name: sha256
        for header in headers.values()
        for name, sha256 in header.get("files", {}).items()
    }


def _write_array(
    part: Path, path: str, array: np.ndarray, case_id: str
) -> tuple[str, dict[str, str]]:
    """Write one array; return the digest of its voxels, and that of its shard by name."""
    array = np.ascontiguousarray(array)
    layout = case_layout(array.shape)
    shard = f"{path}/{shard_name(layout, 0)}"
    create_array(part / path, layout, array.dtype)
    of_file, depth = hashlib.sha256(), array.shape[0]
    with _helper(array.nbytes) as digesting, _helper(array.nbytes) as syncing:
        digest = digesting(voxel_digest, array)
        write_shard(part / path, layout, 0, array, lambda block: digesting(of_file.update, block))
        stored = _opened(part, path, shard)
        half = depth // 2 // INNER[0] * INNER[0]
        waited = [digesting(_compare, stored, array, case_id, half, depth)]
        if array.nbytes >= HELPED_BYTES:
            # The commit syncs it again, which is nothing then; small files it syncs all at once.
            waited.append(syncing(sync, part / shard))
        _compare(stored, array, case_id, 0, half)
        for one in waited:
            one.result()
    return digest.result(), {shard: of_file.hexdigest()}


def _opened(part: Path, path: str, shard: str) -> StoredArray:
    place, files = Folder(part), {shard: (part / shard).stat().st_size}
    return open_array(place, path, place.read(f"{path}/zarr.json"), files)


def _compare(stored: StoredArray, array: np.ndarray, case_id: str, first: int, last: int) -> None:
    """Read slices as a reader would, a layer of chunks at a time, and compare every bit."""
    bits = f"u{array.itemsize}"
    for start in range(first, last, INNER[0]):
        stop = min(start + INNER[0], last)
        found = stored.read(f"case {case_id}", 0, (start, 0, 0), (stop, *array.shape[1:]))
        # Bits, not values: minus zero is not zero here.
        if found.dtype != array.dtype or not np.array_equal(
            found.view(bits), array[start:stop].view(bits)
        ):
            raise StoreError(differs(case_id))


@contextmanager
def _helper(size: int) -> Iterator[Submit]:
    """Give a way to have calls done in order: by a thread when the array is worth one."""
    if size < HELPED_BYTES:
        yield _at_once
        return
    with ThreadPoolExecutor(1, thread_name_prefix="digest") as helper:
        yield helper.submit


def _at_once(call: Callable[..., Any], *arguments: Any) -> Future:
    done: Future = Future()
    done.set_result(call(*arguments))
    return done
