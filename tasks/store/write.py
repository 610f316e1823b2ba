"""Make one part: produce its cases, assemble, read back, write the manifest, sync, rename.

Nothing below ``parts/`` exists before the rename, and everything in it is finished: a killed run
leaves only its staging folder, and the next one goes on after the last finished case.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tasks.errors import BadCase
from tasks.store.assemble import assemble
from tasks.store.commit import plain_faults, publish, standing
from tasks.store.manifest import read_manifest, write_manifest
from tasks.store.places import Folder, is_url, part_path
from tasks.store.prepared import ID, Expected, Prepared, check_prepared
from tasks.store.schema import DTYPES, KINDS, STAGING
from tasks.store.spent import Stopwatch
from tasks.store.staging import RawCases, StagedCases, sole_writer
from tasks.store.straight import ShardedCases, file_digests

Failure = tuple[str, str, str]


@dataclass(frozen=True)
class CaseDone:
    """One case of a part that is off the list, for whoever watches."""

    case_id: str
    bytes: int
    """Staged, before compression; 0 when it failed."""
    reason: str | None
    """Why it failed."""


OnCase = Callable[[CaseDone], None]


@dataclass(frozen=True)
class PartRecord:
    """What a worker sends back: small, and without arrays."""

    part_id: str
    kind: str
    path: str
    """Relative to the store root."""
    case_ids: tuple[str, ...]
    """Cases written, sorted."""
    bytes: int
    digest: str
    """Of the manifest: same input, same digest."""
    failures: tuple[Failure, ...]
    """(case_id, reason, detail) of the others."""
    seconds: float
    resumed: int
    """Cases that an earlier, interrupted run had finished."""
    core_seconds: float = 0.0
    """Of the worker's process, without its children."""
    spent: Mapping[str, float] = field(default_factory=dict)
    """Wall seconds by stage, see `tasks.store.spent`."""


def write_part(
    root: str,
    part_id: str,
    kind: str,
    recipe_id: str,
    case_ids: Sequence[str],
    produce: Callable[[str], Prepared],
    *,
    fixed_shape: tuple[int, int, int] | None = None,
    dtype: str | np.dtype,
    channels: Sequence[str] = (),
    label_set_id: str | None = None,
    on_case: OnCase | None = None,
    scratch: str | None = None,
) -> PartRecord:
    """Write and commit one part, or return the committed one.

    Parameters
    ----------
    root : str
        Store root, a folder or ``s3://bucket/prefix``.
    part_id, kind, recipe_id, label_set_id : str
        Who the part is; kind is "image" or "label".
    case_ids : sequence of str
        The order does not matter: cases are made and kept sorted.
    produce : callable (case_id) -> Prepared
        Called once a case, and not for cases that an interrupted run had finished.  Whatever it
        raises becomes a failure of that case: BadCase with its reason, anything else as
        ``failed:<type>`` without the message, which could hold an identifier.
    fixed_shape : tuple of int, optional
        (z, y, x) of every case; the part is then packed.
    dtype : numpy type
        Of every case.
    channels : sequence of str
        Their names, where images are (c, z, y, x).
    on_case : callable (CaseDone), optional
        Called after each case, those that an interrupted run had finished too.
    scratch : str, optional
        Local folder for what is not finished, when the root is a bucket; below a folder it is
        ``staging``.

    Returns
    -------
    PartRecord

    Raises
    ------
    StoreError
        When the root is of another kind, another process writes the part, the committed part is
        damaged, what was read back is not what was written, or the disk or bucket is full,
        read-only or away: nothing of the part is visible then, and a later run goes on.
    """
    watch = Stopwatch()
    dtype = _known_dtype(dtype)
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}: it must be one of {', '.join(KINDS)}")
    for name in (part_id, *case_ids):
        if not ID.fullmatch(name):
            raise ValueError(f"{name!r} is no id: letters, digits, - and _ only, as in digest_json")
    identity = {
        "part_id": part_id,
        "kind": kind,
        "recipe_id": recipe_id,
        "label_set_id": label_set_id,
        "dtype": dtype.name,
        "fixed_shape": list(fixed_shape) if fixed_shape else None,
        # Not said where there are none: such parts keep the bytes they always had.
        **({"channels": list(channels)} if channels else {}),
    }
    expected = Expected(dtype, fixed_shape, len(channels))
    staging, path = _staging_root(root, scratch) / STAGING / part_id, part_path(part_id)
    with plain_faults(part_id), sole_writer(staging, part_id):
        manifest = standing(root, path)
        if manifest is not None:
            shutil.rmtree(staging, ignore_errors=True)
            return _record(path, manifest, watch, resumed=0)
        headers, failures, resumed = _produce_all(
            staging, sorted(set(case_ids)), produce, expected, on_case, watch
        )
        with watch.on("assemble"):
            folder = assemble(staging, identity, headers, fixed_shape, dtype)
        digests = {case_id: header["voxels"] for case_id, header in headers.items()}
        masks = {case_id: header["masks"] for case_id, header in headers.items() if header["masks"]}
        with watch.on("manifest"):
            write_manifest(folder, identity, digests, masks, failures, file_digests(headers))
            manifest = read_manifest(Folder(folder))
        with watch.on("publish"):
            publish(folder, root, path)
            shutil.rmtree(staging)
    return _record(path, manifest, watch, resumed)


