"""Every file of a source, lazily, in one order, and never outside its root."""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks.archive.mapping import members
from tasks.archive.members import list_members
from tasks.archive.read_ahead import ReadAhead
from tasks.archive.s3 import BucketObject, list_objects, read_object
from tasks.archive.sources import ARCHIVE_SUFFIXES, MAPPING_NAME, MAX_FILE_BYTES, Source
from tasks.errors import BadCase

MAPPED = ("folder", "s3")
"""Kinds of source that may hold a mapping of pictures and volumes."""


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
    lasting: bool = False
    """Whether `read` works at any time and in any thread."""


@dataclass
class WalkNotes:
    """What a walk left out: filled while it runs."""

    links: int = 0
    settled: int = 0
    """Files that are as `settled` says, and so were not yielded."""


REGULAR = stat.S_IFREG >> 12
"""Type of a regular file in the upper bits of its mode (inode(7))."""

Settled = Callable[[str], Mapping[bytes, tuple[int, int]]]
"""Folder -> the files in it that need no reading: name -> (size, modification time in ns)."""


def walk(
    source: Source, notes: WalkNotes | None = None, settled: Settled = lambda _: {}
) -> Iterator[Entry]:
    """Yield the files of a source, each folder sorted by name.

    Parameters
    ----------
    source : Source
    notes : WalkNotes, optional
        Filled while it runs.
    settled : callable, optional
        Files it names are counted and not yielded: of a tree that did not change only folders are
        listed and times compared, without an object for each file.

    Links are counted and not followed: one that stays inside leads to a file that is walked
    anyway, one that leaves leads to what was not given. Archives inside a folder are opened one
    level deep. Nothing is written or extracted.
    """
    for entry in _entries(source, notes if notes is not None else WalkNotes(), settled):
        if entry.path == MAPPING_NAME and source.kind in MAPPED and entry.problem is None:
            yield from _rows(entry)
        else:
            yield entry


def _rows(entry: Entry) -> Iterator[Entry]:
    """Yield the lines of a mapping, each as a file of its own."""
    try:
        rows = list(members(entry.read()))
    except (OSError, ValueError):
        # Intake reads the table first and says what is wrong with it.
        yield entry
        return
    for name, content, problem in rows:
        yield Entry(
            entry.path, storable(name), len(content), entry.mtime_ns, problem, lambda c=content: c
        )


def _entries(source: Source, notes: WalkNotes, settled: Settled) -> Iterator[Entry]:
    if source.kind == "s3":
        # A bucket that stops to answer ends the walk with its error: no file of it is to blame.
        yield from _walk_bucket(source.location)
        return
    root = Path(source.location)
    if root.is_dir():
        yield from _walk_folder(os.fsencode(root), notes, settled)
        return
    state = root.stat()
    if source.kind == "archive":
        yield from _walk_archive(root, "", state)
    else:
        yield _file_entry(root, "", state)


def _walk_folder(root: bytes, notes: WalkNotes, settled: Settled) -> Iterator[Entry]:
    # A stack of our own: Python's ends at a thousand folders inside each other.
    open_folders = [_children(root, "", notes, settled)]
    while open_folders:
        found = next(open_folders[-1], None)
        if found is None:
            open_folders.pop()
        elif isinstance(found, Entry):
            yield found
        elif found[0].is_symlink():
            notes.links += 1
        elif found[0].is_dir(follow_symlinks=False):
            open_folders.append(_children(found[0].path, found[1], notes, settled))
        else:
            yield from _walk_file(*found)


def _children(
    folder: bytes, relative: str, notes: WalkNotes, settled: Settled
) -> Iterator[tuple[os.DirEntry, str] | Entry]:
    """Yield a folder's children that are not settled with their paths, or one problem."""
    known = settled(storable(relative))
    try:
        children = _unsettled(folder, known, notes)
    except OSError as error:
        yield _problem_entry(relative, "unreadable_folder", type(error).__name__)
        return
    children.sort(key=lambda child: child.name)
    for child in children:
        name = os.fsdecode(child.name)
        yield child, f"{relative}/{name}" if relative else name


def _unsettled(
    folder: bytes, known: Mapping[bytes, tuple[int, int]], notes: WalkNotes
) -> list[os.DirEntry]:
    """List a folder without its settled files, which are counted."""
    # As bytes: most names are only compared, and need not be text for that.
    with os.scandir(folder) as listing:
        if not known:
            return list(listing)
        rest, same, get = [], 0, known.get
        for child in listing:
            held = get(child.name)
            if held is not None:
                try:
                    state = child.stat(follow_symlinks=False)
                except OSError:
                    rest.append(child)
                    continue
                mode = state.st_mode
                if held == (state.st_size, state.st_mtime_ns) and mode >> 12 == REGULAR:
                    same += 1
                    continue
            rest.append(child)
    notes.settled += same
    return rest


def _walk_file(child: os.DirEntry, path: str) -> Iterator[Entry]:
    try:
        state = child.stat(follow_symlinks=False)
    except OSError as error:
        yield _problem_entry(path, "unreadable_file", type(error).__name__)
        return
    if not stat.S_ISREG(state.st_mode):
        # Opening a pipe or a device could wait for ever.
        yield _problem_entry(path, "not_a_regular_file", "a pipe, socket or device")
    elif path.lower().endswith(ARCHIVE_SUFFIXES):
        yield from _walk_archive(Path(os.fsdecode(child.path)), path, state)
    else:
        yield _file_entry(child.path, path, state)


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


def _walk_bucket(location: str) -> Iterator[Entry]:
    def content(found: BucketObject) -> bytes:
        return read_object(f"{location}/{found.key}", MAX_FILE_BYTES)

    for found, read in ReadAhead(list_objects(location), content):
        problem = None
        if found.size > MAX_FILE_BYTES:
            problem = _too_large(found.size)
        elif found.key.lower().endswith(ARCHIVE_SUFFIXES):
            problem = BadCase("archive_in_bucket", "archives are opened on file systems only")
        elif storable(found.key) != found.key:
            problem = _name_not_text()
        yield Entry(storable(found.key), "", found.size, found.stamp_ns, problem, read)


def _file_entry(place: Path | bytes, path: str, state: os.stat_result) -> Entry:
    problem = None
    if state.st_size > MAX_FILE_BYTES:
        problem = _too_large(state.st_size)
    elif storable(path) != path:
        problem = _name_not_text()
    return Entry(
        storable(path), "", state.st_size, state.st_mtime_ns, problem, lambda: _read(place), True
    )


def _read(place: Path | bytes) -> bytes:
    # Not through a link that took the file's place since the folder was listed.
    descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read()


def _problem_entry(path: str, reason: str, detail: str) -> Entry:
    return Entry(storable(path), "", 0, 0, BadCase(reason, detail), lambda: b"")


def storable(name: str) -> str:
    """Return a name a database can keep: bytes that are not UTF-8 and NULs become escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")


def _too_large(size: int) -> BadCase:
    return BadCase("file_too_large", f"{size} bytes, at most {MAX_FILE_BYTES} are read")


def _name_not_text() -> BadCase:
    return BadCase("undecodable_name", "the file's name is not UTF-8: rename it")
