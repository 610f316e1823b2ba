"""A fresh catalog and vault per test, on SQLite and on a real PostgreSQL."""

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, create_engine, make_url, text

from tasks.archive.catalog import open_catalog
from tasks.archive.commits import put_recipe, want_cases
from tasks.archive.tables import catalog_metadata
from tasks.archive.vault import open_vault
from tasks.archive.vault_tables import vault_metadata
from tests.archive.made_rows import CASES, RECIPE, key

BACKENDS = ("sqlite", "postgresql")
CATALOG_NAME, VAULT_NAME, EMPTY_NAME = "catalog_test", "vault_test", "empty_test"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of a PostgreSQL server in a folder of its own, up for the session."""
    # Not below pytest's folder: PostgreSQL refuses root and runs as a user who may not enter it.
    folder = Path(tempfile.mkdtemp(prefix="radloop-postgresql-"))
    try:
        with warnings.catch_warnings():
            # platformdirs, which pgserver asks for a folder, warns without XDG_RUNTIME_DIR.
            warnings.simplefilter("ignore")
            import pgserver

            server = pgserver.get_server(folder / "data")
    except Exception as error:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(
            f"PostgreSQL did not start ({type(error).__name__}): `pip install 'radloop[dev]'` "
            "brings pgserver; it needs a local disk and a user it may run as"
        )
    engine = create_engine(_psycopg2(server.get_uri()), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        # Nothing in it has to outlive the tests.
        connection.execute(text("ALTER SYSTEM SET fsync = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    engine.dispose()
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def _psycopg2(url: str) -> URL:
    return make_url(url).set(drivername="postgresql+psycopg2")


@dataclass(frozen=True)
class Prepared:
    """Databases migrated once; tests get copies (SQLite) or emptied ones (PostgreSQL)."""

    catalog_url: str
    vault_url: str
    catalog: Engine
    vault: Engine


def create_database(server: str, name: str) -> str:
    """Make a database anew and return its URL."""
    engine = create_engine(_psycopg2(server), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'DROP DATABASE IF EXISTS "{name}"'))
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    engine.dispose()
    return make_url(server).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def prepared_postgresql(postgresql: str) -> Iterator[Prepared]:
    catalog_url = create_database(postgresql, CATALOG_NAME)
    vault_url = create_database(postgresql, VAULT_NAME)
    made = Prepared(catalog_url, vault_url, open_catalog(catalog_url), open_vault(vault_url))
    yield made
    made.catalog.dispose()
    made.vault.dispose()


@pytest.fixture(scope="session")
def prepared_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    open_catalog(f"sqlite:///{folder}/catalog.db").dispose()
    open_vault(f"sqlite:///{folder}/vault.db").dispose()
    return folder


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def catalog_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty, migrated catalog."""
    if backend == "sqlite":
        prepared = request.getfixturevalue("prepared_sqlite")
        shutil.copy(prepared / "catalog.db", tmp_path / "catalog.db")
        return f"sqlite:///{tmp_path}/catalog.db"
    prepared = request.getfixturevalue("prepared_postgresql")
    _empty(prepared.catalog, catalog_metadata.sorted_tables)
    return prepared.catalog_url


@pytest.fixture
def vault_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty, migrated vault."""
    if backend == "sqlite":
        prepared = request.getfixturevalue("prepared_sqlite")
        shutil.copy(prepared / "vault.db", tmp_path / "vault.db")
        return f"sqlite:///{tmp_path}/vault.db"
    prepared = request.getfixturevalue("prepared_postgresql")
    _empty(prepared.vault, vault_metadata.sorted_tables)
    return prepared.vault_url


@pytest.fixture
def catalog(catalog_url: str) -> Iterator[Engine]:
    engine = open_catalog(catalog_url)
    yield engine
    engine.dispose()


@pytest.fixture
def vault(vault_url: str) -> Iterator[Engine]:
    engine = open_vault(vault_url)
    yield engine
    engine.dispose()


@pytest.fixture
def empty_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database with nothing in it."""
    if backend == "sqlite":
        return f"sqlite:///{tmp_path}/empty.db"
    return create_database(request.getfixturevalue("postgresql"), EMPTY_NAME)


@pytest.fixture
def sqlite_catalog(prepared_sqlite: Path, tmp_path: Path) -> Iterator[Engine]:
    """A catalog for what only SQLite can show or where one database is enough."""
    shutil.copy(prepared_sqlite / "catalog.db", tmp_path / "only.db")
    engine = open_catalog(f"sqlite:///{tmp_path}/only.db")
    yield engine
    engine.dispose()


def _empty(engine: Engine, tables: list) -> None:
    with engine.begin() as connection:
        for table in reversed(tables):
            connection.execute(table.delete())


@pytest.fixture
def wanted(catalog: Engine) -> Engine:
    put_recipe(catalog, RECIPE, "chest-xray", {"steps": [{"step": "window"}]}, key("fit"))
    want_cases(catalog, RECIPE, CASES)
    return catalog
