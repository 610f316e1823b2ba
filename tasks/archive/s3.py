"""Buckets as sources: listed and read, never written, by obstore.

Credentials and addresses come from the provider's own chain (``AWS_*`` variables, container or
instance roles), which obstore reads itself: nothing of them passes through radloop. An address
without TLS is refused unless ``AWS_ALLOW_HTTP`` says otherwise.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from obstore.store import S3Store

Found = TypeVar("Found")

SCHEME = "s3://"

LISTED_AT_ONCE = 1000
"""Keys of one listing request: what S3 gives at most (ListObjectsV2, MaxKeys)."""

RETRY_SECONDS = 60
"""A request is repeated for this long: a minute outlives a restart, a night would hide a fault."""

RETRIES = 5
"""Times a request is repeated within that minute."""

PIECE_BYTES = 16 << 20
"""A larger object is read in pieces: the client ends each request after 30 s."""

_BROKEN = ("response body error", "?delete")
"""What the client's error says when an answer broke off, or a deletion was not answered."""

NS = 1_000_000_000

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
"""The general purpose buckets' naming rules."""


@dataclass(frozen=True)
class BucketObject:
    """One object of a listing."""

    key: str
    """Below the prefix that was listed."""
    size: int
    stamp_ns: int
    """See `stamp`."""


def parse_location(text: str) -> str:
    """Return the plain form of ``s3://bucket/prefix``: no slash at the end, none doubled.

    Raises
    ------
    ValueError
        No valid bucket name, or a prefix with an empty, ``.`` or ``..`` part.
    """
    bucket, _, prefix = text.removeprefix(SCHEME).partition("/")
    prefix = prefix.strip("/")
    parts = prefix.split("/") if prefix else []
    if not _BUCKET.fullmatch(bucket) or any(part in ("", ".", "..") for part in parts):
        raise ValueError(
            "A bucket is given as s3://bucket/prefix: 3 to 63 of a-z, 0-9, '.' and '-', then a "
            "prefix without empty parts."
        )
    return "/".join((f"{SCHEME}{bucket}", *parts))


def split_location(location: str) -> tuple[str, str]:
    """Return bucket and key (or prefix) of a location."""
    bucket, _, key = location.removeprefix(SCHEME).partition("/")
    return bucket, key


def stamp(modified: datetime, etag: str | None) -> int:
    """Return a time in nanoseconds that changes with the object's content.

    S3 keeps whole seconds, within which an object may be replaced by one of the same size; so the
    digits below the second are those of the entity tag's hash.
    """
    seconds = int(modified.astimezone(UTC).timestamp())
    tag = hashlib.sha256((etag or "").encode()).digest()
    return seconds * NS + int.from_bytes(tag[:8], "big") % NS


def list_objects(location: str) -> Iterator[BucketObject]:
    """Yield the objects below a prefix in the order of their keys, a page at a time.

    Raises
    ------
    FileNotFoundError, PermissionError, OSError
        The bucket cannot be listed; no message repeats its name.
    """
    marker: BucketObject | None = None
    for found in _listing(location):
        # An empty object above others stands for a folder: consoles make them.
        if marker and not found.key.startswith(f"{marker.key}/"):
            yield marker
        marker = None if found.size else found
        if found.size:
            yield found
    if marker:
        yield marker


def _listing(location: str) -> Iterator[BucketObject]:
    bucket, prefix = split_location(location)
    skip = len(prefix) + 1 if prefix else 0
    after, broken = None, 0
    # The client repeats a request, but not a page whose body broke off: go on after the last key.
    while True:
        try:
            with plain_errors():
                pages = open_bucket(bucket).list(
                    prefix or None, offset=after, chunk_size=LISTED_AT_ONCE
                )
                for page in pages:
                    for found in page:
                        after = found["path"]
                        if key := after[skip:]:
                            when = stamp(found["last_modified"], found["e_tag"])
                            yield BucketObject(key, found["size"], when)
            return
        except ConnectionResetError:
            if broken == RETRIES:
                raise
            broken += 1


def again(do: Callable[[], Found]) -> Found:
    """Return what ``do`` returns, repeating it where its answer broke off.

    The client repeats what it takes to be safe; a deletion, which may be done twice, it does not.
    """
    for _ in range(RETRIES):
        try:
            with plain_errors():
                return do()
        except ConnectionResetError:
            continue
    with plain_errors():
        return do()


def read_object(location: str, max_bytes: int) -> bytes:
    """Return the content of one object.

    Raises
    ------
    FileNotFoundError, PermissionError, OSError
        It cannot be read, or has more than so many bytes.
    """
    bucket, key = split_location(location)
    with plain_errors():
        store = open_bucket(bucket)
        result = store.get(key)
        size, etag = result.meta["size"], result.meta["e_tag"]
        if size > max_bytes:
            raise OSError(f"the object has {size} bytes, at most {max_bytes} are read")
        if size <= PIECE_BYTES:
            return result.bytes().to_bytes()
        del result
        # All pieces of one version: a piece of an object replaced meanwhile is refused.
        same = {"if_match": etag} if etag else {}
        pieces = [
            store.get(key, options={"range": (at, min(at + PIECE_BYTES, size)), **same}).bytes()
            for at in range(0, size, PIECE_BYTES)
        ]
        return b"".join(pieces)


def object_version(location: str) -> str:
    """Return what tells one version of an object from another: its entity tag, time and size.

    Raises
    ------
    FileNotFoundError, PermissionError, OSError
        It is not there, or the bucket does not answer.
    """
    bucket, key = split_location(location)
    with plain_errors():
        meta = open_bucket(bucket).head(key)
    return f"{meta['e_tag']} {meta['last_modified'].isoformat()} {meta['size']}"


def is_there(location: str) -> bool:
    """Tell whether at least one object stands below a prefix."""
    return next(list_objects(location), None) is not None


@lru_cache(maxsize=8)
def open_bucket(bucket: str) -> "S3Store":
    """Return the client of a bucket, one a process: it keeps connections and credentials.

    Raises
    ------
    ModuleNotFoundError
        obstore is not installed; the message names the extra.
    """
    try:
        from obstore.store import S3Store
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "Reading s3:// needs obstore: install radloop with its extra `s3`."
        ) from None
    # No options of the client here: they would replace those that the environment gives.
    retry = {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_SECONDS)}
    return S3Store(bucket, retry_config=retry)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn the client's errors, whose messages hold bucket and key, into the system's own."""
    from obstore.exceptions import (
        BaseError,
        InvalidPathError,
        NotFoundError,
        PermissionDeniedError,
    )
    from obstore.exceptions import UnauthenticatedError as Unknown

    try:
        yield
    except (NotFoundError, FileNotFoundError):
        raise FileNotFoundError("the bucket or object is not there") from None
    except (PermissionDeniedError, Unknown):
        raise PermissionError("the bucket refuses these credentials") from None
    except InvalidPathError:
        raise OSError("a key with an empty, '.' or '..' part ends the listing: rename it") from None
    except BaseError as error:
        if any(words in str(error) for words in _BROKEN):
            raise ConnectionResetError("the bucket's answer broke off, each time") from None
        raise OSError(
            f"the bucket cannot be read ({type(error).__name__}): check its name, AWS_ENDPOINT_URL "
            "and the connection"
        ) from None
