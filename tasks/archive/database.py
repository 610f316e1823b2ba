"""Open a catalog or a vault: SQLite or PostgreSQL by URL, migrated, with one way to write."""

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection, Engine, Table, create_engine, event, text
from sqlalchemy.dialects.postgresql import Insert as PostgresqlInsert
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError

from tasks.archive.mounts import NETWORK_FILE_SYSTEMS, file_system
from tasks.errors import RadloopError

if TYPE_CHECKING:
    from alembic.config import Config

BUSY_TIMEOUT_MS = 30_000
"""How long a writer waits for another: our longest transaction is a batch of a few seconds."""

LOOKUP_ROWS = 500
"""Values in one IN list: below SQLite's old limit of 999 variables."""

PRIVATE_MODE = 0o600
"""Mode of a file that can re-identify patients: its owner reads and writes, nobody else."""

MIGRATION_LOCK = 0x7261646C
"""Number of PostgreSQL's advisory lock under which one process at a time migrates ("radl")."""

T = TypeVar("T")


@dataclass(frozen=True)
class DatabaseKind:
    """What distinguishes the catalog's database from the vault's."""

    name: str
    """``catalog`` or ``vault``: also the name of its folder of migrations."""
    head: str
    """Newest revision this release knows."""
    setting: str
    """Setting that points it elsewhere, for messages."""
    synchronous: str
    """SQLite's ``synchronous`` level."""
    private: bool
    """Whether the SQLite file is kept at mode 0600."""


def open_database(url: str, kind: DatabaseKind) -> Engine:
    """Return an engine on a migrated database.

    Parameters
    ----------
    url : str
        ``sqlite:///path`` or ``postgresql://…`` (driver psycopg2).
    kind : DatabaseKind
        Which of radloop's databases it is.

    Raises
    ------
    ValueError
        The URL names another database, or SQLite without a file.
    RadloopError
        SQLite on a network file system, a database of a newer release, or one that does not answer.
    PermissionError
        A private file that others can read and that cannot be made private.
    """
    parsed = _checked_url(url, kind)
    if parsed.get_backend_name() == "sqlite":
        path = Path(str(parsed.database))
        _prepare_file(path, kind)
        engine = create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000})
        _configure_sqlite(engine, kind)
    else:
        engine = create_engine(parsed, pool_pre_ping=True, executemany_mode="values_plus_batch")
    try:
        _migrate_when_behind(engine, kind)
        if parsed.get_backend_name() == "sqlite" and kind.private:
            _make_private(Path(str(parsed.database)), kind)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextlib.contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Give a connection in one transaction that holds the right to write from its first statement.

    SQLite would otherwise start with a read lock and fail, without waiting, when it is raised
    after somebody else has written.
    """
    with engine.connect().execution_options(radloop_write=True) as connection, connection.begin():
        yield connection


def insert(connection: Connection, table: Table) -> SqliteInsert | PostgresqlInsert:
    """Return the INSERT of the connection's dialect: only these have ON CONFLICT."""
    make = SqliteInsert if connection.dialect.name == "sqlite" else PostgresqlInsert
    return make(table)


def chunks(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Cut a sequence into pieces of at most ``size``."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def now() -> str:
    """Return the time for a row: UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _checked_url(url: str, kind: DatabaseKind) -> URL:
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend not in ("sqlite", "postgresql"):
        raise ValueError(
            f"{kind.setting} names a {backend} database, but the {kind.name} lives in SQLite or "
            "PostgreSQL: give sqlite:///PATH or postgresql://USER@HOST/NAME."
        )
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ValueError(
            f"{kind.setting} names SQLite without a file, but the {kind.name} must outlive the "
            "process: give sqlite:///PATH."
        )
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg2")
    return parsed


def _prepare_file(path: Path, kind: DatabaseKind) -> None:
    found = file_system(path.absolute().parent.resolve() / path.name)
    if found in NETWORK_FILE_SYSTEMS:
        raise RadloopError(
            f"The {kind.name} would be an SQLite file on a network file system ({found}), where "
            f"its locks do not hold: set {kind.setting} to a postgresql:// URL or to a file on a "
            "local disk."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    if not kind.private:
        return
    if path.exists():
        _make_private(path, kind)
    else:
        # Made here, because SQLite would make it under the umask; -wal and -shm take its mode.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, PRIVATE_MODE))


def _make_private(path: Path, kind: DatabaseKind) -> None:
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        file = path.with_name(name)
        try:
            mode = stat.S_IMODE(file.stat().st_mode)
            if mode & ~PRIVATE_MODE:
                file.chmod(PRIVATE_MODE)
        except FileNotFoundError:
            continue
        except PermissionError as error:
            raise PermissionError(
                f"The {kind.name} has mode {mode:04o}, its limit is {PRIVATE_MODE:04o}, and this "
                f"user may not change it: let its owner run chmod 600, or set {kind.setting}."
            ) from error


def _configure_sqlite(engine: Engine, kind: DatabaseKind) -> None:
    @event.listens_for(engine, "connect")
    def _on_connect(connection: object, _record: object) -> None:
        # We begin transactions ourselves (below); the driver would begin only before a write.
        connection.isolation_level = None  # type: ignore[attr-defined]
        for pragma in (
            f"busy_timeout = {BUSY_TIMEOUT_MS}",
            "journal_mode = WAL",
            f"synchronous = {kind.synchronous}",
            "foreign_keys = ON",
            "cache_size = -65536",
        ):
            connection.execute(f"PRAGMA {pragma}").close()  # type: ignore[attr-defined]

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("radloop_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _revision(connection: Connection) -> str | None:
    try:
        with connection.begin():
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except DBAPIError as error:
        if error.connection_invalidated or not _says_missing_table(error):
            raise
        return None


def _says_missing_table(error: DBAPIError) -> bool:
    said = str(error.orig).lower()
    return "no such table" in said or getattr(error.orig, "pgcode", "") == "42P01"


def _migrate_when_behind(engine: Engine, kind: DatabaseKind) -> None:
    try:
        with engine.connect() as connection:
            found = _revision(connection)
    except DBAPIError as error:
        # Only the first line: drivers append hints and the statement.
        reason = (str(error.orig).strip().splitlines() or ["no reason given"])[0]
        raise RadloopError(
            f"The {kind.name} does not answer ({reason}): see {kind.setting}, and that its server "
            "runs and its file is an intact SQLite database."
        ) from error
    if found != kind.head:
        _migrate(engine, kind)


def _migrate(engine: Engine, kind: DatabaseKind) -> None:
    # Imported here: a catalog that is up to date never needs Alembic.
    from alembic import command
    from alembic.script import ScriptDirectory
    from alembic.util.exc import CommandError

    with writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": MIGRATION_LOCK})
        config = alembic_config(kind)
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            head = ScriptDirectory.from_config(config).get_current_head()
            raise RadloopError(
                f"The {kind.name} cannot be brought to revision {head}: {error}. When it was made "
                "by a newer radloop, use that one."
            ) from error


def alembic_config(kind: DatabaseKind) -> "Config":
    """Return Alembic's configuration of a database: made in code, no file and no logging."""
    from alembic.config import Config

    folder = Path(__file__).with_name("migrations") / kind.name
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config
