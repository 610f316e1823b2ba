"""Memory that a parent and its decoding child share, cut into slots for frames under way.

A slot holds the answer, the pixels and the compressed frame, in this order.
"""

import mmap
import os

import numpy as np

from tasks.archive.codecs import Coded
from tasks.archive.wire import (
    ANSWER_BYTES,
    HEAD_BYTES,
    Request,
    answered,
    get_answer,
    set_answered,
)
from tasks.errors import BadCase

SLOTS = 16
"""Frames under way at once. Half of them are sent together and waited for together: to fall asleep
and wake up costs either side some 0.1 ms, half as much as decoding an RLE slice."""

RING_BYTES = 64 << 20
"""All slots together take no more than this, unless two large frames alone do."""

_ALIGNMENT = 64
"""Bytes; no pixels begin inside a cache line of something else."""

_KINDS = "biuf"


class Ring:
    """The shared memory; `descriptor` is what the child gets."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("radloop-pixels")
        self._shared: mmap.mmap | None = None
        self._slot_bytes = 0
        self._number = 0

    @property
    def slots(self) -> int:
        """How many frames have room."""
        return max(2, min(SLOTS, RING_BYTES // max(self._slot_bytes, 1)))

    @property
    def half(self) -> int:
        """How many frames are sent together at most."""
        return self.slots // 2

    def fits(self, frame: Coded) -> bool:
        """Tell whether a slot is large enough."""
        return _needed(frame) <= self._slot_bytes

    def widen(self, frame: Coded) -> None:
        """Make slots large enough; none may be in use."""
        if not self.fits(frame):
            # Somewhat more: the next slice may compress less well.
            self._slot_bytes = _aligned(_needed(frame) * 9 // 8)
            size = HEAD_BYTES + self._slot_bytes * self.slots
            os.ftruncate(self.descriptor, size)
            self._shared = mmap.mmap(self.descriptor, size)

    def place(self, frame: Coded) -> Request:
        """Put a frame into the next slot, which must be free."""
        slot = HEAD_BYTES + self._number % self.slots * self._slot_bytes
        request = Request(
            number=self._number,
            answer=slot,
            start=slot + ANSWER_BYTES + _aligned(frame.size),
            length=len(frame.data),
            wake=False,
            shape=frame.shape,
            bits=frame.bits,
            syntax=frame.syntax,
            photometric=frame.photometric,
        )
        self._number += 1
        self.fill(request, frame)
        return request

    def fill(self, request: Request, frame: Coded) -> None:
        """Put a frame where its request says, perhaps again: a child that died may have written."""
        self._shared[request.start : request.start + request.length] = frame.data

    def answered(self) -> int:
        """Return the number of the first frame without an answer."""
        return answered(self._shared)

    def restart(self, number: int) -> None:
        """Let a new child begin with this frame."""
        set_answered(self._shared, number)

    def take(self, request: Request) -> np.ndarray:
        """Return the pixels of an answered frame, a view that holds while its slot is free.

        Raises
        ------
        BadCase
            What the child says of the frame; ``decoder_died`` when that makes no sense.
        """
        answer = get_answer(self._shared, request)
        if answer.bad is not None:
            raise BadCase(*answer.bad)
        try:
            dtype, count = np.dtype(answer.dtype), int(np.prod(answer.shape))
            if dtype.kind not in _KINDS or count * dtype.itemsize > request.size:
                raise ValueError("more than there is room for")
            return np.frombuffer(self._shared, dtype, count, request.pixels).reshape(answer.shape)
        except (TypeError, ValueError):
            # A decoder wrote where it must not, and the child lived on.
            said = f"the decoder of {request.syntax} answered nonsense"
            raise BadCase("decoder_died", said) from None

    def close(self) -> None:
        """Give the memory back; views that are still held keep it until they go."""
        self._shared = None
        os.close(self.descriptor)


def _needed(frame: Coded) -> int:
    return ANSWER_BYTES + _aligned(frame.size) + _aligned(len(frame.data))


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
