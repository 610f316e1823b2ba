"""Where an archive's files are: a source is a place with an alias, a file reference one file in it.

Places are identified (a folder may be called after a patient): they stay in the vault, and no
message of this module repeats one.
"""

import hashlib
import os
import re
import tarfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tasks.archive.members import read_member
from tasks.archive.s3 import SCHEME, parse_location, read_object
from tasks.archive.s3 import is_there as bucket_holds_something
from tasks.errors import BadCase

TABLE_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet")
ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
MAPPING_NAME = "radloop-images.csv"
"""Says whose the pictures and volumes of a folder or bucket are; stands at its root."""

ALIAS = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")

DIGEST_BYTES = 16
"""128 bits of SHA-256, as for every id: a collision needs about 2**64 files."""

MAX_FILE_BYTES = 4 << 30
"""Largest single file read into memory; a volume of more is refused further on as well."""

MAX_ANNOUNCED_BYTES = 512 << 20
"""More is not asked to be cached ahead: it could push out what is read now."""


_CHANGED = "size or digest differ from what was taken in: ingest again"


@dataclass(frozen=True)
class Source:
    """A place that holds studies: folder, archive file, bucket, Decathlon folder or table."""

    alias: str
    kind: str
    location: str


@dataclass(frozen=True)
class FileRef:
    """One file: absolute path or s3:// location, member in an archive, digest, size in bytes."""

    path: str
    member: str | None
    digest: str
    size: int


def resolve_source(text: str, alias: str | None = None) -> Source:
    """Return the source at a path, with its kind told by what stands there.

    Parameters
    ----------
    text : str
        A folder, a .zip or .tar(.gz) file, s3://bucket/prefix, or a CSV, TSV or Parquet table.
    alias : str, optional
        Name for it in logs and catalogs; without one a name is made of the place's hash, because
        a folder's own name may be a patient's.

    Raises
    ------
    FileNotFoundError
        Nothing stands there.
    ValueError
        A kind of source or an alias that is not supported.
    """
    if text.startswith(SCHEME):
        location = parse_location(text)
        return Source(_alias(location, alias), "s3", location)
    if "://" in text:
        raise ValueError(
            f"A source of the form {text.split('://')[0]}:// is not supported: give a folder, "
            "a .zip or .tar file, s3://bucket/prefix, or a table."
        )
    place = Path(text).expanduser().resolve()
    if not place.exists():
        raise FileNotFoundError(
            "Nothing stands at the place given as source (not repeated here, since a path may "
            "hold a name): check it, or give the alias of a registered source."
        )
    return Source(_alias(str(place), alias), _kind(place), str(place))


def _alias(location: str, given: str | None) -> str:
    if given is None:
        return "src-" + hashlib.sha256(location.encode(errors="surrogateescape")).hexdigest()[:8]
    if not ALIAS.fullmatch(given):
        raise ValueError(
            "An alias is 1 to 63 of a-z, 0-9, '.', '_' and '-', and starts with a letter or digit."
        )
    return given


def is_there(source: Source) -> bool:
    """Tell whether a source's place can be reached and holds something.

    Raises
    ------
    PermissionError, OSError
        A bucket that refuses or does not answer.
    """
    if source.kind == "s3":
        return bucket_holds_something(source.location)
    return Path(source.location).exists()


def path_of(location: str, relative: str) -> str:
    """Return where a file of a source stands: a path, or an s3:// location."""
    # pathlib takes five times as long, and a hospital has millions of files.
    return f"{location.rstrip('/')}/{relative}" if relative else location


def is_local(ref: FileRef) -> bool:
    """Tell whether a file stands in a folder of this machine, packed in nothing."""
    return ref.member is None and not ref.path.startswith(SCHEME)


def is_row(path: str, member: str | None) -> bool:
    """Tell whether a file is a line of a mapping, which counts as a member of it."""
    return bool(member) and path.rpartition("/")[2] == MAPPING_NAME


