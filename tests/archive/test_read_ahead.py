"""Reading ahead gives what reading gives, and hardly more than what is asked for."""

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.archive.read_ahead import MAX_AHEAD_BYTES, WIDTH, ReadAhead
from tasks.archive.s3 import BucketObject


def objects(n: int, size: int = 1) -> list[BucketObject]:
    return [BucketObject(f"{number:04d}", size, 0) for number in range(n)]


class Store:
    """Counts what is read, and how many at once."""

    def __init__(self, pause: float = 0.0) -> None:
        self.reads: list[str] = []
        self.at_once = self.most = 0
        self._pause, self._lock = pause, threading.Lock()

    def read(self, one: BucketObject) -> bytes:
        with self._lock:
            self.reads.append(one.key)
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        time.sleep(self._pause)
        with self._lock:
            self.at_once -= 1
        return one.key.encode()


@settings(deadline=None, max_examples=60)
@given(asked=st.lists(st.booleans(), max_size=60))
def test_each_object_gives_its_own_content_whoever_is_asked_for(asked):
    store = Store()
    listed = objects(len(asked))
    walked = []
    for (one, content), wanted in zip(ReadAhead(listed, store.read), asked, strict=True):
        walked.append(one)
        assert not wanted or content() == one.key.encode()
    assert walked == listed
    assert len(store.reads) == len(set(store.reads))
    # Each end of a run of wanted ones costs at most the width.
    ends = sum(a and not b for a, b in zip(asked, [*asked, False][1:], strict=True))
    assert sum(asked) <= len(store.reads) <= sum(asked) + WIDTH * ends


def test_nothing_is_read_when_nothing_is_asked_for():
    store = Store()
    assert len(list(ReadAhead(objects(50), store.read))) == 50
    assert store.reads == []


def test_many_are_under_way_at_once_but_no_more_than_the_width():
    store = Store(pause=0.01)
    for _, content in ReadAhead(objects(60), store.read):
        content()
    assert 2 < store.most <= WIDTH + 1


def test_large_objects_are_read_one_by_one():
    store = Store(pause=0.001)
    for _, content in ReadAhead(objects(20, MAX_AHEAD_BYTES + 1), store.read):
        content()
    assert store.most == 1


def test_an_object_that_fails_fails_when_it_is_asked_for_and_no_other():
    def read(one: BucketObject) -> bytes:
        if one.key == "0005":
            raise PermissionError("refused")
        return one.key.encode()

    for one, content in ReadAhead(objects(20), read):
        if one.key == "0005":
            with pytest.raises(PermissionError):
                content()
        else:
            assert content() == one.key.encode()


def test_a_listing_that_breaks_off_says_so():
    def listing():
        yield from objects(20)
        raise OSError("gone")

    seen = []

    def walk() -> None:
        for _, content in ReadAhead(listing(), Store().read):
            seen.append(content())

    with pytest.raises(OSError, match="gone"):
        walk()
    assert len(seen) >= 20 - WIDTH
