"""Reading ahead: the same order and the same errors, and memory that stays bounded."""

import threading
from dataclasses import replace

import pytest

from tasks.archive import contents as module
from tasks.archive.contents import FILES_AHEAD, SMALLEST_AHEAD, with_contents
from tasks.archive.sources import digest_of
from tasks.archive.walk import Entry
from tasks.errors import BadCase


def _entry(number: int, read=None, size: int = SMALLEST_AHEAD, member: str = "") -> Entry:
    data = bytes([number % 256]) * 10
    return Entry(f"{number}", member, size, 0, None, read or (lambda: data), not member)


def test_contents_come_in_order_with_their_digests():
    entries = [(_entry(n, size=(n % 3) * SMALLEST_AHEAD), n) for n in range(100)]
    found = [(entry.path, more, *content()) for entry, more, content in with_contents(entries)]
    assert found == [
        (f"{n}", n, data, digest_of(data)) for n in range(100) for data in [bytes([n]) * 10]
    ]


def test_what_reading_raises_comes_with_the_file_it_belongs_to():
    def gone() -> bytes:
        raise FileNotFoundError

    entries = [(_entry(n, gone if n == 3 else None), None) for n in range(6)]
    for entry, _, content in with_contents(entries):
        if entry.path == "3":
            with pytest.raises(FileNotFoundError):
                content()
        else:
            assert content()[0]


def test_only_so_many_files_are_read_before_their_turn():
    read = []
    entries = ((_entry(n, lambda n=n: read.append(n) or b""), n) for n in range(200))
    for _, number, content in with_contents(entries):
        content()
        assert max(read) <= number + FILES_AHEAD + 1
    assert sorted(read) == list(range(200))


def test_members_small_large_and_faulty_files_are_read_in_their_turn():
    here, places = threading.get_ident(), {}

    def note(name: str):
        return lambda: places.setdefault(name, threading.get_ident()) and b""

    large = module.LARGEST_AHEAD + 1
    entries = [
        (_entry(0, note("plain")), 0),
        (_entry(1, note("member"), member="m"), 1),
        (_entry(2, note("small"), size=1), 2),
        (_entry(3, note("large"), size=large), 3),
        (replace(_entry(4, note("faulty")), problem=BadCase("a", "b")), 4),
    ]
    for _, number, content in with_contents(entries):
        # A member may be read as long as nobody asked for the next one.
        assert number == 0 or list(places) == ["plain", "member", "small", "large"][:number]
        content()
    assert places.pop("plain") != here
    assert set(places.values()) == {here}


def test_an_interrupted_reader_leaves_no_thread_behind():
    before = threading.active_count()

    def interrupted():
        for entry, _, content in with_contents((_entry(n), n) for n in range(100)):
            content()
            if entry.path == "5":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert threading.active_count() == before
