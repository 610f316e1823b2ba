"""Objects of a bucket read before they are asked for, as long as each of them is asked for."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from tasks.archive.s3 import BucketObject

WIDTH = 8
"""Objects under way at once: a request waits some 20 ms, so one by one makes 50 a second."""

MAX_AHEAD_BYTES = 8 << 20
"""A larger object is read when it is asked for: its own transfer takes longer than the waiting."""


class ReadAhead:
    """Gives each object with a function that returns its content.

    The width grows from nothing while every object is asked for, and falls back to nothing at the
    first one that is not: in an unchanged bucket nothing is read, and a few new objects among many
    cost a few needless reads.

    Parameters
    ----------
    objects : iterable of BucketObject
        In the order they are walked.
    read : callable
        Returns the content of an object; called in threads.
    """

    def __init__(
        self, objects: Iterable[BucketObject], read: Callable[[BucketObject], bytes]
    ) -> None:
        self._objects, self._read = iter(objects), read
        self._upcoming: deque[BucketObject] = deque(islice(self._objects, WIDTH))
        self._begun: dict[str, Future[bytes]] = {}
        self._streak = 0
        self._asked = False

    def __iter__(self) -> Iterator[tuple[BucketObject, Callable[[], bytes]]]:
        """Yield (object, function); the function holds until the next object is asked for."""
        with ThreadPoolExecutor(WIDTH, thread_name_prefix="bucket") as self._pool:
            while self._upcoming:
                one = self._upcoming.popleft()
                self._upcoming.extend(islice(self._objects, 1))
                self._asked = False
                yield one, lambda one=one: self._content(one)
                if (unused := self._begun.pop(one.key, None)) is not None:
                    unused.cancel()
                self._streak = min(2 * self._streak + 1, WIDTH) if self._asked else 0

    def _content(self, one: BucketObject) -> bytes:
        self._asked = True
        mine = self._begun.pop(one.key, None)
        for other in islice(self._upcoming, self._streak):
            if other.key not in self._begun and other.size <= MAX_AHEAD_BYTES:
                self._begun[other.key] = self._pool.submit(self._read, other)
        return self._read(one) if mine is None else mine.result()