def read_named(source: Source, name: str, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Return a file that a folder or bucket holds under a relative name.

    Raises
    ------
    FileNotFoundError, PermissionError, OSError
        It is not there, cannot be read or is too large.
    """
    path = path_of(source.location, name)
    if source.kind == "s3":
        return read_object(path, max_bytes)
    if Path(path).resolve() != Path(source.location).resolve() / name:
        raise FileNotFoundError("a link leads to the file; links are not followed")
    with Path(path).open("rb") as stream:
        data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(f"the file has more than {max_bytes} bytes")
    return data


def _kind(place: Path) -> str:
    if place.is_dir():
        return "decathlon" if has_layout(place) else "folder"
    if place.name.lower().endswith(TABLE_SUFFIXES):
        return "table"
    if zipfile.is_zipfile(place) or tarfile.is_tarfile(place):
        return "archive"
    raise ValueError(
        "The source is neither a folder, nor a zip or tar archive, nor a table "
        f"({', '.join(TABLE_SUFFIXES)}): give the folder that holds the file."
    )


def has_layout(folder: Path) -> bool:
    """Tell whether a folder's names say what its NIfTI files are, see `tasks.archive.layouts`."""
    from tasks.archive.layouts import layout_name

    return layout_name(folder) is not None


def digest_of(data: bytes) -> bytes:
    """Return the digest of a file's whole content, 16 bytes.

    The whole file and not the header alone: a pixel that changes must change the case.
    """
    return hashlib.sha256(data).digest()[:DIGEST_BYTES]


def read_bytes(ref: FileRef, *, check_digest: bool = True) -> bytes:
    """Return the content a reference promises.

    Raises
    ------
    BadCase
        ``file_missing``, ``file_unreadable``, ``file_changed`` (size or digest differ from what
        was taken in; the remedy is to ingest again) or ``file_too_large``.
    """
    if ref.size > MAX_FILE_BYTES:
        raise BadCase("file_too_large", f"{ref.size} bytes, at most {MAX_FILE_BYTES} are read")
    path = Path(ref.path)
    try:
        if is_row(ref.path, ref.member):
            from tasks.archive.mapping import read_row

            data = read_row(ref.path, ref.member)
        elif ref.path.startswith(SCHEME):
            data = read_object(ref.path, MAX_FILE_BYTES)
        elif ref.member is None:
            with path.open("rb") as stream:
                # One byte more than promised tells a file that grew, without reading all of it.
                data = stream.read(ref.size + 1)
        else:
            data = read_member(path, ref.member)
    except FileNotFoundError:
        raise BadCase("file_missing", "the file is no longer where it was taken in") from None
    except OSError as error:
        raise BadCase(
            "file_unreadable", f"the operating system says {type(error).__name__}"
        ) from None
    if len(data) != ref.size:
        raise BadCase("file_changed", _CHANGED)
    if check_digest:
        checked_digest(ref, data)
    return data


def announce(files: Iterable[FileRef]) -> None:
    """Let the system bring files of this machine into its cache, since they are read next.

    Returns at once and holds nothing: what cannot be announced is only read later than it could be
    (posix_fadvise(2), WILLNEED). Reading a full CT series that is not in the cache waits for the
    disk as long as it computes, a small one a tenth of that.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    left = MAX_ANNOUNCED_BYTES
    for ref in files:
        left -= ref.size
        if left < 0:
            return
        if not is_local(ref):
            continue
        try:
            descriptor = os.open(ref.path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            # Reading it says why.
            continue
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
        except OSError:
            continue
        finally:
            os.close(descriptor)


def checked_digest(ref: FileRef, data: bytes) -> str:
    """Return the digest of a file's content, 32 hex characters.

    Raises
    ------
    BadCase
        ``file_changed`` when the reference promises another one; it may promise none.
    """
    found = digest_of(data).hex()
    if ref.digest and found != ref.digest:
        raise BadCase("file_changed", _CHANGED)
    return found
