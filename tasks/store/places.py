"""Where a part's files are: a folder, or a prefix of a bucket.  Whole files and ranges, no more."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tasks.archive import s3
from tasks.errors import StoreError
from tasks.hashing import sha256_file
from tasks.store.schema import PARTS
from tasks.store.shards import Span

COALESCE_BYTES = 1 << 20
"""Ranges of an object nearer than this are one request: a round trip costs what a megabyte does."""


class Place(Protocol):
    """Files below one root; names are relative, with ``/``."""

    name: str

    def files(self) -> dict[str, int]:
        """Return every file and its bytes."""

    def read(self, name: str) -> bytes:
        """Return a whole file.  Raises FileNotFoundError."""

    def ranges(self, name: str, spans: Sequence[Span]) -> Iterator[bytes]:
        """Yield the bytes of each span, fewer where the file ends.  Raises FileNotFoundError."""

    def sha256(self, name: str) -> str:
        """Return a file's whole SHA-256."""


@dataclass(frozen=True)
class Folder:
    """A folder of this machine."""

    path: Path

    @property
    def name(self) -> str:
        """Last part of the place."""
        return self.path.name

    def files(self) -> dict[str, int]:
        """Return every file and its bytes."""
        return {
            path.relative_to(self.path).as_posix(): path.stat().st_size
            for path in self.path.rglob("*")
            if path.is_file()
        }

    def read(self, name: str) -> bytes:
        """Return a whole file."""
        return (self.path / name).read_bytes()

    def ranges(self, name: str, spans: Sequence[Span]) -> Iterator[bytes]:
        """Yield the bytes of each span; the file is open only meanwhile."""
        # Not mapped: a file cut short under a mapping ends the process.
        descriptor = os.open(self.path / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for start, stop in spans:
                yield os.pread(descriptor, stop - start, start)
        finally:
            os.close(descriptor)

    def age(self, name: str, now: float) -> float:
        """Return the seconds since a file was written or touched."""
        return now - (self.path / name).stat().st_mtime

    def touch(self, name: str) -> None:
        """Let a file count as written now; its content stays."""
        os.utime(self.path / name)

    def sha256(self, name: str) -> str:
        """Return a file's whole SHA-256."""
        return sha256_file(self.path / name)


@dataclass(frozen=True)
class Bucket:
    """A prefix of a bucket, ``s3://bucket/prefix``."""

    location: str

    @property
    def name(self) -> str:
        """Last part of the place."""
        return self.location.rpartition("/")[2]

    def files(self) -> dict[str, int]:
        """Return every object and its bytes."""
        return {found.key: found.size for found in s3.list_objects(self.location)}

    def read(self, name: str) -> bytes:
        """Return a whole object."""
        bucket, key = s3.split_location(f"{self.location}/{name}")
        with s3.plain_errors():
            return s3.open_bucket(bucket).get(key).bytes().to_bytes()

    def ranges(self, name: str, spans: Sequence[Span]) -> Iterator[bytes]:
        """Yield the bytes of each span; near ones come in one request."""
        bucket, key = s3.split_location(f"{self.location}/{name}")
        starts, stops = [start for start, _ in spans], [stop for _, stop in spans]
        try:
            with s3.plain_errors():
                found = s3.open_bucket(bucket).get_ranges(
                    key, starts=starts, ends=stops, coalesce=COALESCE_BYTES
                )
        except (FileNotFoundError, PermissionError):
            raise
        except OSError:
            if self._size(key) >= max(stops):
                raise
            # A server refuses a range beyond the end; the object was cut short.
            yield from (b"" for _ in spans)
            return
        yield from (piece.to_bytes() for piece in found)

    def _size(self, key: str) -> int:
        bucket, _ = s3.split_location(self.location)
        with s3.plain_errors():
            return s3.open_bucket(bucket).head(key)["size"]

    def sha256(self, name: str) -> str:
        """Return an object's whole SHA-256."""
        return hashlib.sha256(self.read(name)).hexdigest()

    def age(self, name: str, now: float) -> float:
        """Return the seconds since an object was put."""
        bucket, key = s3.split_location(f"{self.location}/{name}")
        with s3.plain_errors():
            return now - s3.open_bucket(bucket).head(key)["last_modified"].timestamp()

    def touch(self, name: str) -> None:
        """Put an object again, so that it counts as written now."""
        bucket, key = s3.split_location(f"{self.location}/{name}")
        content = self.read(name)
        with s3.plain_errors():
            s3.open_bucket(bucket).put(key, content)

    def upload(self, name: str, source: Path) -> None:
        """Put a whole file, which appears at once or not at all; a large one in pieces."""
        bucket, key = s3.split_location(f"{self.location}/{name}")
        with s3.plain_errors():
            s3.open_bucket(bucket).put(key, source)

    def remove(self, names: Sequence[str]) -> None:
        """Delete objects; one that is not there is no error."""
        bucket, _ = s3.split_location(self.location)
        keys = [s3.split_location(f"{self.location}/{name}")[1] for name in names]
        if keys:
            s3.again(lambda: s3.open_bucket(bucket).delete(keys))


def is_url(root: str) -> bool:
    """Say whether a store root is a bucket.  Raises StoreError for any other URL."""
    root = str(root)
    if root.startswith(s3.SCHEME):
        return True
    if "://" in root:
        raise StoreError(
            f"the store {root.partition('://')[0]}://… is neither a folder nor s3://bucket/prefix: "
            "set RADLOOP_STORE to one of them"
        )
    return False


def place_of(root: str, path: str = "") -> Folder | Bucket:
    """Return the place of a part, or of the whole store.

    Raises
    ------
    StoreError
        The root is a URL of another kind.
    ValueError
        The bucket's name or prefix is not valid.
    """
    if is_url(root):
        return Bucket("/".join(filter(None, (s3.parse_location(str(root)), path))))
    return Folder(Path(root) / path if path else Path(root))


def part_path(part_id: str) -> str:
    """Return the path of a part, relative to the store root."""
    return f"{PARTS}/{part_id}.zarr"
