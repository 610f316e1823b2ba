"""Every file of a source, lazily, in one order, and never outside its root."""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tasks.archive.members import list_members
from tasks.archive.sources import ARCHIVE_SUFFIXES, MAX_FILE_BYTES, Source
from tasks.errors import BadCase


@dataclass(frozen=True)
class Entry:
    """One file of a source; `read` gives its content until the next entry is asked for."""

    path: str
    """Relative to the root with forward slashes; empty when the source is one file."""
    member: str
    """Name inside an archive, else empty."""
    size: int
    mtime_ns: int
    """Of the file; a member has its archive's, so that an unchanged archive is not read again."""
    problem: BadCase | None
    read: Callable[[], bytes] = field(repr=False)


@dataclass
class WalkNotes:
    """What a walk left out: filled while it runs."""

    links: int = 0


def walk(source: Source, notes: WalkNotes | None = None) -> Iterator[Entry]:
    """Yield the files of a source, each folder sorted by name.

    Links are counted and not followed: one that stays inside leads to a file that is walked
    anyway, one that leaves leads to what was not given. Archives inside a folder are opened one
    level deep. Nothing is written or extracted.
    """
    notes = notes if notes is not None else WalkNotes()
    root = Path(source.location)
    if root.is_dir():
        yield from _walk_folder(root, "", notes)
        return
    state = root.stat()
    if source.kind == "archive":
        yield from _walk_archive(root, "", state)
    else:
        yield _file_entry(root, "", state)


def _walk_folder(folder: Path, relative: str, notes: WalkNotes) -> Iterator[Entry]:
    try:
        with os.scandir(folder) as listing:
            children = sorted(listing, key=lambda child: child.name)
    except OSError as error:
        yield _problem_entry(relative, "unreadable_folder", type(error).__name__)
        return
    for child in children:
        path = f"{relative}/{child.name}" if relative else child.name
        if child.is_symlink():
            notes.links += 1
        elif child.is_dir(follow_symlinks=False):
            yield from _walk_folder(Path(child.path), path, notes)
        else:
            yield from _walk_file(child, path)


def _walk_file(child: os.DirEntry, path: str) -> Iterator[Entry]:
    try:
        state = child.stat(follow_symlinks=False)
    except OSError as error:
        yield _problem_entry(path, "unreadable_file", type(error).__name__)
        return
    if not stat.S_ISREG(state.st_mode):
        # Opening a pipe or a device could wait for ever.
        yield _problem_entry(path, "not_a_regular_file", "a pipe, socket or device")
    elif child.name.lower().endswith(ARCHIVE_SUFFIXES):
        yield from _walk_archive(Path(child.path), path, state)
    else:
        yield _file_entry(Path(child.path), path, state)


def _walk_archive(place: Path, path: str, state: os.stat_result) -> Iterator[Entry]:
    try:
        for member in list_members(place):
            problem = member.problem
            if problem is None and member.name.lower().endswith(ARCHIVE_SUFFIXES):
                problem = BadCase("nested_archive", "an archive inside an archive: unpack it")
            name = storable(member.name)
            if name != member.name:
                problem = problem or _name_not_text()
            yield Entry(storable(path), name, member.size, state.st_mtime_ns, problem, member.read)
    except BadCase as problem:
        yield Entry(storable(path), "", state.st_size, state.st_mtime_ns, problem, lambda: b"")
    except OSError as error:
        yield _problem_entry(path, "unreadable_file", type(error).__name__)


def _file_entry(place: Path, path: str, state: os.stat_result) -> Entry:
    problem = None
    if state.st_size > MAX_FILE_BYTES:
        problem = BadCase(
            "file_too_large", f"{state.st_size} bytes, at most {MAX_FILE_BYTES} are read"
        )
    elif storable(path) != path:
        problem = _name_not_text()
    return Entry(
        storable(path), "", state.st_size, state.st_mtime_ns, problem, lambda: _read(place)
    )


def _read(place: Path) -> bytes:
    # Not through a link that took the file's place since the folder was listed.
    descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read()


def _problem_entry(path: str, reason: str, detail: str) -> Entry:
    return Entry(storable(path), "", 0, 0, BadCase(reason, detail), lambda: b"")


def storable(name: str) -> str:
    """Return a name a database can keep: bytes that are not UTF-8 and NULs become escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")


def _name_not_text() -> BadCase:
    return BadCase("undecodable_name", "the file's name is not UTF-8: rename it")
