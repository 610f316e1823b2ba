"""Compressed frames are decoded in a child process, where hostile input cannot hurt.

Decoders are native code: damaged streams make them crash, hang or ask for all memory, and no Python
signal interrupts them. So a long-lived child decodes, under limits on memory and time
(`decoding_child`). Frames and pixels pass through memory it shares with its parent, cut into slots,
so that the child works on the next frames while the parent uses the last. A child that dies or
hangs costs the one frame it had in hands; those behind it get a new child.
"""

import atexit
import mmap
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.archive.codecs import Coded
from tasks.archive.wire import Answer, Request, ready, receive_answer, send_request
from tasks.errors import BadCase

FRAME_SECONDS = 8.0
"""A frame may take so long at least: a 512 x 512 slice takes 25 ms by the slowest decoder."""

SLOWEST_BYTES_PER_SECOND = 2 << 20
"""Large frames may take longer: the slowest decoder makes 20 MB a second on an idle core."""

START_SECONDS = 60.0
"""Starting the child imports the codecs, which takes half a second on an idle machine."""

SLOTS = 8
"""Frames under way at once: a wake-up costs some 0.1 ms, shared by so many."""

RING_BYTES = 64 << 20
"""All slots together take no more than this, unless two large frames alone do."""

ATTEMPTS = 2
"""Children a frame may cost: one may have been ended by others, e.g. when memory was short."""

_ALIGNMENT = 64
"""Bytes; no slot begins inside a cache line of another."""


@dataclass
class _Sent:
    """A frame the child has in hands, or will have."""

    frame: Coded
    request: Request
    since: float
    """When it was sent, by the monotonic clock."""
    attempts: int = 1


