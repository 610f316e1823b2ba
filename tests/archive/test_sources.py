"""Sources: every file of the root and none outside it, archives without extracting anything."""

import contextlib
import ctypes
import hashlib
import io
import mmap
import os
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.archive import members
from tasks.archive.sources import (
    FileRef,
    Source,
    announce,
    digest_of,
    read_bytes,
    resolve_source,
)
from tasks.archive.walk import Entry, WalkNotes, walk
from tasks.errors import BadCase


def _zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def _tar(path: Path, files: dict[str, bytes]) -> Path:
    mode = "w:gz" if path.name.endswith("gz") else "w"
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def _listing(place: Path) -> dict[tuple[str, str], str | None]:
    source = resolve_source(str(place))
    return {(e.path, e.member): e.problem and e.problem.reason for e in walk(source)}


def test_the_kind_is_told_by_what_stands_there(tmp_path, shared_data):
    _zip(tmp_path / "study.zip", {"a": b"1"})
    _tar(tmp_path / "study.tgz", {"a": b"1"})
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    kinds = [resolve_source(str(tmp_path / n)).kind for n in ("study.zip", "study.tgz", "rows.csv")]
    assert kinds == ["archive", "archive", "table"]
    assert resolve_source(str(tmp_path)).kind == "folder"
    assert resolve_source(str(shared_data / "hippocampus")).kind == "decathlon"


def test_the_alias_does_not_show_the_place(tmp_path):
    place = tmp_path / "Doe_Jane_19700101"
    place.mkdir()
    source = resolve_source(str(place))
    assert "doe" not in source.alias.lower()
    assert source.alias == resolve_source(str(place)).alias
    assert resolve_source(str(place), "chest").alias == "chest"


