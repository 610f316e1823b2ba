"""What parent and decoding child say to each other.

Frames, pixels and answers lie in memory that both have mapped; a request says where. One pipe
carries requests, the other, so that a sleeping parent wakes, single bytes.
"""

import mmap
import select
import struct
import time
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple

_REQUEST = struct.Struct("<QQQQ?IIHH64s16s")
_ANSWER = struct.Struct("<4sIIII")
_COUNT = struct.Struct("<Q")

ANSWER_BYTES = 2048
"""Room of an answer in the shared memory; a longer reason is cut."""

HEAD_BYTES = 4096
"""The shared memory begins with the number of frames answered, on a page of its own."""

_WAKE = b"w"


class Request(NamedTuple):
    """One frame to decode."""

    number: int
    """Rising by one from frame to frame."""
    answer: int
    """Where in the shared memory the answer goes; behind it the pixels."""
    start: int
    """Where the frame begins."""
    length: int
    wake: bool
    """Whether to wake the parent after it."""
    shape: tuple[int, int, int]
    """Rows, columns and samples that the header promises."""
    bits: int
    """Bits Allocated."""
    syntax: str
    """Transfer syntax UID."""
    photometric: str
    """Photometric Interpretation; only whether it is RGB matters to a decoder."""

    @property
    def pixels(self) -> int:
        """Where the pixels go."""
        return self.answer + ANSWER_BYTES

    @property
    def size(self) -> int:
        """Bytes of the pixels as promised, at least one."""
        rows, columns, samples = self.shape
        return max(rows * columns * samples * self.bits // 8, 1)


class Answer(NamedTuple):
    """What became of a frame."""

    dtype: str = ""
    """NumPy's name; empty when there are no pixels."""
    shape: tuple[int, ...] = ()
    bad: tuple[str, str] | None = None
    """Reason and detail of a frame that was refused."""


def send_requests(pipe: BinaryIO, requests: Iterable[Request]) -> None:
    """Write requests.  Raises BrokenPipeError when nobody reads any more."""
    view = memoryview(b"".join(map(_packed, requests)))
    while view:
        view = view[pipe.write(view) :]


def _packed(request: Request) -> bytes:
    words = (
        request.syntax.encode("ascii", "ignore"),
        request.photometric.encode("ascii", "ignore"),
    )
    return _REQUEST.pack(*request[:5], *request.shape, request.bits, *words)


def receive_request(pipe: BinaryIO) -> Request:
    """Read a request.  Raises EOFError when the other end is closed."""
    data = b""
    while len(data) < _REQUEST.size:
        more = pipe.read(_REQUEST.size - len(data))
        if not more:
            raise EOFError
        data += more
    *place, rows, columns, samples, bits, syntax, photometric = _REQUEST.unpack(data)
    words = (word.rstrip(b"\0").decode("ascii") for word in (syntax, photometric))
    return Request(*place, (rows, columns, samples), bits, *words)


def put_answer(shared: mmap.mmap, request: Request, answer: Answer) -> None:
    """Leave an answer in the shared memory and count it."""
    text = b"" if answer.bad is None else "\0".join(answer.bad).encode()
    text = text[: ANSWER_BYTES - _ANSWER.size]
    # Three numbers always: a grey image has no samples of its own.
    shape = (*answer.shape, 0, 0, 0)[:3]
    head = _ANSWER.pack(answer.dtype.encode(), *shape, len(text))
    shared[request.answer : request.answer + len(head) + len(text)] = head + text
    set_answered(shared, request.number + 1)


def get_answer(shared: mmap.mmap, request: Request) -> Answer:
    """Take an answer from the shared memory."""
    dtype, *shape, length = _ANSWER.unpack_from(shared, request.answer)
    if not dtype[0]:
        at = request.answer + _ANSWER.size
        reason, _, detail = shared[at : at + length].decode("utf-8", "ignore").partition("\0")
        return Answer(bad=(reason, detail))
    sizes = tuple(shape) if shape[2] else tuple(shape[:2])
    return Answer(dtype.rstrip(b"\0").decode("ascii"), sizes)


def set_answered(shared: mmap.mmap, count: int) -> None:
    """Say that all frames of a lower number are answered."""
    _COUNT.pack_into(shared, 0, count)


def answered(shared: mmap.mmap) -> int:
    """Return how many frames are answered."""
    return _COUNT.unpack_from(shared, 0)[0]


def wake(pipe: BinaryIO) -> None:
    """Wake who waits at the other end."""
    pipe.write(_WAKE)


def woken(pipe: BinaryIO) -> bool:
    """Take what woke this end; False when the other end is closed."""
    return bool(pipe.read(HEAD_BYTES))


def ready(pipe: BinaryIO, deadline: float) -> bool:
    """Wait until the pipe has something to read, or its other end is closed.

    Parameters
    ----------
    pipe : binary file
    deadline : float
        By the monotonic clock; the pipe is looked at even when it has passed, since the parent
        itself may have been away meanwhile.
    """
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if waiting.poll(max(left, 0) * 1000):
            return True
        if left <= 0:
            return False


def _write(pipe: BinaryIO, record: bytes) -> None:
    view = memoryview(record)
    while view:
        view = view[pipe.write(view) :]
