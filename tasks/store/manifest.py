"""The manifest of a part: every file's digest, every case's voxel digest, and no time or place."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.errors import StoreError
from tasks.hashing import canonical_json, digest_bytes
from tasks.store.places import Folder, Place
from tasks.store.schema import MANIFEST, check_version, format_version


def write_manifest(
    folder: Path,
    identity: Mapping[str, Any],
    cases: Mapping[str, str],
    masks: Mapping[str, Mapping[str, str]],
    failures: Sequence[tuple[str, str, str]],
    known: Mapping[str, str] | None = None,
) -> None:
    """Write the manifest of a finished part: same content, same bytes.

    Parameters
    ----------
    folder : Path
        The assembled part.
    identity : mapping
        part_id, kind, recipe_id, label_set_id, dtype, fixed_shape and, where images have an axis
        of channels, their names as channels.
    cases : mapping
        case_id to voxel digest.
    masks : mapping
        case_id to the voxel digest of each of its masks, by name; cases without one are not there.
    failures : sequence of (case_id, reason, detail)
    known : mapping, optional
        SHA-256 of files, by name, that were digested while they were written.
    """
    place, known = Folder(folder), known or {}
    files = {
        name: {"bytes": size, "sha256": known.get(name) or place.sha256(name)}
        for name, size in sorted(place.files().items())
    }
    body = {
        **identity,
        "format_version": format_version("channels" in identity),
        "files": files,
        "cases": dict(cases),
        "masks": {case_id: dict(own) for case_id, own in masks.items()},
        "failures": [list(failure) for failure in failures],
    }
    (folder / MANIFEST).write_text(canonical_json(body) + "\n")


def read_manifest(place: Place, digest: str | None = None) -> dict[str, Any]:
    """Return the manifest with its own ``digest``.

    Raises
    ------
    StoreError
        When it is missing, damaged, of another format version, or not the one of ``digest``.
    """
    name = place.name
    try:
        raw = place.read(MANIFEST)
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


def file_problems(place: Place, manifest: Mapping[str, Any], *, content: bool) -> list[str]:
    """Compare a part's files with its manifest: names and sizes, and with ``content`` SHA-256."""
    present = place.files()
    present.pop(MANIFEST, None)
    expected = manifest["files"]
    problems = [f"{name}: not in the manifest" for name in sorted(present.keys() - expected.keys())]
    for name, facts in sorted(expected.items()):
        if name not in present:
            problems.append(f"{name}: missing")
        elif present[name] != facts["bytes"]:
            problems.append(f"{name}: {present[name]} bytes, the manifest says {facts['bytes']}")
        elif content and place.sha256(name) != facts["sha256"]:
            problems.append(f"{name}: content differs from the manifest")
    return problems
