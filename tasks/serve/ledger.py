"""The inference ledger: what was predicted, when, by which model; append-only and hash-chained.

One JSON line an inference. Each line holds the hash of the line before it, so a line that was
edited, taken out or moved is found by `verify_ledger`. No identifier is written: inputs are named
by hash.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from tasks.hashing import canonical_json, digest_bytes

FIRST = "0" * 32
"""What stands as the previous hash in the first line."""

_TAIL_BYTES = 1 << 16
"""How far from the end the last line is looked for; an entry has a few hundred bytes."""


@dataclass(frozen=True)
class LedgerEntry:
    """One inference.

    Parameters
    ----------
    input_hash : str
        The case id, a hash of the instances' digests.
    scenario, model_name, model_version, model_digest : str
    thresholds : mapping
        Threshold by name, as used.
    outcome : mapping
        ``status`` (predicted, failed), and the label and score or the reason.
    batch : str
        Id of the prediction run that wrote it.
    """

    input_hash: str
    scenario: str
    model_name: str
    model_version: str
    model_digest: str
    thresholds: Mapping[str, float | None]
    outcome: Mapping[str, Any]
    batch: str = ""


def append_entries(
    path: str | Path, entries: Iterable[LedgerEntry], *, now: datetime | None = None
) -> int:
    """Append inferences under a lock and reach the disk before returning; return how many.

    A line that a killed process left unfinished was never acknowledged; it is taken off first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    stamp = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    count = 0
    with os.fdopen(descriptor, "r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        seq, previous = _last(stream)
        for entry in entries:
            seq += 1
            body = {"seq": seq, "time": stamp, **asdict(entry), "previous": previous}
            previous = digest_bytes(canonical_json(body).encode())
            stream.write(canonical_json({**body, "hash": previous}).encode() + b"\n")
            count += 1
        stream.flush()
        os.fsync(stream.fileno())
    return count


def read_ledger(path: str | Path) -> list[dict[str, Any]]:
    """Return all entries, oldest first; none when there is no ledger yet."""
    path = Path(path)
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream if line.endswith("\n")]


def verify_ledger(path: str | Path) -> list[str]:
    """Return one sentence for each line that does not follow from the line before it.

    A tail that was cut off whole cannot be seen from the file itself; compare the number of lines
    with an older copy.
    """
    problems = []
    previous = FIRST
    for number, line in enumerate(Path(path).read_bytes().splitlines(), 1):
        try:
            entry = json.loads(line)
            found = entry.pop("hash")
            expected = digest_bytes(canonical_json(entry).encode())
        except (ValueError, KeyError, AttributeError, TypeError):
            problems.append(f"Line {number} of the ledger is not an entry.")
            continue
        if found != expected:
            problems.append(f"Line {number} of the ledger was changed.")
        elif entry["previous"] != previous or entry["seq"] != number:
            problems.append(f"Line {number} of the ledger does not follow the line before it.")
        previous = found
    return problems


def _last(stream: BinaryIO) -> tuple[int, str]:
    """Return number and hash of the last whole line and stand at its end, an unfinished one cut."""
    end = stream.seek(0, os.SEEK_END)
    start = max(0, end - _TAIL_BYTES)
    stream.seek(start)
    tail = stream.read()
    whole = tail.rfind(b"\n") + 1
    if whole < len(tail):
        end = start + whole
        stream.truncate(end)
    stream.seek(end)
    lines = tail[:whole].splitlines()
    if not lines:
        return 0, FIRST
    entry = json.loads(lines[-1])
    return int(entry["seq"]), str(entry["hash"])
