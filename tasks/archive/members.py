"""Members of zip and tar archives: listed and read in memory, never extracted to disk."""

import errno
import gzip
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

from tasks.errors import BadCase

MAX_MEMBER_BYTES = 1 << 30
"""Largest member read: one bomb may cost a gigabyte of memory for a moment, never more."""

MAX_ARCHIVE_EXPANSION = 100
"""An archive may unpack to this many times its size; images pack to a half, empty ones to a
twentieth, and archives whose members share their bytes to a millionth."""

EXPANSION_FREE_BYTES = 8 << 30
"""Up to this much an archive may unpack whatever its size: it is read in a minute."""

OPEN_ARCHIVES = 4
"""Archives kept open for reading by name; each costs a descriptor and some 1 kB a member."""

_DRIVE = re.compile(r"^[A-Za-z]:")


@dataclass(frozen=True)
class Member:
    """One file in an archive; `read` is valid until the next member is asked for."""

    name: str
    size: int
    problem: BadCase | None
    read: Callable[[], bytes]


def list_members(path: Path) -> Iterator[Member]:
    """Yield the files of an archive in the order they stand in it.

    Links and folders are left out. A name that leaves the archive, an encrypted member, one that
    is too large and a second one of the same name come with a problem instead of content.

    Raises
    ------
    BadCase
        ``damaged_archive``: its directory, or what follows the last member yielded, is unreadable;
        ``decompression_bomb``: all of it would unpack to far more than images do.
    """
    listing = _zip_members if zipfile.is_zipfile(path) else _tar_members
    allowed = max(EXPANSION_FREE_BYTES, MAX_ARCHIVE_EXPANSION * path.stat().st_size)
    names: set[str] = set()
    try:
        for member in listing(path):
            allowed -= max(member.size, 0)
            if allowed < 0:
                raise BadCase(
                    "decompression_bomb",
                    f"its members promise more than {MAX_ARCHIVE_EXPANSION} times its size; what "
                    "stands before that was taken in",
                )
            if member.name not in names:
                names.add(member.name)
                yield member
                continue
            # (path, member) is the file's key, so the second one needs a name of its own.
            yield Member(
                f"{member.name}#{len(names)}",
                member.size,
                BadCase("repeated_member", "the archive holds two members of one name"),
                member.read,
            )
            names.add(f"{member.name}#{len(names)}")
    except Exception as error:
        if not _is_damage(error):
            raise
        raise BadCase(
            "damaged_archive", f"the archive ends or breaks here ({type(error).__name__})"
        ) from None


def read_member(path: Path, name: str) -> bytes:
    """Return one member by name.

    The archive stays open, so members read in the order they stand in cost one pass; a .tar.gz is
    unpacked from its start whenever an earlier member is asked for.

    Raises
    ------
    BadCase
        The member is missing, damaged, encrypted or too large.
    FileNotFoundError, OSError
        The archive itself cannot be opened.
    """
    state = path.stat()
    try:
        archive = _open(str(path), state.st_size, state.st_mtime_ns)
        info = archive.members[name]
        if isinstance(info, zipfile.ZipInfo):
            return _read_zip(archive.opened, info)
        with archive.lock:
            return _read_tar(archive.opened, info)
    except KeyError:
        raise BadCase("file_missing", "the archive no longer holds this member") from None
    except Exception as error:
        if not _is_damage(error):
            raise
        raise BadCase("damaged_archive", f"unreadable ({type(error).__name__})") from None


@dataclass(frozen=True)
class _Opened:
    """An archive kept open, with the first member of each name: the second is in quarantine."""

    opened: zipfile.ZipFile | tarfile.TarFile
    members: Mapping[str, zipfile.ZipInfo | tarfile.TarInfo]
    lock: Lock
    """Readers of a tar share one position in it."""

    def __del__(self) -> None:
        # Let go by the cache below, which cannot close what it drops.
        self.opened.close()


@lru_cache(maxsize=OPEN_ARCHIVES)
def _open(path: str, size: int, mtime_ns: int) -> _Opened:
    # Size and time are part of the key so that a replaced archive is opened anew.
    if zipfile.is_zipfile(path):
        archive = zipfile.ZipFile(path)
        found = [(info.filename, info) for info in archive.infolist()]
        return _Opened(archive, dict(reversed(found)), Lock())
    tar = tarfile.open(path)  # noqa: SIM115 (the cache keeps it open)
    try:
        listed = [(info.name, info) for info in tar if info.isfile()]
    except BaseException:
        tar.close()
        raise
    return _Opened(tar, dict(reversed(listed)), Lock())


def _zip_members(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            problem = _name_problem(info.orig_filename) or _size_problem(info.file_size)
            if info.flag_bits & 0x1:
                problem = problem or BadCase(
                    "encrypted_member", "the member is encrypted: unpack it with its password"
                )
            yield Member(
                info.filename, info.file_size, problem, lambda i=info: _read_zip(archive, i)
            )


def _tar_members(path: Path) -> Iterator[Member]:
    with tarfile.open(path) as archive:
        for info in archive:
            if info.isfile():
                problem = _name_problem(info.name) or _size_problem(info.size)
                yield Member(info.name, info.size, problem, lambda i=info: _read_tar(archive, i))
            # A tar keeps every member it has passed in a list; a long one would fill the memory.
            archive.members = []


def _read_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.flag_bits & 0x1:
        raise BadCase("encrypted_member", "the member is encrypted: unpack it with its password")
    return _read_capped(lambda: archive.open(info), info.file_size)


def _read_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    return _read_capped(lambda: archive.extractfile(info), info.size)


def _read_capped(open_stream: Callable, size: int) -> bytes:
    """Read what a member declares and not a byte of a bomb more."""
    if problem := _size_problem(size):
        raise problem
    try:
        with open_stream() as stream:
            data = stream.read(size + 1)
    except Exception as error:
        if not _is_damage(error):
            raise
        raise BadCase("damaged_member", f"unreadable ({type(error).__name__})") from None
    if len(data) != size:
        raise BadCase("damaged_member", "the member is not as long as its archive says")
    return data


def _is_damage(error: Exception) -> bool:
    """Tell what is wrong with an archive from what is wrong with the disk it lies on.

    A hostile archive makes the standard library raise anything, an IndexError for one, and seek to
    places before the file's begin.
    """
    if isinstance(error, OSError):
        return isinstance(error, gzip.BadGzipFile) or error.errno == errno.EINVAL
    return not isinstance(error, BadCase | MemoryError)


def _size_problem(size: int) -> BadCase | None:
    if 0 <= size <= MAX_MEMBER_BYTES:
        return None
    return BadCase(
        "member_too_large",
        f"{size} bytes unpacked, at most {MAX_MEMBER_BYTES} are read from an archive: unpack it",
    )


def _name_problem(name: str) -> BadCase | None:
    """Nothing is ever written under such a name; it marks an archive made to do harm."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or _DRIVE.match(name) or "\0" in name:
        return BadCase("unsafe_member_name", "the member's name leaves the archive")
    return None
