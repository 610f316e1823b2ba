"""Compressed frames are decoded in a child process, where hostile input cannot hurt.

Decoders are native code: damaged streams make them crash, hang or ask for all memory, and no Python
signal interrupts them. So a long-lived child decodes, under limits on memory and time
(`decoding_child`). Frames and pixels pass through memory it shares with its parent (`ring`), so
that the child works on the next frames while the parent uses the last. A child that dies or hangs
costs the one frame it had in hands; what follows gets a new child.
"""

import atexit
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.archive.codecs import Coded
from tasks.archive.ring import Ring
from tasks.archive.wire import Request, ready, send_requests, woken
from tasks.errors import BadCase

FRAME_SECONDS = 8.0
"""A frame may take so long at least: a 512 x 512 slice takes 25 ms by the slowest decoder."""

SLOWEST_BYTES_PER_SECOND = 2 << 20
"""Large frames may take longer: the slowest decoder makes 20 MB a second on an idle core."""

START_SECONDS = 60.0
"""Starting the child imports the codecs, which takes half a second on an idle machine."""

LOOK_SECONDS = 0.25
"""How often answers are counted while nobody wakes: a hang is noticed so much later."""

ATTEMPTS = 2
"""Children a frame may cost: one may have been ended by others, e.g. when memory was short."""


@dataclass
class _Sent:
    """A frame the child has in hands, or will have."""

    frame: Coded
    request: Request
    attempts: int = 1


class Decoder:
    """The child and the memory shared with it; starts and replaces the child as needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder: int | None = None
        self._child: subprocess.Popen | None = None
        self._owner = 0
        self._ring: Ring | None = None
        self._answered = 0
        self._moved_at = 0.0

    def decode(self, frame: Coded) -> np.ndarray:
        """Decode one frame in the child; as `decode_each`, and the array is the caller's."""
        (found,) = (array.copy() for array in self.decode_each([frame]))
        return found

    def decode_each(self, frames: Iterable[Coded]) -> Iterator[np.ndarray]:
        """Decode frames in the child, which works ahead of what is asked for.

        Parameters
        ----------
        frames : iterable of Coded
            Taken `ring.SLOTS` ahead at most.

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
        ring, self._ring = self._ring, None
        if ring is not None:
            ring.close()

    def _each(self, frames: Iterator[Coded], sent: deque[_Sent]) -> Iterator[np.ndarray]:
        upcoming = _next(frames)
        while True:
            while isinstance(upcoming, Coded) and self._has_room(upcoming, len(sent)):
                upcoming = self._send_some(upcoming, frames, sent)
            if not sent:
                if isinstance(upcoming, BadCase):
                    raise upcoming
                return
            self._wait(sent)
            yield self._ring.take(sent.popleft().request)

    def _has_room(self, frame: Coded, under_way: int) -> bool:
        """Tell whether half the slots are free; when all are they are made large enough."""
        if under_way:
            return self._ring.fits(frame) and under_way <= self._ring.half
        self._ensure()
        self._ring.widen(frame)
        return True

    def _send_some(
        self, frame: Coded, frames: Iterator[Coded], sent: deque[_Sent]
    ) -> Coded | BadCase | None:
        """Send up to half a ring of frames; return the first that was not sent."""
        some: list[_Sent] = []
        upcoming: Coded | BadCase | None = frame
        while isinstance(upcoming, Coded) and self._ring.fits(upcoming):
            some.append(_Sent(upcoming, self._ring.place(upcoming)))
            upcoming = _next(frames)
            if len(some) == self._ring.half:
                break
        sent.extend(some)
        self._send(some)
        return upcoming

    def _send(self, some: Sequence[_Sent]) -> None:
        *others, last = (one.request for one in some)
        self._moved_at = time.monotonic()
        try:
            send_requests(self._child.stdin, [*others, last._replace(wake=True)])
        except BrokenPipeError:
            # It died; the end of the other pipe says so when an answer is due.
            return

    def _wait(self, sent: deque[_Sent]) -> None:
        """Wait until the first frame under way is answered, and perhaps others with it.

        The time of a frame begins when the one before it was answered, or with its sending.
        """
        first = sent[0].request.number
        while self._answered <= first:
            one = sent[0].frame
            limit = max(FRAME_SECONDS, one.size / SLOWEST_BYTES_PER_SECOND)
            deadline = self._moved_at + limit
            late = not ready(self._child.stdout, min(deadline, time.monotonic() + LOOK_SECONDS))
            alive = late or woken(self._child.stdout)
            self._answered = min(self._ring.answered(), sent[-1].request.number + 1)
            if self._answered > first:
                self._moved_at = time.monotonic()
            elif not alive:
                self._again(sent)
            elif late and time.monotonic() >= deadline:
                self._end()
                said = f"the decoder of {one.syntax} gave no answer within {limit:.0f} s"
                raise BadCase("decoder_hung", said)

    def _again(self, sent: deque[_Sent]) -> None:
        """Give what is under way to a new child, the last one having died on the first of it."""
        self._end()
        one = sent[0]
        if one.attempts == ATTEMPTS:
            said = f"the decoder of {one.frame.syntax} died on a frame, twice"
            raise BadCase("decoder_died", said)
        one.attempts += 1
        self._ensure()
        self._ring.restart(one.request.number)
        for left in sent:
            self._ring.fill(left.request, left.frame)
        self._send(sent)

    def _forget(self, sent: deque[_Sent]) -> None:
        """Let the child finish what nobody waits for any more."""
        while sent and self._child is not None and self._owner == os.getpid():
            try:
                self._wait(sent)
            except BadCase:
                self._end()
            sent.popleft()

    def _ensure(self) -> None:
        """Start a child when there is none, it has died, or this process was forked since."""
        if self._owner == os.getpid() and self._child is not None and self._child.poll() is None:
            return
        self._end()
        self._owner = os.getpid()
        self._ring = self._ring or Ring()
        memory = self._ring.descriptor
        # The package this very module came from, not whatever the working folder holds.
        root = str(Path(__file__).resolve().parents[2])
        program = f"import sys; sys.path.insert(0, {root!r}); from tasks.archive import"
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-c", f"{program} decoding_child as c; c.serve()", str(memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(memory,),
            bufsize=0,
        )
        if not ready(self._child.stdout, time.monotonic() + START_SECONDS):
            self._end()
            raise BadCase("decoder_hung", f"the decoder did not start in {START_SECONDS:.0f} s")
        if not woken(self._child.stdout):
            self._end()
            raise BadCase("decoder_died", "the decoder died while it started")

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
