"""One way to turn facts into ids: SHA-256 over canonical JSON, 32 hexadecimal characters."""

import hashlib
import json
from pathlib import Path
from typing import Any

ID_LENGTH = 32
"""Hexadecimal characters kept of a SHA-256: 128 bits, so a collision needs about 2**64 objects."""


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_json(value: Any) -> str:
    """Return the id of a JSON-able value."""
    return digest_bytes(canonical_json(value).encode())


def digest_bytes(data: bytes) -> str:
    """Return the id of bytes."""
    return hashlib.sha256(data).hexdigest()[:ID_LENGTH]


def digest_file(path: str | Path) -> str:
    """Return the id of a file's content."""
    return sha256_file(path)[:ID_LENGTH]


def sha256_file(path: str | Path) -> str:
    """Return the whole SHA-256 of a file's content, as other tools print it."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def unsaid(value: Any) -> bool:
    """Return whether a setting was not given at all.

    Goes with ``Field(default=None, exclude_if=unsaid)``: what a config gained later is told only
    where it is given, so that older configs keep their hashes.
    """
    return value is None


def says_nothing(value: Any) -> bool:
    """Return whether a setting is None, empty, zero or False; see `unsaid`."""
    return not value
