"""Find what has gone wrong in a store: flipped bits, missing or swapped chunks, edited files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.errors import StoreError
from tasks.hashing import digest_json
from tasks.store.manifest import file_problems, read_manifest
from tasks.store.schema import PACKED, PARTS, check_root
from tasks.store.voxels import open_array, read_voxels, voxel_digest


def verify_part(root: str, path: str, digest: str | None = None) -> tuple[str, ...]:
    """Read every byte and every voxel of a part.

    Parameters
    ----------
    root, path, digest
        As of `open_part`.

    Returns
    -------
    tuple of str
        One sentence a problem; empty when the part is what was committed.
    """
    folder = Path(check_root(root)) / path
    try:
        manifest = read_manifest(folder, digest)
    except StoreError as error:
        return (str(error),)
    problems = file_problems(folder, manifest, content=True)
    problems += _voxel_problems(folder, manifest)
    return tuple(f"part {manifest['part_id']}: {problem}" for problem in problems)


def _voxel_problems(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    packed = manifest["fixed_shape"] is not None
    problems = []
    for row, (case_id, expected) in enumerate(manifest["cases"].items()):
        name, where = (PACKED, row) if packed else (f"cases/{case_id}", ...)
        try:
            array = open_array(folder / name, cached=False)
            found = voxel_digest(read_voxels(array, where, f"case {case_id}"))
        except (StoreError, IndexError) as error:
            problems.append(str(error))
            continue
        if found != expected:
            problems.append(f"case {case_id}: voxels differ from those committed")
    return problems


def committed_parts(root: str) -> tuple[str, ...]:
    """Return the paths, relative to the root, of every committed part, sorted."""
    folder = Path(check_root(root)) / PARTS
    return tuple(f"{PARTS}/{path.name}" for path in sorted(folder.glob("*.zarr")))


def store_digest(root: str) -> str:
    """Return one digest over all committed parts; it holds no time, so same input, same digest."""
    digests = {path: read_manifest(Path(root) / path)["digest"] for path in committed_parts(root)}
    return digest_json(digests)
