"""Tables of the catalog; they hold pseudonyms and opaque ids only."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.types import TypeDecorator, TypeEngine

from tasks.archive.kept import FACT_TYPES

ID = String(32)
"""Keys and ids: 32 hexadecimal characters, readable where rows are few."""


class Key16(TypeDecorator):
    """A key or digest of 32 hexadecimal characters kept as its 16 bytes, where rows are many."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | bytes | None, dialect: object) -> bytes | None:
        return bytes.fromhex(value) if isinstance(value, str) else value

    def process_result_value(self, value: bytes | None, dialect: object) -> str | None:
        return None if value is None else bytes(value).hex()


RowId = BigInteger().with_variant(Integer(), "sqlite")
"""Row number: SQLite only counts up columns that are declared INTEGER."""

_COLUMN_TYPES: dict[type, TypeEngine] = {
    str: Text(),
    float: Double(),
    int: Integer(),
    bool: Boolean(),
}

catalog_metadata = metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

series = Table(
    "series",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("series_key", ID, nullable=False, unique=True),
    Column("study_key", ID, nullable=False, index=True),
    Column("patient_key", ID, nullable=False, index=True),
    Column("accession_key", ID, index=True),
    Column("kind", String(8), nullable=False),
    Column("source", Text, nullable=False),
    Column("series_version", ID, nullable=False),
    Column("case_id", ID, nullable=False, index=True),
    Column("n_instances", Integer, nullable=False),
    # Smallest SOP key of the row that gave the facts: makes them independent of the order.
    Column("facts_from", Key16, nullable=False),
    *(Column(name, _COLUMN_TYPES[kind]) for name, kind in FACT_TYPES.items()),
)

instances = Table(
    "instances",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("series_id", RowId, ForeignKey("series.id"), nullable=False, index=True),
    Column("sop_key", Key16, nullable=False, unique=True),
    Column("position", Double),
    Column("digest", Key16, nullable=False),
    Column("locator", BigInteger, nullable=False),
)

superseded_cases = Table(
    "superseded_cases",
    metadata,
    # A case that was wanted or stored before its series gained or lost an instance.
    Column("case_id", ID, primary_key=True),
    Column("series_key", ID, nullable=False, index=True),
    Column("patient_key", ID, nullable=False),
)

table_rows = Table(
    "table_rows",
    metadata,
    Column("case_id", ID, primary_key=True),
    Column("table_name", Text, nullable=False, index=True),
    Column("source", Text, nullable=False),
    Column("patient_key", ID, nullable=False, index=True),
    Column("facts", Text, nullable=False),
)

label_sets = Table(
    "label_sets",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("label_set_id", ID, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("n_rows", Integer, nullable=False),
)

label_set_log = Table(
    "label_set_log",
    metadata,
    # Who made which label set the newest, and when: one row each time it changed.
    Column("id", RowId, primary_key=True),
    Column("label_set", RowId, ForeignKey("label_sets.id"), nullable=False, index=True),
    Column("author", Text, nullable=False),
    Column("at", Text, nullable=False),
    Column("supersedes", ID),
)

label_rows = Table(
    "label_rows",
    metadata,
    Column("label_set", RowId, ForeignKey("label_sets.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("join", String(16), nullable=False),
    Column("key", ID, nullable=False),
    Column("value", Text),
    Column("locator", BigInteger),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("quarantine_id", ID, primary_key=True),
    Column("stage", Text, nullable=False),
    Column("reason", Text, nullable=False, index=True),
    Column("detail", Text, nullable=False),
    Column("source", Text),
    Column("locator", BigInteger),
    Column("case_id", ID, index=True),
    Column("recipe_id", ID),
    Column("at", Text, nullable=False),
)

recipes = Table(
    "recipes",
    metadata,
    Column("recipe_id", ID, primary_key=True),
    Column("body", Text, nullable=False),
    Column("fitted_on", Text, nullable=False),
    Column("at", Text, nullable=False),
)

recipe_generations = Table(
    "recipe_generations",
    metadata,
    Column("scenario", Text, primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("recipe_id", ID, ForeignKey("recipes.recipe_id"), nullable=False, index=True),
    Column("at", Text, nullable=False),
)

work = Table(
    "work",
    metadata,
    Column("recipe_id", ID, ForeignKey("recipes.recipe_id"), primary_key=True),
    Column("case_id", ID, primary_key=True, index=True),
    Column("state", String(12), nullable=False),
    CheckConstraint("state IN ('pending', 'done', 'quarantined', 'superseded')", name="state"),
)

Index(
    "ix_work_pending",
    work.c.recipe_id,
    work.c.case_id,
    sqlite_where=text("state = 'pending'"),
    postgresql_where=text("state = 'pending'"),
)

parts = Table(
    "parts",
    metadata,
    Column("part_id", ID, primary_key=True),
    Column("kind", String(8), nullable=False),
    Column("recipe_id", ID, ForeignKey("recipes.recipe_id"), nullable=False, index=True),
    Column("label_set_id", ID, ForeignKey("label_sets.label_set_id"), index=True),
    Column("image_part_id", ID, ForeignKey("parts.part_id"), index=True),
    Column("path", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
    Column("at", Text, nullable=False),
    CheckConstraint("kind IN ('image', 'label')", name="kind"),
)

part_cases = Table(
    "part_cases",
    metadata,
    Column("part_id", ID, ForeignKey("parts.part_id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("case_id", ID, nullable=False, index=True),
)

feature_columns = Table(
    "feature_columns",
    metadata,
    Column("recipe_id", ID, ForeignKey("recipes.recipe_id"), primary_key=True),
    # A JSON list; the numbers of a row stand in its order.
    Column("names", Text, nullable=False),
)

feature_rows = Table(
    "feature_rows",
    metadata,
    Column("recipe_id", ID, ForeignKey("recipes.recipe_id"), primary_key=True),
    Column("case_id", ID, primary_key=True, index=True),
    Column("numbers", LargeBinary, nullable=False),
)

assignments = Table(
    "assignments",
    metadata,
    Column("split_id", ID, primary_key=True),
    Column("patient_key", ID, primary_key=True, index=True),
    # 0, and 1 once a patient in reserve has come into a test edition.
    Column("turn", SmallInteger, primary_key=True, autoincrement=False),
    Column("side", String(8), nullable=False),
    Column("edition", Integer, nullable=False),
    Column("fold", Integer),
    Column("stratum", Text, nullable=False),
    Column("at", Text, nullable=False),
    CheckConstraint("side IN ('train', 'test', 'reserve')", name="side"),
)

editions = Table(
    "editions",
    metadata,
    Column("split_id", ID, primary_key=True),
    Column("edition", Integer, primary_key=True, autoincrement=False),
    Column("n_patients", Integer, nullable=False),
    Column("at", Text, nullable=False),
)

edition_uses = Table(
    "edition_uses",
    metadata,
    Column("split_id", ID, primary_key=True),
    Column("edition", Integer, primary_key=True, autoincrement=False),
    Column("run_id", Text, primary_key=True),
    Column("purpose", Text, primary_key=True),
    Column("at", Text, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("owner", Text),
    Column("fence", BigInteger, nullable=False),
    Column("heartbeat", Double, nullable=False),
    Column("ttl_s", Double, nullable=False),
)
