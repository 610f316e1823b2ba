"""The vault: project key, places of sources, and the way back from keys to identities.

A database of its own, because everything in it is identified: nothing here leaves `archive` and
`labels` except locators (row numbers of files) and `FileRef`s inside sealed work orders.
"""

import secrets as random_source
from collections.abc import Iterable

from sqlalchemy import Connection, Engine, Row, select

from tasks.archive.database import (
    LOOKUP_ROWS,
    DatabaseKind,
    chunks,
    insert,
    open_database,
    writing,
)
from tasks.archive.sources import Source
from tasks.archive.vault_tables import identities, secrets, sources

VAULT = DatabaseKind(
    name="vault", head="0001", setting="RADLOOP_VAULT_URL", synchronous="FULL", private=True
)

PROJECT_KEY_BYTES = 32
"""As long as the output of SHA-256, the hash under the pseudonyms (RFC 2104 section 3)."""


def open_vault(url: str) -> Engine:
    """Open the vault, making or migrating it; an SQLite file is kept at mode 0600.

    Raises
    ------
    RadloopError, PermissionError, ValueError
        As `tasks.archive.database.open_database`.
    """
    return open_database(url, VAULT)


def project_key(vault: Engine) -> bytes:
    """Return the 32 bytes under all pseudonyms of this project, made at the first call."""
    with vault.connect() as connection:
        found = connection.execute(select(secrets.c.value).filter_by(name="project")).scalar()
    if found is None:
        with writing(vault) as connection:
            fresh = {"name": "project", "value": random_source.token_bytes(PROJECT_KEY_BYTES)}
            # Of two first callers one wins, and both read what it wrote.
            connection.execute(insert(connection, secrets).on_conflict_do_nothing(), fresh)
            found = connection.execute(select(secrets.c.value).filter_by(name="project")).scalar()
    return bytes(found)


def put_source(vault: Engine, source: Source) -> None:
    """Register a source under its alias, or point the alias at the place it moved to.

    Raises
    ------
    ValueError
        The alias stands for a source of another kind.
    """
    with writing(vault) as connection:
        found = source_row(connection, source.alias)
        if found and found.kind != source.kind:
            raise ValueError(
                f"The alias {source.alias!r} stands for a {found.kind}, not a {source.kind}: give "
                "the new place an alias of its own."
            )
        statement = insert(connection, sources)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["alias"], set_={"location": statement.excluded.location}
            ),
            {"alias": source.alias, "kind": source.kind, "location": source.location},
        )


def get_source(vault: Engine, alias: str) -> Source:
    """Return the source of an alias.

    Raises
    ------
    KeyError
        No source has this alias.
    """
    with vault.connect() as connection:
        found = source_row(connection, alias)
    if found is None:
        raise KeyError(f"no source has the alias {alias!r}: see `radloop source list`")
    return Source(found.alias, found.kind, found.location)


def list_sources(vault: Engine) -> list[Source]:
    """Return all sources by alias."""
    with vault.connect() as connection:
        rows = connection.execute(select(sources).order_by(sources.c.alias)).all()
    return [Source(row.alias, row.kind, row.location) for row in rows]


def source_row(connection: Connection, alias: str) -> Row | None:
    """Return the row of a source, None where there is no such alias."""
    return connection.execute(select(sources).filter_by(alias=alias)).one_or_none()


def remember(vault: Engine, rows: Iterable[tuple[str, str, str]]) -> None:
    """Keep the way back: (kind, key, value) with the key as 32 hexadecimal characters."""
    unique = {(kind, key): value for kind, key, value in rows}
    if not unique:
        return
    with writing(vault) as connection:
        statement = insert(connection, identities)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["kind", "key"], set_={"value": statement.excluded.value}
            ),
            [
                {"kind": kind, "key": key, "value": value}
                for (kind, key), value in sorted(unique.items())
            ],
        )


def recall(vault: Engine, kind: str, key: str) -> str | None:
    """Return the identity behind a key, or None."""
    with vault.connect() as connection:
        return connection.execute(select(identities.c.value).filter_by(kind=kind, key=key)).scalar()


def keys_behind(vault: Engine, kind: str, values: Iterable[str]) -> dict[str, list[str]]:
    """Return value -> keys of every identity of a kind that has one of these values."""
    found: dict[str, list[str]] = {}
    with vault.connect() as connection:
        for chunk in chunks(sorted(set(values)), LOOKUP_ROWS):
            query = select(identities.c.value, identities.c.key).where(
                identities.c.kind == kind, identities.c.value.in_(chunk)
            )
            for value, key in connection.execute(query.order_by(identities.c.key)):
                found.setdefault(value, []).append(key)
    return found