def test_what_cannot_be_a_source_is_said_without_repeating_the_place(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        resolve_source(str(tmp_path / "Doe_Jane"))
    assert "Doe" not in str(caught.value)
    (tmp_path / "one.dcm").write_bytes(b"\0" * 200)
    with pytest.raises(ValueError, match="give the folder"):
        resolve_source(str(tmp_path / "one.dcm"))
    with pytest.raises(ValueError, match="ftp:// is not supported"):
        resolve_source("ftp://host/x")
    with pytest.raises(ValueError, match="alias"):
        resolve_source(str(tmp_path), "Has Space")


def test_links_are_counted_and_never_followed(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "sub").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret").write_bytes(b"s")
    (root / "sub" / "a").write_bytes(b"a")
    (root / "leaves").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    (root / "loop").symlink_to(root)
    notes = WalkNotes()
    paths = [entry.path for entry in walk(resolve_source(str(root)), notes)]
    assert (paths, notes.links) == (["sub/a"], 3)


def test_pipes_and_names_that_are_no_text_become_problems(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / os.fsdecode(b"caf\xe9")).write_bytes(b"x")
    found = _listing(tmp_path)
    assert sorted(found.values()) == ["not_a_regular_file", "undecodable_name"]
    assert all(path.encode("utf-8") for path, _ in found)


def test_folders_are_walked_in_one_order(tmp_path):
    for name in ("b/2", "a/9", "b/10", "c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [path for path, _ in _listing(tmp_path)] == ["a/9", "b/10", "b/2", "c"]


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/../../b", "C:\\x", "..\\up"])
@pytest.mark.parametrize("ending", ["zip", "tar"])
def test_members_whose_names_leave_the_archive_are_problems(tmp_path, name, ending):
    make = _zip if ending == "zip" else _tar
    make(tmp_path / f"x.{ending}", {name: b"1", "good": b"2"})
    before = set(tmp_path.rglob("*"))
    found = _listing(tmp_path / f"x.{ending}")
    assert sorted(found.values(), key=str) == [None, "unsafe_member_name"]
    assert set(tmp_path.rglob("*")) == before


def test_archives_inside_a_folder_are_opened_once(tmp_path):
    inner = _zip(tmp_path / "inner.zip", {"deep": b"1"})
    _zip(tmp_path / "outer.zip", {"deeper.zip": inner.read_bytes(), "file": b"2"})
    found = _listing(tmp_path)
    assert found == {
        ("inner.zip", "deep"): None,
        ("outer.zip", "deeper.zip"): "nested_archive",
        ("outer.zip", "file"): None,
    }


def test_encrypted_repeated_and_too_large_members_are_problems(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("twice", b"1")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("twice", b"2")
        archive.writestr("large", b"0" * 100)
        archive.writestr("locked", b"3")
        archive.getinfo("locked").flag_bits |= 1
    monkeypatch.setattr(members, "MAX_MEMBER_BYTES", 50)
    found = _listing(tmp_path / "x.zip")
    assert sorted(found.values(), key=str) == [
        None,
        "encrypted_member",
        "member_too_large",
        "repeated_member",
    ]


def test_a_member_longer_than_it_says_is_not_read_to_its_end(tmp_path):
    place = _zip(tmp_path / "x.zip", {"bomb": b"0" * 5_000_000})
    data = place.read_bytes()
    # Both the local and the central record promise 10 bytes of the five million.
    place.write_bytes(data.replace((5_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    (entry,) = walk(resolve_source(str(place)))
    with pytest.raises(BadCase, match="damaged_member"):
        entry.read()


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz"])
def test_a_cut_archive_yields_what_is_whole_and_one_problem(tmp_path, ending):
    files = {f"f{n}": bytes([n]) * 3_000 for n in range(5)}
    make = _zip if ending == "zip" else _tar
    place = make(tmp_path / f"x.{ending}", files)
    place.write_bytes(place.read_bytes()[: 7_000 if ending == "tar" else -40])
    found = _listing(tmp_path)
    if ending == "zip":
        assert list(found.values()) == ["damaged_archive"]
    else:
        reads = [e.problem for e in walk(resolve_source(str(tmp_path)))]
        assert any(p is not None and p.reason == "damaged_archive" for p in reads) or _unreadable(
            tmp_path
        )


def _unreadable(place: Path) -> bool:
    for entry in walk(resolve_source(str(place))):
        try:
            entry.read()
        except BadCase:
            return True
    return False


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz"])
def test_members_are_read_by_reference(tmp_path, ending):
    make = _zip if ending == "zip" else _tar
    place = make(tmp_path / f"x.{ending}", {"a/b": b"one", "c": b"two"})
    ref = FileRef(str(place), "c", hashlib.sha256(b"two").hexdigest()[:32], 3)
    assert read_bytes(ref) == b"two"
    with pytest.raises(BadCase, match="file_missing"):
        read_bytes(FileRef(str(place), "gone", "", 3))


def test_a_zip_with_a_name_of_nothing_is_damaged_and_stops_nobody(tmp_path):
    place = _zip(tmp_path / "x.zip", {"a": b"1"})
    data = place.read_bytes()
    at = data.index(b"PK\x01\x02")
    # Length of the name in the central record (APPNOTE 4.3.12), then the name itself.
    record = data[at : at + 28] + b"\0\0" + data[at + 30 : at + 46]
    end = bytearray(data[data.index(b"PK\x05\x06") :])
    end[12:16] = len(record).to_bytes(4, "little")
    place.write_bytes(data[:at] + record + bytes(end))
    assert list(_listing(tmp_path).values()) == ["damaged_archive"]


FILES = {f"d/{number}": bytes([number]) * (50 * number + 3) for number in range(4)}


@settings(
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data(), ending=st.sampled_from(["zip", "tar", "tar.gz"]))
def test_a_mutated_archive_gives_members_or_reasons(tmp_path, data, ending):
    for former in tmp_path.iterdir():
        former.unlink()
    make = _zip if ending == "zip" else _tar
    place = make(tmp_path / f"x.{ending}", FILES)
    whole = bytearray(place.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    place.write_bytes(whole[: data.draw(st.integers(1, len(whole)))])
    for entry in walk(Source("x", "folder", str(tmp_path))):
        for call in (entry.read, lambda e=entry: read_bytes(_ref(tmp_path, e))):
            with contextlib.suppress(BadCase):
                call()
    assert list(tmp_path.iterdir()) == [place]


def _ref(root: Path, entry: Entry) -> FileRef:
    return FileRef(str(root / entry.path), entry.member or None, "", entry.size)


@pytest.mark.parametrize("ending", ["zip", "tar.gz"])
def test_an_archive_of_many_bombs_is_not_read_to_its_end(tmp_path, monkeypatch, ending):
    make = _zip if ending == "zip" else _tar
    place = make(tmp_path / f"x.{ending}", {f"f{n}": bytes(200_000) for n in range(9)})
    monkeypatch.setattr(members, "EXPANSION_FREE_BYTES", 500_000)
    assert place.stat().st_size * members.MAX_ARCHIVE_EXPANSION < 1_800_000
    reasons = [entry.problem and entry.problem.reason for entry in _entries(place)]
    assert reasons[-1] == "decompression_bomb"
    assert set(reasons[:-1]) == {None}
    assert 2 <= len(reasons) < 9
    monkeypatch.undo()
    assert len(_entries(place)) == 9


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz"])
def test_of_two_members_of_one_name_the_first_is_read(tmp_path, ending):
    place = tmp_path / f"x.{ending}"
    if ending == "zip":
        with zipfile.ZipFile(place, "w") as archive:
            archive.writestr("twice", b"first")
            with pytest.warns(UserWarning, match="Duplicate name"):
                archive.writestr("twice", b"other")
    else:
        with tarfile.open(place, "w:gz" if ending == "tar.gz" else "w") as archive:
            for data in (b"first", b"other"):
                info = tarfile.TarInfo("twice")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    walked = {entry.member: entry.problem and entry.problem.reason for entry in _entries(place)}
    assert walked == {"twice": None, "twice#1": "repeated_member"}
    assert read_bytes(FileRef(str(place), "twice", digest_of(b"first").hex(), 5)) == b"first"


def _entries(place: Path) -> list:
    return list(walk(resolve_source(str(place))))


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz"])
def test_members_are_read_in_any_order_and_a_replaced_archive_anew(tmp_path, ending):
    make = _zip if ending == "zip" else _tar
    files = {f"d/{n}": bytes([n]) * (n + 1) for n in range(6)}
    place = make(tmp_path / f"x.{ending}", files)
    for number in (3, 0, 5, 1, 1, 4):
        name = f"d/{number}"
        ref = FileRef(str(place), name, digest_of(files[name]).hex(), number + 1)
        assert read_bytes(ref) == files[name]
    make(place, {"d/3": b"replaced!"})
    assert read_bytes(FileRef(str(place), "d/3", "", 9)) == b"replaced!"
    with pytest.raises(BadCase, match="file_missing"):
        read_bytes(FileRef(str(place), "d/5", "", 6))


def test_a_file_that_changed_or_went_away_is_refused(tmp_path):
    place = tmp_path / "f"
    place.write_bytes(b"abc")
    ref = FileRef(str(place), None, digest_of(b"abc").hex(), 3)
    assert read_bytes(ref) == b"abc"
    place.write_bytes(b"abd")
    assert read_bytes(ref, check_digest=False) == b"abd"
    with pytest.raises(BadCase, match="file_changed"):
        read_bytes(ref)
    place.write_bytes(b"abcd")
    with pytest.raises(BadCase, match="file_changed"):
        read_bytes(ref, check_digest=False)
    place.unlink()
    with pytest.raises(BadCase, match="file_missing"):
        read_bytes(ref)


def _cached_pages(path: Path) -> int:
    """Count the pages of a file that the system holds in memory (mincore(2))."""
    size = path.stat().st_size
    found = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), size) as mapped:
        place = (ctypes.c_char * size).from_buffer(mapped)
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.mincore(ctypes.byref(place), ctypes.c_size_t(size), found) == 0
        del place
    return sum(page & 1 for page in found)


def test_what_is_announced_comes_into_memory_before_it_is_read(tmp_path):
    path = tmp_path / "slice.dcm"
    path.write_bytes(bytes(4 << 20))
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if _cached_pages(path):
        pytest.skip("the file system of the temporary folder keeps every file in memory")
    gone = FileRef(str(tmp_path / "gone.dcm"), None, "", 100)
    member = FileRef(str(tmp_path / "all.zip"), "slice.dcm", "", 100)
    announce([gone, member, FileRef(str(path), None, "", 4 << 20)])
    until = time.monotonic() + 20
    while _cached_pages(path) < 1024 and time.monotonic() < until:
        time.sleep(0.05)
    assert _cached_pages(path) == 1024
