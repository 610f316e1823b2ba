"""Find what has gone wrong in a store: flipped bits, missing or swapped chunks, edited files."""

from collections.abc import Mapping
from typing import Any

from tasks.errors import StoreError
from tasks.hashing import digest_json
from tasks.store.manifest import file_problems, read_manifest
from tasks.store.places import Bucket, place_of
from tasks.store.read import open_part
from tasks.store.schema import MANIFEST, PARTS
from tasks.store.voxels import voxel_digest


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
    place = place_of(root, path)
    try:
        manifest = read_manifest(place, digest)
    except StoreError as error:
        return (str(error),)
    problems = file_problems(place, manifest, content=True)
    problems += _voxel_problems(root, path, manifest)
    return tuple(f"part {manifest['part_id']}: {problem}" for problem in problems)


def _voxel_problems(root: str, path: str, manifest: Mapping[str, Any]) -> list[str]:
    try:
        part = open_part(root, path)
    except StoreError as error:
        return [str(error)]
    problems = []
    for case_id, expected in manifest["cases"].items():
        wanted = [(f"case {case_id}", part.read, (case_id,), expected)]
        wanted += [
            (f"mask {name} of case {case_id}", part.mask, (case_id, name), digest)
            for name, digest in manifest["masks"].get(case_id, {}).items()
        ]
        for what, read, which, digest in wanted:
            try:
                found = voxel_digest(read(*which))
            except StoreError as error:
                problems.append(str(error))
                continue
            if found != digest:
                problems.append(f"{what}: voxels differ from those committed")
    return problems


def committed_parts(root: str) -> tuple[str, ...]:
    """Return the paths, relative to the root, of every committed part, sorted.

    In a folder a part stands there by its rename, in a bucket by its manifest.
    """
    place = place_of(root, PARTS)
    if isinstance(place, Bucket):
        names = [name for name in place.files() if name.endswith(f".zarr/{MANIFEST}")]
        return tuple(sorted(f"{PARTS}/{name.removesuffix(f'/{MANIFEST}')}" for name in names))
    return tuple(f"{PARTS}/{path.name}" for path in sorted(place.path.glob("*.zarr")))


def store_digest(root: str) -> str:
    """Return one digest over all committed parts; it holds no time, so same input, same digest."""
    digests = {
        path: read_manifest(place_of(root, path))["digest"] for path in committed_parts(root)
    }
    return digest_json(digests)