class Decoder:
    """The child and the memory shared with it; starts and replaces the child as needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder: int | None = None
        self._child: subprocess.Popen | None = None
        self._owner = 0
        self._memory = -1
        self._shared: mmap.mmap | None = None
        self._slot_bytes = 0

    def decode(self, frame: Coded) -> np.ndarray:
        """Decode one frame in the child; as `decode_each`, and the array is the caller's."""
        (found,) = (array.copy() for array in self.decode_each([frame]))
        return found

    def decode_each(self, frames: Iterable[Coded]) -> Iterator[np.ndarray]:
        """Decode frames in the child, which works ahead of what is asked for.

        Parameters
        ----------
        frames : iterable of Coded
            Taken `SLOTS` ahead at most.

        Yields
        ------
        array, shape (rows, columns) or (rows, columns, samples)
            In the shared memory: holds until the next one is asked for.

        Raises
        ------
        BadCase
            What the decoder says of a frame, ``decoder_died`` or ``decoder_hung``; the frames
            before it have been yielded.
        RuntimeError
            When a thread begins anew before it has ended or closed its last iterator.
        """
        if self._holder == threading.get_ident():
            raise RuntimeError("frames are being decoded: end or close that iterator first")
        with self._lock:
            self._holder = threading.get_ident()
            sent: deque[_Sent] = deque()
            try:
                yield from self._each(iter(frames), sent)
            finally:
                self._forget(sent)
                self._holder = None

    def close(self) -> None:
        """End the child and give the memory back."""
        self._end()
        if self._memory >= 0:
            os.close(self._memory)
        self._memory, self._shared, self._slot_bytes = -1, None, 0

    def _each(self, frames: Iterator[Coded], sent: deque[_Sent]) -> Iterator[np.ndarray]:
        number, answered, upcoming = 0, 0.0, _next(frames)
        while True:
            while isinstance(upcoming, Coded) and self._has_room(upcoming, len(sent)):
                sent.append(self._placed(upcoming, number))
                self._send(sent[-1])
                number, upcoming = number + 1, _next(frames)
            if not sent:
                if isinstance(upcoming, BadCase):
                    raise upcoming
                return
            answer = self._answer(sent, answered)
            answered = time.monotonic()
            out = sent.popleft().request.out
            if answer.bad is not None:
                raise BadCase(*answer.bad)
            count = int(np.prod(answer.shape))
            yield np.frombuffer(self._shared, answer.dtype, count, out).reshape(answer.shape)

    def _has_room(self, frame: Coded, under_way: int) -> bool:
        """Tell whether a slot is free; while none is in use they are made large enough."""
        needed = _aligned(_size(frame)) + _aligned(len(frame.data))
        if under_way and needed > self._slot_bytes:
            return False
        if not under_way:
            self._ensure()
        if needed > self._slot_bytes:
            # Somewhat more: the next slice may compress less well.
            self._slot_bytes = _aligned(needed + needed // 8)
            size = self._slot_bytes * self._slots()
            os.ftruncate(self._memory, size)
            self._shared = mmap.mmap(self._memory, size)
        return under_way < self._slots()

    def _slots(self) -> int:
        return max(2, min(SLOTS, RING_BYTES // self._slot_bytes))

    def _placed(self, frame: Coded, number: int) -> _Sent:
        out = number % self._slots() * self._slot_bytes
        start = out + _aligned(_size(frame))
        request = Request(
            start, len(frame.data), out, frame.shape, frame.bits, frame.syntax, frame.photometric
        )
        return _Sent(frame, request, 0.0)

    def _send(self, one: _Sent) -> None:
        one.since = time.monotonic()
        start, length = one.request.start, one.request.length
        self._shared[start : start + length] = one.frame.data
        try:
            send_request(self._child.stdin, one.request)
        except BrokenPipeError:
            # It died; the end of its answers says so when this one is due.
            return

    def _answer(self, sent: deque[_Sent], answered: float) -> Answer:
        """Return the answer to the first frame under way, before which the child had no other."""
        one = sent[0]
        limit = max(FRAME_SECONDS, _size(one.frame) / SLOWEST_BYTES_PER_SECOND)
        while True:
            if not ready(self._child.stdout, max(one.since, answered) + limit):
                self._end()
                said = f"the decoder of {one.frame.syntax} gave no answer within {limit:.0f} s"
                raise BadCase("decoder_hung", said)
            try:
                return receive_answer(self._child.stdout)
            except EOFError:
                self._end()
            if one.attempts == ATTEMPTS:
                said = f"the decoder of {one.frame.syntax} died on a frame, twice"
                raise BadCase("decoder_died", said)
            one.attempts += 1
            self._ensure()
            for left in sent:
                self._send(left)

    def _forget(self, sent: deque[_Sent]) -> None:
        """Let the child finish what nobody waits for any more."""
        while sent and self._child is not None and self._owner == os.getpid():
            try:
                self._answer(sent, time.monotonic())
            except BadCase:
                self._end()
            sent.popleft()

    def _ensure(self) -> None:
        """Start a child when there is none, it has died, or this process was forked since."""
        if self._owner == os.getpid() and self._child is not None and self._child.poll() is None:
            return
        self._end()
        if self._memory < 0:
            self._memory = os.memfd_create("radloop-pixels")
        self._owner = os.getpid()
        # The package this very module came from, not whatever the working folder holds.
        root = str(Path(__file__).resolve().parents[2])
        program = (
            f"import sys; sys.path.insert(0, {root!r}); from tasks.archive import decoding_child"
        )
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-c", f"{program} as child; child.serve()", str(self._memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(self._memory,),
            bufsize=0,
        )
        if not ready(self._child.stdout, time.monotonic() + START_SECONDS):
            self._end()
            raise BadCase("decoder_hung", f"the decoder did not start in {START_SECONDS:.0f} s")
        try:
            receive_answer(self._child.stdout)
        except EOFError:
            self._end()
            raise BadCase("decoder_died", "the decoder died while it started") from None

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        if self._owner == os.getpid():
            child.kill()
            child.wait()
        else:
            # A forked copy of its parent: the child is not ours to end, nor to wait for.
            child.returncode = 0
        child.stdin.close()
        child.stdout.close()


_decoder = Decoder()
atexit.register(_decoder.close)


def _start_anew() -> None:
    # A fork copies the lock as it stands, perhaps held by a thread that the copy does not have.
    global _decoder
    _decoder.close()
    _decoder = Decoder()
    atexit.register(_decoder.close)


os.register_at_fork(after_in_child=_start_anew)


def decode_guarded(frame: Coded) -> np.ndarray:
    """Decode one frame in this process's child; see `Decoder.decode`."""
    return _decoder.decode(frame)


def decode_each_guarded(frames: Iterable[Coded]) -> Iterator[np.ndarray]:
    """Decode frames in this process's child; see `Decoder.decode_each`."""
    return _decoder.decode_each(frames)


def _next(frames: Iterator[Coded]) -> Coded | BadCase | None:
    """Return the next frame, or why there is none: that is told when its turn comes."""
    try:
        return next(frames, None)
    except BadCase as problem:
        return problem


def _size(frame: Coded) -> int:
    rows, columns, samples = frame.shape
    return max(rows * columns * samples * frame.bits // 8, 1)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
