"""What parent and decoding child say to each other: records of fixed form, pixels aside.

Frames and pixels lie in memory that both have mapped; a record says where.
"""

import select
import struct
import time
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

_REQUEST = struct.Struct("<QQQIIHH64s16s")
_ANSWER = struct.Struct("<B4sIIII")
_READY, _PIXELS, _BAD = range(3)

MAX_TEXT = 2000
"""Bytes of a reason: with its record below PIPE_BUF (pipe(7)), so that it comes in one piece."""


class Request(NamedTuple):
    """One frame to decode."""

    start: int
    """Where in the shared memory the frame begins."""
    length: int
    out: int
    """Where its pixels go."""
    shape: tuple[int, int, int]
    """Rows, columns and samples that the header promises."""
    bits: int
    """Bits Allocated."""
    syntax: str
    """Transfer syntax UID."""
    photometric: str
    """Photometric Interpretation; only whether it is RGB matters to a decoder."""

    @property
    def size(self) -> int:
        """Bytes of the pixels as promised, at least one."""
        rows, columns, samples = self.shape
        return max(rows * columns * samples * self.bits // 8, 1)


class Answer(NamedTuple):
    """What became of a frame, or that the child is ready."""

    dtype: str = ""
    """NumPy's name; empty when there are no pixels."""
    shape: tuple[int, ...] = ()
    bad: tuple[str, str] | None = None
    """Reason and detail of a frame that was refused."""


def send_request(pipe: BinaryIO, request: Request) -> None:
    """Write a request.  Raises BrokenPipeError when nobody reads any more."""
    place, frame = request[:3], (*request.shape, request.bits)
    words = (
        request.syntax.encode("ascii", "ignore"),
        request.photometric.encode("ascii", "ignore"),
    )
    _write(pipe, _REQUEST.pack(*place, *frame, *words))


def receive_request(pipe: BinaryIO) -> Request:
    """Read a request.  Raises EOFError when the other end is closed."""
    start, length, out, *frame, syntax, photometric = _REQUEST.unpack(_exactly(pipe, _REQUEST.size))
    rows, columns, samples, bits = frame
    words = (word.rstrip(b"\0").decode("ascii") for word in (syntax, photometric))
    return Request(start, length, out, (rows, columns, samples), bits, *words)


def send_answer(pipe: BinaryIO, answer: Answer) -> None:
    """Write an answer.  Raises BrokenPipeError when nobody reads any more."""
    text = b"" if answer.bad is None else "\0".join(answer.bad).encode()[:MAX_TEXT]
    kind = _BAD if answer.bad else _PIXELS if answer.dtype else _READY
    # Three numbers always: a grey image has no samples of its own.
    shape = (*answer.shape, 0, 0, 0)[:3]
    _write(pipe, _ANSWER.pack(kind, answer.dtype.encode(), *shape, len(text)) + text)


def receive_answer(pipe: BinaryIO) -> Answer:
    """Read an answer.  Raises EOFError when the other end is closed."""
    kind, dtype, *shape, length = _ANSWER.unpack(_exactly(pipe, _ANSWER.size))
    if kind == _BAD:
        reason, _, detail = _exactly(pipe, length).decode("utf-8", "ignore").partition("\0")
        return Answer(bad=(reason, detail))
    sizes = tuple(shape) if shape[2] else tuple(shape[:2])
    return Answer(dtype.rstrip(b"\0").decode("ascii"), sizes)


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


def _exactly(pipe: BinaryIO, size: int) -> bytes:
    read: Callable[[int], bytes | None] = pipe.read
    data = read(size) or b""
    while len(data) < size:
        more = read(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data
