"""What the vault knows of a source's files, one folder at a time: a source may have millions."""

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING

from sqlalchemy import Engine, LargeBinary, bindparam, func, select, type_coerce

from tasks.archive.database import LOOKUP_ROWS, chunks
from tasks.archive.vault_files import KNOWN_COLUMNS, OUTCOMES, FileSeen, KnownFile
from tasks.archive.vault_tables import files, folders, sources

if TYPE_CHECKING:
    import sqlite3

FOLDERS_KEPT = 8
"""Folders whose files stay in memory: a walk goes down into one and comes back to the others."""

_NOTHING: Mapping = MappingProxyType({})

_OF_FOLDER = (folders.c.source_id == bindparam("source"), folders.c.path == bindparam("folder"))

# Names without their columns' conversion, which would cost more than the query.
_SETTLED = (
    select(type_coerce(files.c.name, LargeBinary), files.c.size, files.c.mtime_ns)
    .join_from(files, folders)
    .where(
        *_OF_FOLDER,
        type_coerce(files.c.member, LargeBinary) == b"",
        files.c.outcome != OUTCOMES.index("quarantine"),
    )
)

_ALL = select(*KNOWN_COLUMNS).join_from(files, folders).where(*_OF_FOLDER)


class KnownFiles:
    """The files of a source as they were known when an intake began.

    Parameters
    ----------
    vault : Engine
    alias : str
    """

    def __init__(self, vault: Engine, alias: str) -> None:
        self._vault = vault
        self._driver: sqlite3.Connection | None = None
        self._folders: OrderedDict[str, Mapping[tuple[str, str], KnownFile]] = OrderedDict()
        with vault.connect() as connection:
            query = select(sources.c.id).where(sources.c.alias == alias)
            self._source = connection.scalar(query)
            of_source = select(func.count(), func.max(files.c.id)).join_from(files, folders)
            row = connection.execute(of_source.where(folders.c.source_id == self._source)).one()
        self.count: int = row[0]
        """Files known before."""
        self.newest: int = row[1] or 0
        """The newest of their locators: a larger one was made in this run."""

    @contextmanager
    def walking(self) -> Iterator[None]:
        """Keep one connection for the many folders of a walk.

        On SQLite the driver is asked itself, outside of any transaction: opening one for each
        folder costs as much as looking at its files, and one for the whole walk would keep SQLite
        from ever emptying its log.
        """
        if self._vault.dialect.name != "sqlite" or not self.count:
            yield
            return
        compiled = _SETTLED.compile(dialect=self._vault.dialect)
        self._text, self._names = str(compiled), compiled.positiontup
        self._parameters = {**compiled.params, "source": self._source}
        connection = self._vault.raw_connection()
        try:
            self._driver = connection.driver_connection
            yield
        finally:
            self._driver = None
            connection.close()

    def settled(self, folder: str) -> Mapping[bytes, tuple[int, int]]:
        """Return the files of a folder that need no reading while size and time stay the same.

        Returns
        -------
        mapping
            Name as bytes -> (size, modification time in ns). Files in quarantine are not among
            them, since they are counted apart and may be tried again, nor are members of archives.
        """
        if not self.count:
            return _NOTHING
        if self._driver is not None:
            self._parameters["folder"] = folder.encode("utf-8", "surrogateescape")
            ordered = [self._parameters[name] for name in self._names]
            rows = self._driver.execute(self._text, ordered).fetchall()
            return {name: (size, mtime_ns) for name, size, mtime_ns in rows}
        with self._vault.connect() as connection:
            found = connection.execute(_SETTLED, {"source": self._source, "folder": folder})
            return {bytes(name): (size, mtime_ns) for name, size, mtime_ns in found.all()}

    def get(self, path: str, member: str) -> KnownFile | None:
        """Return what is known of a file, or None."""
        if not self.count:
            return None
        folder, _, name = path.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = self._all_of(folder)
            if len(self._folders) > FOLDERS_KEPT:
                self._folders.popitem(last=False)
        self._folders.move_to_end(folder)
        return self._folders[folder].get((name, member))

    def _all_of(self, folder: str) -> Mapping[tuple[str, str], KnownFile]:
        with self._vault.connect() as connection:
            found = connection.execute(_ALL, {"source": self._source, "folder": folder})
            return {
                (name, member): KnownFile(locator, size, mtime_ns, OUTCOMES[outcome], bytes(digest))
                for name, member, locator, size, mtime_ns, outcome, digest in found.all()
            }


def files_of(vault: Engine, alias: str, locators: Collection[int]) -> dict[int, FileSeen]:
    """Return the files of a source with these locators as they were recorded last."""
    columns = (
        files.c.id,
        folders.c.path,
        files.c.name,
        files.c.member,
        files.c.size,
        files.c.mtime_ns,
        files.c.digest,
        files.c.outcome,
    )
    query = select(*columns).join_from(files, folders).join(sources)
    found = {}
    with vault.connect() as connection:
        for chunk in chunks(sorted(locators), LOOKUP_ROWS):
            rows = connection.execute(query.where(files.c.id.in_(chunk), sources.c.alias == alias))
            for locator, folder, name, member, size, mtime_ns, digest, outcome in rows:
                path = f"{folder}/{name}" if folder else name
                found[locator] = FileSeen(
                    path, member, size, mtime_ns, bytes(digest), OUTCOMES[outcome]
                )
    return found
