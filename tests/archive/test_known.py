"""Known files, a folder at a time: what is settled, what is not, what was there before."""

from contextlib import nullcontext
from dataclasses import replace

import pytest

from tasks.archive.known import FOLDERS_KEPT, KnownFiles, files_of
from tasks.archive.sources import Source
from tasks.archive.vault import put_source
from tasks.archive.vault_files import FileSeen, put_files

DIGEST = bytes(range(16))


def _seen(path: str, outcome: str = "instance", member: str = "", size: int = 5) -> FileSeen:
    return FileSeen(path, member, size, 1_700_000_000_123_456_789, DIGEST, outcome)


@pytest.fixture
def recorded(vault) -> dict[str, int]:
    """Locators by path of two sources' files."""
    for alias in ("here", "there"):
        put_source(vault, Source(alias, "folder", f"/{alias}"))
    seen = [
        _seen("a/1"),
        _seen("a/2", "ignored"),
        _seen("a/3", "quarantine"),
        _seen("a/4.zip", member="x"),
        _seen("a/b/1", "duplicate"),
        _seen("top", "label"),
        _seen("a/caf\udce9"),
    ]
    paths = [one.path for one in seen]
    put_files(vault, "there", [_seen("a/other")])
    return dict(zip(paths, put_files(vault, "here", seen), strict=True))


@pytest.mark.parametrize("walking", [False, True])
def test_settled_files_are_those_that_need_no_reading(vault, recorded, walking):
    known = KnownFiles(vault, "here")
    with known.walking() if walking else nullcontext():
        assert set(known.settled("a")) == {b"1", b"2", b"caf\xe9"}
        assert known.settled("a")[b"1"] == (5, 1_700_000_000_123_456_789)
        assert set(known.settled("")) == {b"top"}
        assert set(known.settled("a/b")) == {b"1"}
        assert known.settled("nowhere") == {}
        # Others may write meanwhile, and what they wrote is seen.
        put_files(vault, "here", [_seen("new/1")])
        assert set(known.settled("new")) == {b"1"}


def test_a_file_is_found_by_path_and_member(vault, recorded):
    known = KnownFiles(vault, "here")
    found = known.get("a/4.zip", "x")
    assert (found.locator, found.outcome, found.digest) == (recorded["a/4.zip"], "instance", DIGEST)
    assert known.get("a/3", "").outcome == "quarantine"
    assert known.get("top", "").locator == recorded["top"]
    assert known.get("a/caf\udce9", "").locator == recorded["a/caf\udce9"]
    assert known.get("a/4.zip", "") is known.get("a/other", "") is known.get("z/1", "") is None


def test_what_was_there_before_is_counted_and_told_from_what_comes(vault, recorded):
    known = KnownFiles(vault, "here")
    assert (known.count, known.newest) == (7, max(recorded.values()))
    (fresh,) = put_files(vault, "here", [_seen("a/9")])
    assert fresh > known.newest
    empty = KnownFiles(vault, "nobody")
    assert (empty.count, empty.newest, empty.settled("a"), empty.get("a/1", "")) == (0, 0, {}, None)


def test_many_folders_are_answered_right_with_few_in_memory(vault, recorded):
    paths = [f"f{n}/1" for n in range(FOLDERS_KEPT * 3)]
    locators = put_files(vault, "here", [_seen(path) for path in paths])
    known = KnownFiles(vault, "here")
    for _ in range(2):
        assert [known.get(path, "").locator for path in paths] == locators
    assert len(known._folders) == FOLDERS_KEPT


def test_files_of_locators_are_as_recorded_last(vault, recorded):
    (other,) = put_files(vault, "there", [_seen("a/other")])
    again = replace(_seen("a/1"), outcome="quarantine", size=7)
    put_files(vault, "here", [again])
    found = files_of(vault, "here", {recorded["a/1"], recorded["top"], other})
    assert found == {recorded["a/1"]: again, recorded["top"]: _seen("top", "label")}
