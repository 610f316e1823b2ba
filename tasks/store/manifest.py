"""The manifest of a part: every file's digest, every case's voxel digest, and no time or place."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.errors import StoreError
from tasks.hashing import canonical_json, digest_bytes
from tasks.store.schema import FORMAT_VERSION, MANIFEST, check_version

_READ_BYTES = 1 << 20


def write_manifest(
    folder: Path,
    identity: Mapping[str, Any],
    cases: Mapping[str, str],
    failures: Sequence[tuple[str, str, str]],
) -> None:
    """Write the manifest of a finished part: same content, same bytes.

    Parameters
    ----------
    folder : Path
        The assembled part.
    identity : mapping
        part_id, kind, recipe_id, label_set_id, dtype, fixed_shape.
    cases : mapping
        case_id to voxel digest.
    failures : sequence of (case_id, reason, detail)
    """
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        files[name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    body = {
        **identity,
        "format_version": FORMAT_VERSION,
        "files": files,
        "cases": dict(cases),
        "failures": [list(failure) for failure in failures],
    }
    (folder / MANIFEST).write_text(canonical_json(body) + "\n")


def read_manifest(folder: Path, digest: str | None = None) -> dict[str, Any]:
    """Return the manifest with its own ``digest``.

    Raises
    ------
    StoreError
        When it is missing, damaged, of another format version, or not the one of ``digest``.
    """
    name = folder.name
    try:
        raw = (folder / MANIFEST).read_bytes()
    except FileNotFoundError as error:
        msg = f"part {name} has no manifest in this store: it was never committed or is lost"
        raise StoreError(msg) from error
    try:
        body = json.loads(raw)
        version = body["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"the manifest of part {name} is damaged: run radloop verify") from error
    check_version(version, f"part {name}")
    found = digest_bytes(raw)
    if digest is not None and digest != found:
        raise StoreError(
            f"part {name} has manifest {found} and the catalog says {digest}: the part was changed "
            "after its commit, run radloop verify"
        )
    return {**body, "digest": found}


def file_problems(folder: Path, manifest: Mapping[str, Any], *, content: bool) -> list[str]:
    """Compare a part's files with its manifest: names and sizes, and with ``content`` SHA-256."""
    present = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MANIFEST
    }
    expected = manifest["files"]
    problems = [f"{name}: not in the manifest" for name in sorted(present - expected.keys())]
    for name, facts in sorted(expected.items()):
        if name not in present:
            problems.append(f"{name}: missing")
        elif (size := (folder / name).stat().st_size) != facts["bytes"]:
            problems.append(f"{name}: {size} bytes, the manifest says {facts['bytes']}")
        elif content and file_sha256(folder / name) != facts["sha256"]:
            problems.append(f"{name}: content differs from the manifest")
    return problems


def file_sha256(path: Path) -> str:
    """Return a file's whole SHA-256."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
