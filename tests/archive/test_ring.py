"""Frames under way have slots of their own; what a child leaves in them is not believed blindly."""

import mmap
import os
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tasks.archive import ring, wire
from tasks.archive.codecs import RLE, Coded
from tasks.errors import BadCase

FRAME = Coded(RLE, b"coded", (4, 6, 1), 16, "MONOCHROME2")


@pytest.fixture
def memory():
    one = ring.Ring()
    one.widen(FRAME)
    yield one
    one.close()


@pytest.fixture
def child(memory):
    """The memory as the child has it."""
    return mmap.mmap(memory.descriptor, os.fstat(memory.descriptor).st_size)


def test_slots_do_not_touch_each_other(memory):
    frames = [replace(FRAME, data=bytes([k]) * (k % 7)) for k in range(memory.slots)]
    requests = [memory.place(frame) for frame in frames]
    spans = sorted((one.answer, one.start + one.length) for one in requests)
    assert spans[0][0] >= wire.HEAD_BYTES
    for (_, end), (start, _) in pairwise(spans):
        assert end <= start
    for one in requests:
        assert one.pixels + one.size <= one.start
    assert memory.place(FRAME).answer == requests[0].answer


def test_pixels_and_reasons_pass_the_memory(memory, child):
    request = memory.place(FRAME)
    assert child[request.start : request.start + request.length] == b"coded"
    pixels = np.arange(24, dtype=np.uint16)
    child[request.pixels : request.pixels + 48] = pixels.tobytes()
    wire.put_answer(child, request, wire.Answer("<u2", (4, 6)))
    assert memory.answered() == request.number + 1
    np.testing.assert_array_equal(memory.take(request), pixels.reshape(4, 6))
    long = "schön " * 1000
    wire.put_answer(child, request, wire.Answer(bad=("undecodable", long)))
    with pytest.raises(BadCase) as caught:
        memory.take(request)
    assert caught.value.reason == "undecodable"
    assert long.startswith(caught.value.detail)


@pytest.mark.parametrize(
    "answer",
    [
        wire.Answer("<u2", (4, 6, 3)),
        wire.Answer("<u8", (4, 6)),
        wire.Answer("O", (4, 6)),
        wire.Answer("zz", (4, 6)),
        wire.Answer("<u2", (1 << 30, 1 << 31)),
    ],
)
def test_nonsense_from_a_child_is_a_reason_and_reads_nothing_else(memory, child, answer):
    request = memory.place(FRAME)
    wire.put_answer(child, request, answer)
    with pytest.raises(BadCase) as caught:
        memory.take(request)
    assert caught.value.reason == "decoder_died"


def test_larger_frames_get_larger_slots_and_fewer(memory, monkeypatch):
    monkeypatch.setattr(ring, "RING_BYTES", 1 << 20)
    large = replace(FRAME, shape=(300, 300, 3))
    assert not memory.fits(large)
    memory.widen(large)
    assert memory.fits(large)
    assert (memory.slots, memory.half) == (2, 1)


def test_requests_come_through_a_pipe_as_they_were_sent(memory):
    requests = [memory.place(replace(FRAME, photometric=word)) for word in ("RGB", "", "x" * 90)]
    reading, writing = os.pipe()
    with (
        os.fdopen(reading, "rb", buffering=0) as here,
        os.fdopen(writing, "wb", buffering=0) as out,
    ):
        wire.send_requests(out, requests)
        assert [wire.receive_request(here) for _ in requests[:2]] == requests[:2]
        assert wire.receive_request(here).photometric == "x" * 16
        out.close()
        with pytest.raises(EOFError):
            wire.receive_request(here)
