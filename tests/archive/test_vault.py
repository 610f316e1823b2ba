"""The vault: private files, locators that stay, folders once, and the way back."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, func, select

from tasks.archive import database
from tasks.archive.sources import FileRef, Source
from tasks.archive.vault import (
    get_source,
    list_sources,
    open_vault,
    project_key,
    put_source,
    recall,
    remember,
)
from tasks.archive.vault_files import FileSeen, file_refs, known_files, put_files
from tasks.archive.vault_tables import files, folders


def seen(path: str, member: str = "", *, size: int = 10, outcome: str = "instance") -> FileSeen:
    return FileSeen(path, member, size, 1_700_000_000_000_000_001, bytes(range(16)), outcome)


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(file.stat().st_mode) for file in folder.glob("vault.db*")}


class TestPrivacy:
    def test_all_its_files_are_private_whatever_the_umask(self, tmp_path: Path) -> None:
        old = os.umask(0)
        try:
            vault = open_vault(f"sqlite:///{tmp_path}/vault.db")
            project_key(vault)
            names = {file.name for file in tmp_path.glob("vault.db*")}
            assert names == {"vault.db", "vault.db-wal", "vault.db-shm"}
            assert modes(tmp_path) == {0o600}
            vault.dispose()
        finally:
            os.umask(old)

    def test_wider_mode_is_tightened_on_open(self, tmp_path: Path) -> None:
        open_vault(f"sqlite:///{tmp_path}/vault.db").dispose()
        (tmp_path / "vault.db").chmod(0o644)
        open_vault(f"sqlite:///{tmp_path}/vault.db").dispose()
        assert modes(tmp_path) == {0o600}

    def test_wider_mode_that_cannot_be_tightened_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = f"sqlite:///{tmp_path}/vault.db"
        open_vault(url).dispose()
        (tmp_path / "vault.db").chmod(0o664)

        def not_the_owner(*_: object, **__: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(database.Path, "chmod", not_the_owner)
        with pytest.raises(PermissionError, match=r"mode 0664.*0600.*chmod 600"):
            open_vault(url)

    def test_writes_reach_the_disk_before_they_count(self, tmp_path: Path) -> None:
        vault = open_vault(f"sqlite:///{tmp_path}/vault.db")
        with vault.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        vault.dispose()


def test_project_key_is_made_once(vault: Engine, vault_url: str) -> None:
    key = project_key(vault)
    assert len(key) == 32
    assert project_key(vault) == key
    again = open_vault(vault_url)
    assert project_key(again) == key
    again.dispose()


class TestSources:
    def test_alias_finds_the_place_it_moved_to(self, vault: Engine) -> None:
        put_source(vault, Source("b", "folder", "/old"))
        put_source(vault, Source("a", "table", "/t.csv"))
        put_source(vault, Source("b", "folder", "/new"))
        assert get_source(vault, "b") == Source("b", "folder", "/new")
        assert [source.alias for source in list_sources(vault)] == ["a", "b"]

    def test_alias_keeps_its_kind(self, vault: Engine) -> None:
        put_source(vault, Source("a", "folder", "/x"))
        with pytest.raises(ValueError, match="folder, not a table"):
            put_source(vault, Source("a", "table", "/x"))

    def test_unknown_alias_is_an_error(self, vault: Engine) -> None:
        with pytest.raises(KeyError, match="radloop source list"):
            get_source(vault, "none")
        with pytest.raises(KeyError, match="none"):
            put_files(vault, "none", [seen("x")])


class TestFiles:
    @pytest.fixture
    def filled(self, vault: Engine) -> Engine:
        put_source(vault, Source("a", "folder", "/archive"))
        return vault

    def test_locators_come_in_the_given_order_and_stay(self, filled: Engine) -> None:
        batch = [seen(f"p/{i}/im.dcm") for i in (5, 3, 9, 1)]
        first = put_files(filled, "a", batch)
        assert len(set(first)) == 4
        assert put_files(filled, "a", batch[::-1]) == first[::-1]
        assert put_files(filled, "a", [batch[1], seen("new"), batch[1]])[::2] == [first[1]] * 2

    def test_what_was_seen_last_is_what_is_known(self, filled: Engine) -> None:
        (locator,) = put_files(filled, "a", [seen("x/im.dcm", size=1)])
        put_files(filled, "a", [seen("x/im.dcm", size=2, outcome="quarantine")])
        known = known_files(filled, "a")
        assert known.keys() == {("x/im.dcm", "")}
        found = known["x/im.dcm", ""]
        assert (found.locator, found.size, found.outcome) == (locator, 2, "quarantine")
        assert found.mtime_ns == 1_700_000_000_000_000_001
        assert found.digest == bytes(range(16))

    def test_folder_names_are_stored_once(self, filled: Engine) -> None:
        put_files(filled, "a", [seen(f"long/folder/name/{i}.dcm") for i in range(50)])
        put_files(filled, "a", [seen(f"long/folder/name/{i}.dcm") for i in range(50, 60)])
        with filled.connect() as connection:
            assert connection.scalar(select(func.count()).select_from(folders)) == 1
            assert connection.scalar(select(func.count()).select_from(files)) == 60

    def test_references_are_absolute(self, filled: Engine) -> None:
        put_source(filled, Source("zip", "archive", "/drop/all.zip"))
        batch = put_files(filled, "a", [seen("p/im.dcm"), seen("top.dcm")])
        member = put_files(filled, "zip", [seen("", "inside/im.dcm")])
        refs = file_refs(filled, [*batch, *member, batch[0]])
        digest = bytes(range(16)).hex()
        assert refs == {
            batch[0]: FileRef("/archive/p/im.dcm", None, digest, 10),
            batch[1]: FileRef("/archive/top.dcm", None, digest, 10),
            member[0]: FileRef("/drop/all.zip", "inside/im.dcm", digest, 10),
        }
        assert list(known_files(filled, "zip")) == [("", "inside/im.dcm")]

    def test_sources_do_not_mix(self, filled: Engine) -> None:
        put_source(filled, Source("b", "folder", "/other"))
        one, other = put_files(filled, "a", [seen("x")]), put_files(filled, "b", [seen("x")])
        assert one != other
        assert len(known_files(filled, "a")) == 1

    def test_unknown_locator_is_an_error(self, filled: Engine) -> None:
        with pytest.raises(KeyError, match="no file 12345"):
            file_refs(filled, [12345])

    @pytest.mark.parametrize("outcome", ["", "lost"])
    def test_unknown_outcome_is_refused(self, filled: Engine, outcome: str) -> None:
        with pytest.raises(ValueError, match="quarantine"):
            put_files(filled, "a", [seen("x", outcome=outcome)])

    def test_nothing_is_nothing(self, filled: Engine) -> None:
        assert put_files(filled, "a", []) == []
        assert file_refs(filled, []) == {}

    @settings(
        max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(
        names=st.lists(
            st.binary(min_size=1, max_size=12).filter(
                # What no folder can hold: a NUL, a slash, and the names of itself and its parent.
                lambda name: not set(name) & {0, 0x2F} and name not in (b".", b"..")
            ),
            min_size=1,
            max_size=4,
        )
    )
    def test_any_file_name_comes_back(self, filled: Engine, names: list[bytes]) -> None:
        path = "/".join(os.fsdecode(name) for name in names)
        (locator,) = put_files(filled, "a", [seen(path)])
        assert known_files(filled, "a")[path, ""].locator == locator
        found = file_refs(filled, [locator])[locator].path
        assert os.fsencode(found) == os.fsencode(os.path.join("/archive", path))


def test_way_back(vault: Engine) -> None:
    remember(vault, [("patient", "ab" * 16, "DOE^JANE"), ("study", "ab" * 16, "1.2.3")])
    remember(vault, [("patient", "ab" * 16, "DOE^JANE")])
    assert recall(vault, "patient", "ab" * 16) == "DOE^JANE"
    assert recall(vault, "study", "ab" * 16) == "1.2.3"
    assert recall(vault, "series", "ab" * 16) is None
    remember(vault, [])
