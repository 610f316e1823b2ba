"""Files of the sources in the vault: what is known of each, and the way from its number to it."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, LargeBinary, bindparam, select, type_coerce, update

from tasks.archive.bulk import execute_rows, insert_returning
from tasks.archive.database import (
    LOOKUP_ROWS,
    chunks,
    insert,
    writing,
)
from tasks.archive.sources import FileRef, path_of
from tasks.archive.vault import source_row
from tasks.archive.vault_tables import files, folders, sources

_FILE_COLUMNS = ("folder_id", "name", "member", "size", "mtime_ns", "digest", "outcome")

KNOWN_COLUMNS = (
    files.c.name,
    files.c.member,
    files.c.id,
    files.c.size,
    files.c.mtime_ns,
    files.c.outcome,
    files.c.digest,
)
"""Columns of a file that tell whether it is known as it is."""

OUTCOMES = ("instance", "duplicate", "quarantine", "label", "ignored")
"""What became of a file; kept as its place in this tuple, so only append."""


@dataclass(frozen=True)
class FileSeen:
    """One file of a source as the walk saw it."""

    path: str
    """Relative to the source's root, with forward slashes; empty when the source is the file."""
    member: str
    """Name inside a zip or tar, else empty."""
    size: int
    mtime_ns: int
    digest: bytes
    """16 bytes."""
    outcome: str
    """One of `OUTCOMES`."""


@dataclass(frozen=True)
class KnownFile:
    """What the vault remembers of a file."""

    locator: int
    size: int
    mtime_ns: int
    outcome: str
    digest: bytes


def known_files(vault: Engine, alias: str) -> dict[tuple[str, str], KnownFile]:
    """Return what is known of a source's files, by (path, member)."""
    query = (
        select(
            folders.c.path,
            *KNOWN_COLUMNS,
        )
        .join_from(files, folders)
        .join(sources)
        .where(sources.c.alias == alias)
    )
    with vault.connect() as connection:
        return {
            (_joined(folder, name), member): KnownFile(
                locator, size, mtime_ns, OUTCOMES[outcome], bytes(digest)
            )
            for folder, name, member, locator, size, mtime_ns, outcome, digest in (
                connection.execute(query)
            )
        }


def put_files(vault: Engine, alias: str, files_seen: Sequence[FileSeen]) -> list[int]:
    """Record files and return their locators, in the given order.

    The same (source, path, member) keeps its locator for ever; size, time, digest and outcome
    become what was seen last. Folder names are stored once.

    Raises
    ------
    KeyError
        No source has this alias.
    ValueError
        An outcome that is not one of `OUTCOMES`, or a digest that is not 16 bytes.
    """
    for seen in files_seen:
        if seen.outcome not in OUTCOMES or len(seen.digest) != 16:
            raise ValueError(
                f"A file has the outcome {seen.outcome!r} and a digest of {len(seen.digest)} "
                f"bytes: give one of {', '.join(OUTCOMES)} and 16 bytes."
            )
    if not files_seen:
        return []
    with writing(vault) as connection:
        source = source_row(connection, alias)
        if source is None:
            raise KeyError(f"no source has the alias {alias!r}: register it first")
        folder_ids = _folder_ids(connection, source.id, {_split(f.path)[0] for f in files_seen})
        # The last record of a file wins; one statement may not touch a row twice.
        rows: dict[tuple[int, bytes, bytes], tuple] = {}
        keys = []
        for seen in files_seen:
            folder, name = _split(seen.path)
            key = (folder_ids[folder], _name_bytes(name), _name_bytes(seen.member))
            keys.append(key)
            facts = (seen.size, seen.mtime_ns, seen.digest, OUTCOMES.index(seen.outcome))
            rows[key] = key + facts
        locators = _upsert_files(connection, list(rows.values()))
    of_key = dict(zip(rows, locators, strict=True))
    return [of_key[key] for key in keys]


def _upsert_files(connection: Connection, rows: list[tuple]) -> list[int]:
    """Write rows in the order of `_FILE_COLUMNS`, names as bytes; return their locators."""
    statement = insert(connection, files)
    changing = ("size", "mtime_ns", "digest", "outcome")
    statement = statement.on_conflict_do_update(
        index_elements=["folder_id", "name", "member"],
        set_={column: statement.excluded[column] for column in changing},
    )
    if connection.dialect.name == "sqlite":
        return insert_returning(connection, statement.returning(files.c.id), _FILE_COLUMNS, rows)
    key = (files.c.folder_id, files.c.name, files.c.member)
    raw = [type_coerce(column, LargeBinary) for column in key[1:]]
    found = connection.execute(
        statement.returning(key[0], *raw, files.c.id),
        [dict(zip(_FILE_COLUMNS, row, strict=True)) for row in rows],
    )
    of_key = {
        (folder_id, bytes(name), bytes(member)): locator
        for folder_id, name, member, locator in found
    }
    return [of_key[row[:3]] for row in rows]


def finish_files(vault: Engine, rows: Sequence[tuple[int, int, str]]) -> None:
    """Set (locator, modification time in ns, outcome) of files that are recorded already."""
    statement = (
        update(files)
        .where(files.c.id == bindparam("b_id"))
        .values(mtime_ns=bindparam("b_mtime_ns"), outcome=bindparam("b_outcome"))
    )
    with writing(vault) as connection:
        execute_rows(
            connection,
            statement,
            ("b_id", "b_mtime_ns", "b_outcome"),
            [(locator, mtime_ns, OUTCOMES.index(outcome)) for locator, mtime_ns, outcome in rows],
        )


def _folder_ids(connection: Connection, source_id: int, paths: set[str]) -> dict[str, int]:
    wanted = sorted(paths)
    connection.execute(
        insert(connection, folders).on_conflict_do_nothing(),
        [{"source_id": source_id, "path": path} for path in wanted],
    )
    found: dict[str, int] = {}
    for chunk in chunks(wanted, LOOKUP_ROWS):
        query = select(folders.c.path, folders.c.id).where(
            folders.c.source_id == source_id, folders.c.path.in_(chunk)
        )
        found.update((path, folder_id) for path, folder_id in connection.execute(query))
    return found


def file_refs(vault: Engine, locators: Sequence[int]) -> dict[int, FileRef]:
    """Return where files are, by locator.

    Raises
    ------
    KeyError
        A locator the vault does not know.
    """
    wanted = sorted(set(locators))
    columns = (
        files.c.id,
        sources.c.location,
        folders.c.path,
        files.c.name,
        files.c.member,
        files.c.digest,
        files.c.size,
    )
    query = select(*columns).join_from(files, folders).join(sources)
    found: dict[int, FileRef] = {}
    with vault.connect() as connection:
        for chunk in chunks(wanted, LOOKUP_ROWS):
            rows = connection.execute(query.where(files.c.id.in_(chunk)))
            for locator, root, folder, name, member, digest, size in rows:
                path = path_of(root, _joined(folder, name))
                found[locator] = FileRef(path, member or None, bytes(digest).hex(), size)
    if missing := set(wanted) - found.keys():
        raise KeyError(f"the vault knows no file {min(missing)} ({len(missing)} such locators)")
    return found


def _name_bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _split(path: str) -> tuple[str, str]:
    folder, _, name = path.rpartition("/")
    return folder, name


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
