"""Contents of files read and digested by a few threads while the file before is looked at."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from tasks.archive.sources import digest_of
from tasks.archive.walk import Entry

READERS = max(1, min(4, (os.cpu_count() or 2) // 2))
"""Threads: reading and SHA-256 leave Python's lock, so on two cores one of them keeps up with the
rest of the work, and a second one only fights for the lock; a network answers four as fast."""

FILES_AHEAD = 16
"""Files read before their turn; with `LARGEST_AHEAD` at most 256 MB of memory."""

SMALLEST_AHEAD = 16 << 10
"""Bytes of a file below which handing it to a thread costs more than reading it."""

LARGEST_AHEAD = 16 << 20
"""Bytes of a file above which it is read in its turn, so that memory stays bounded."""

Content = Callable[[], tuple[bytes, bytes]]
"""Gives a file's bytes and their digest, or raises what reading it raised."""

T = TypeVar("T")


def with_contents(entries: Iterable[tuple[Entry, T]]) -> Iterator[tuple[Entry, T, Content]]:
    """Yield entries in their order, each with its content under way or to be read when asked for.

    Members of archives can be read only while their archive stands at them, and objects of a bucket
    are read ahead by who lists them: these are read when they are asked for, and nothing after them
    is begun before.
    """
    waiting: deque[tuple[Entry, T, Content]] = deque()
    with ThreadPoolExecutor(READERS, "radloop-read") as pool:
        for entry, more in entries:
            if _may_wait(entry):
                waiting.append((entry, more, pool.submit(_content, entry).result))
                if len(waiting) > FILES_AHEAD:
                    yield waiting.popleft()
                continue
            while waiting:
                yield waiting.popleft()
            yield entry, more, partial(_content, entry)
        while waiting:
            yield waiting.popleft()


def _may_wait(entry: Entry) -> bool:
    fits = SMALLEST_AHEAD <= entry.size <= LARGEST_AHEAD
    return entry.lasting and entry.problem is None and fits


def _content(entry: Entry) -> tuple[bytes, bytes]:
    data = entry.read()
    return data, digest_of(data)
