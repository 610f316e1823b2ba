"""The audit log: append-only JSON lines, each chained to the one before by its hash.

An edited, removed, inserted or reordered line breaks the chain. Lines cut off at the end do not:
keep the count and hash that `head` returns elsewhere, and give it to `verify_audit`.
"""

import fcntl
import hashlib
import json
import os
import pwd
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from tasks.errors import RadloopError
from tasks.hashing import canonical_json

FIRST_PREV = "0" * 64
"""What the first line is chained to."""

FILE_MODE = 0o600
"""The log says who did what with which ids: it is its owner's."""

_FIELDS = {"seq", "ts", "actor", "event", "ids", "prev", "hash"}
_TAIL_BYTES = 1 << 16


def append(path: str | Path, event: str, *, actor: str | None = None, **ids: object) -> str:
    """Add one event, on disk when this returns, and return its hash.

    Parameters
    ----------
    path : path
        The log; made when it is not there.
    event : str
        What happened, e.g. ``part_committed``.
    actor : str, optional
        Who did it; by default the user of the process.
    **ids : str, int or list of these
        Opaque ids and counts it was done to; never an identity.

    Raises
    ------
    RadloopError
        The last line is damaged, so that nothing can be chained to it.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, FILE_MODE), "r+b") as stream:
        # Of this open file, so it also holds between threads; released when it closes.
        fcntl.flock(stream, fcntl.LOCK_EX)
        seq, prev = _last(stream, Path(path))
        record = {
            "seq": seq + 1,
            "ts": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "actor": actor or _user(),
            "event": event,
            "ids": ids,
            "prev": prev,
        }
        record["hash"] = _hash(record)
        stream.write(canonical_json(record).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    return record["hash"]


def _hash(record: dict) -> str:
    content = {name: value for name, value in record.items() if name != "hash"}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def _user() -> str:
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _last(stream: BinaryIO, path: Path) -> tuple[int, str]:
    """Return sequence number and hash of the last line, mending what a crash left half done."""
    size = stream.seek(0, os.SEEK_END)
    tail = b""
    reach = _TAIL_BYTES
    while size and (tail.count(b"\n") < 2 and len(tail) < size):
        stream.seek(max(size - reach, 0))
        tail = stream.read()
        reach *= 2
    ended, newline, half = tail.rpartition(b"\n")
    if half and _intact(half):
        # Only the end of the line is missing; the event itself is whole.
        stream.write(b"\n")
        return _intact(half)
    if half:
        # append never returned for it: the event was not reported as recorded.
        stream.truncate(size - len(half))
    if not newline:
        return 0, FIRST_PREV
    last = _intact(ended.rpartition(b"\n")[2])
    if last is None:
        raise RadloopError(
            f"The last line of the audit log {path.name} is damaged, so nothing can be chained to "
            "it: keep that file as evidence, and start a new one in its place."
        )
    return last


def _intact(line: bytes) -> tuple[int, str] | None:
    """Return number and hash of a line that holds what its hash says, else None."""
    try:
        record = json.loads(line)
        fits = _hash(record) == record["hash"]
        return (record["seq"], record["hash"]) if fits else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def head(path: str | Path) -> tuple[int, str]:
    """Return the number of the last line and its hash: what a checkpoint keeps elsewhere."""
    last = (0, FIRST_PREV)
    for _, record in _records(Path(path)):
        if isinstance(record, dict):
            last = (record.get("seq", last[0]), record.get("hash", last[1]))
    return last


def _records(path: Path) -> Iterator[tuple[bytes, dict | None]]:
    if not path.exists():
        return
    with path.open("rb") as stream:
        for line in stream:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            yield line, record if isinstance(record, dict) else None


def verify_audit(path: str | Path, checkpoint: tuple[int, str] | None = None) -> list[str]:
    """Return what is wrong with an audit log, in order; empty when its chain holds.

    Parameters
    ----------
    path : path
        The log.
    checkpoint : (int, str), optional
        What `head` returned earlier: finds lines that were cut off at the end, or a log that was
        written anew.
    """
    problems: list[str] = []
    seq, prev = 0, FIRST_PREV
    seen = checkpoint is None or checkpoint[0] == 0
    for number, (line, record) in enumerate(_records(Path(path)), start=1):
        problem = _problem(line, record, seq, prev)
        if problem:
            problems.append(f"line {number}: {problem}")
        if record is not None:
            seq = record["seq"] if isinstance(record.get("seq"), int) else seq + 1
            prev = str(record.get("hash"))
            seen = seen or (seq, prev) == checkpoint
        else:
            seq += 1
    if not seen:
        problems.append(f"line {checkpoint[0]} of the checkpoint is missing or was changed")
    return problems


def _problem(line: bytes, record: dict | None, seq: int, prev: str) -> str | None:
    if record is None or record.keys() != _FIELDS:
        return "is not a record of the audit log"
    try:
        # Also the spelling: what parses to the same record may still have been edited.
        if line != canonical_json(record).encode() + b"\n":
            return "was edited (not in the form it was written in)"
        if record["hash"] != _hash(record):
            return "was edited (its hash does not fit)"
    except ValueError:
        return "is not a record of the audit log"
    if record["seq"] != seq + 1:
        return f"has number {record['seq']} after {seq}: lines are missing or out of order"
    if record["prev"] != prev:
        return "does not follow the line before it"
    return None
