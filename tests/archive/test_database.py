"""Opening a catalog or a vault: migrated, locked, refused where it must be."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, select, text

from tasks.archive import database, tables
from tasks.archive.catalog import (
    CATALOG,
    open_catalog,
)
from tasks.archive.database import alembic_config, writing
from tasks.archive.vault import VAULT, open_vault
from tasks.archive.vault_tables import vault_metadata
from tasks.errors import RadloopError

OPEN_LIMIT_S = 0.050
"""Opening a catalog that is up to date, after the imports."""


class TestOpen:
    @pytest.mark.parametrize("name", ["catalog", "vault"])
    def test_migrated_schema_is_the_schema_of_the_code(self, empty_url: str, name: str) -> None:
        opener, metadata = {
            "catalog": (open_catalog, tables.catalog_metadata),
            "vault": (open_vault, vault_metadata),
        }[name]
        engine = opener(empty_url)
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, metadata) == []
            assert context.get_current_revision() == {"catalog": CATALOG, "vault": VAULT}[name].head
        engine.dispose()

    @pytest.mark.parametrize("kind", [CATALOG, VAULT], ids=lambda kind: kind.name)
    def test_head_in_the_code_is_the_newest_migration(self, kind: database.DatabaseKind) -> None:
        assert ScriptDirectory.from_config(alembic_config(kind)).get_heads() == [kind.head]

    def test_migrations_go_back_to_nothing(self, empty_url: str) -> None:
        from alembic import command

        engine = open_catalog(empty_url)
        config = alembic_config(CATALOG)
        with writing(engine) as connection:
            config.attributes["connection"] = connection
            command.downgrade(config, "base")
        with engine.connect() as connection:
            context = MigrationContext.configure(connection)
            wanted = len(compare_metadata(context, tables.catalog_metadata))
        assert wanted >= len(tables.catalog_metadata.tables)
        engine.dispose()

    def test_catalog_of_the_first_release_is_brought_up_to_date_with_its_rows(
        self, empty_url: str
    ) -> None:
        from alembic import command

        engine = open_catalog(empty_url)
        config = alembic_config(CATALOG)
        with writing(engine) as connection:
            config.attributes["connection"] = connection
            command.downgrade(config, "0001")
            connection.execute(
                tables.recipes.insert(),
                {"recipe_id": "a" * 32, "body": "{}", "fitted_on": "", "at": "2026-11-01"},
            )
        engine.dispose()
        engine = open_catalog(empty_url)
        with engine.connect() as connection:
            assert connection.scalars(select(tables.recipes.c.recipe_id)).all() == ["a" * 32]
            assert connection.execute(select(tables.feature_rows)).all() == []
        engine.dispose()

    def test_up_to_date_catalog_opens_at_once(self, catalog_url: str) -> None:
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            engine = open_catalog(catalog_url)
            seconds.append(time.perf_counter() - start)
            engine.dispose()
        assert min(seconds) < OPEN_LIMIT_S

    def test_up_to_date_catalog_opens_without_alembic(self, sqlite_catalog: Engine) -> None:
        code = (
            "import sys\nfrom tasks.archive.catalog import open_catalog\n"
            "open_catalog(sys.argv[1]).dispose()\nprint('alembic' in sys.modules)"
        )
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run(
            [sys.executable, "-c", code, str(sqlite_catalog.url)],
            capture_output=True,
            text=True,
            check=True,
            cwd=root,
        )
        assert done.stdout.strip() == "False"

    def test_two_processes_that_open_an_empty_database_both_get_it(self, empty_url: str) -> None:
        errors: list[BaseException] = []

        def opening() -> None:
            try:
                open_catalog(empty_url).dispose()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=opening) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []

    def test_catalog_of_a_newer_release_is_refused(self, catalog: Engine, catalog_url: str) -> None:
        with writing(catalog) as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        try:
            with pytest.raises(RadloopError, match="newer radloop"):
                open_catalog(catalog_url)
        finally:
            with writing(catalog) as connection:
                connection.execute(
                    text("UPDATE alembic_version SET version_num = :head"), {"head": CATALOG.head}
                )

    def test_file_that_is_no_database_is_one_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "catalog.db").write_bytes(b"not a database at all, whatever its name" * 50)
        with pytest.raises(RadloopError, match="RADLOOP_CATALOG_URL"):
            open_catalog(f"sqlite:///{tmp_path}/catalog.db")

    @pytest.mark.parametrize(
        ("url", "says"), [("mysql://u@h/d", "mysql"), ("sqlite://", "without a file")]
    )
    def test_other_databases_are_refused(self, url: str, says: str) -> None:
        with pytest.raises(ValueError, match=says):
            open_catalog(url)

    def test_sqlite_is_set_as_designed(self, sqlite_catalog: Engine) -> None:
        with sqlite_catalog.connect() as connection:
            found = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }
        assert found == {
            "journal_mode": "wal",
            "synchronous": 1,
            "foreign_keys": 1,
            "busy_timeout": database.BUSY_TIMEOUT_MS,
        }