def _staging_root(root: str, scratch: str | None) -> Path:
    if not is_url(root):
        # Beside the parts, so that a part is moved and not copied.
        return Path(root)
    if scratch is None:
        raise ValueError("a store in a bucket needs a local scratch folder: give `scratch`")
    return Path(scratch)


def _known_dtype(dtype: str | np.dtype) -> np.dtype:
    found = np.dtype(dtype)
    if found.name not in DTYPES:
        raise ValueError(f"dtype is {found.name}: a part holds one of {', '.join(DTYPES)}")
    return found


def _produce_all(
    staging: Path,
    case_ids: Sequence[str],
    produce: Callable[[str], Prepared],
    expected: Expected,
    on_case: OnCase | None,
    watch: Stopwatch,
) -> tuple[dict[str, dict], list[Failure], int]:
    folder = staging / "cases"
    folder.mkdir(exist_ok=True)
    for leftover in folder.glob("*.tmp"):
        leftover.unlink()
    kept = ShardedCases(staging) if expected.fixed_shape is None else RawCases(staging)
    headers: dict[str, dict] = {}
    failures: list[Failure] = []
    resumed = 0
    for case_id in case_ids:
        header = kept.found(case_id)
        if header is not None:
            resumed += 1
        else:
            header = _produce_one(kept, case_id, produce, expected, watch)
        if isinstance(header, dict):
            headers[case_id], done = header, CaseDone(case_id, _staged_bytes(header), None)
        else:
            failures.append(header)
            done = CaseDone(case_id, 0, header[1])
        if on_case is not None:
            on_case(done)
    return headers, failures, resumed


def _staged_bytes(header: dict) -> int:
    image = int(np.prod(header["shape"])) * np.dtype(header["dtype"]).itemsize
    return image + int(np.prod(header["shape"][-3:])) * len(header["masks"])


def _produce_one(
    kept: StagedCases,
    case_id: str,
    produce: Callable[[str], Prepared],
    expected: Expected,
    watch: Stopwatch,
) -> dict | Failure:
    try:
        with watch.on("prepare"):
            prepared = _prepare(produce, case_id)
            check_prepared(prepared, expected)
    except BadCase as bad:
        return case_id, bad.reason, bad.detail
    except Exception as error:
        return case_id, f"failed:{type(error).__name__}", ""
    info = {
        "affine": np.asarray(prepared.affine, dtype=np.float64).tolist(),
        "traces": list(prepared.traces),
        "certificate": prepared.certificate,
        "facts": prepared.facts,
        **({"present": list(prepared.present)} if expected.channels else {}),
    }
    with watch.on("stage"):
        return kept.keep(case_id, prepared.array, info, prepared.masks)


def _prepare(produce: Callable[[str], Prepared], case_id: str) -> Prepared:
    try:
        return produce(case_id)
    except MemoryError as error:
        raise BadCase("out_of_memory", "it takes more memory than its worker has") from error


def _record(path: str, manifest: Mapping[str, Any], watch: Stopwatch, resumed: int) -> PartRecord:
    return PartRecord(
        part_id=manifest["part_id"],
        kind=manifest["kind"],
        path=path,
        case_ids=tuple(manifest["cases"]),
        bytes=sum(facts["bytes"] for facts in manifest["files"].values()),
        digest=manifest["digest"],
        failures=tuple((case, reason, detail) for case, reason, detail in manifest["failures"]),
        seconds=watch.wall,
        resumed=resumed,
        core_seconds=watch.core,
        spent=watch.seconds,
    )
