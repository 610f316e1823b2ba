"""Tables of the vault: a database of its own, because what they hold is identified."""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator

from tasks.archive.tables import Key16, RowId, catalog_metadata


class FileName(TypeDecorator):
    """A name in a file system as its bytes: it need not be UTF-8 (PEP 383 surrogates)."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | bytes | None, dialect: object) -> bytes | None:
        return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value

    def process_result_value(self, value: bytes | None, dialect: object) -> str | None:
        return None if value is None else bytes(value).decode("utf-8", "surrogateescape")


vault_metadata = MetaData(naming_convention=catalog_metadata.naming_convention)

secrets = Table(
    "secrets",
    vault_metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

sources = Table(
    "sources",
    vault_metadata,
    Column("id", RowId, primary_key=True),
    Column("alias", Text, nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("location", FileName, nullable=False),
)

folders = Table(
    "folders",
    vault_metadata,
    Column("id", RowId, primary_key=True),
    Column("source_id", RowId, ForeignKey("sources.id"), nullable=False),
    Column("path", FileName, nullable=False),
    UniqueConstraint("source_id", "path"),
)

files = Table(
    "files",
    vault_metadata,
    Column("id", RowId, primary_key=True),
    Column("folder_id", RowId, ForeignKey("folders.id"), nullable=False),
    Column("name", FileName, nullable=False),
    Column("member", FileName, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("outcome", SmallInteger, nullable=False),
    UniqueConstraint("folder_id", "name", "member"),
)

identities = Table(
    "identities",
    vault_metadata,
    Column("kind", Text, primary_key=True),
    Column("key", Key16, primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)
