"""Frames are decoded in a child: its death or hang costs one frame, never this process."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import imagecodecs
import numpy as np
import psutil
import pytest

from tasks.archive import guard, ring
from tasks.archive.codecs import JPEG, JPEG_2000, JPEG_LS, RLE
from tasks.errors import BadCase

GREY = (48, 64, 1)
LOSSLESS = "1.2.840.10008.1.2.4.70"
LS = "1.2.840.10008.1.2.4.80"
J2K = "1.2.840.10008.1.2.4.90"


@pytest.fixture
def decoder():
    one = guard.Decoder()
    yield one
    one.close()


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4096, GREY[:2], dtype=np.uint16)


def grey(image: np.ndarray) -> guard.Coded:
    return guard.Coded(LS, bytes(imagecodecs.jpegls_encode(image)), (*image.shape, 1), 16, "")


def run_length(image: np.ndarray) -> bytes:
    """Encode by PS3.5 annex G: the high bytes, then the low ones."""
    planes = [imagecodecs.packbits_encode((image >> 8).astype(np.uint8).tobytes())]
    planes.append(imagecodecs.packbits_encode((image & 255).astype(np.uint8).tobytes()))
    header = np.zeros(16, "<u4")
    header[:3] = 2, 64, 64 + len(planes[0])
    return header.tobytes() + b"".join(planes)


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (LOSSLESS, lambda image: imagecodecs.ljpeg_encode(image, bitspersample=16)),
        (LS, imagecodecs.jpegls_encode),
        (J2K, lambda image: imagecodecs.jpeg2k_encode(image, reversible=True)),
        (RLE, run_length),
    ],
)
def test_lossless_frames_come_back_exactly(decoder, image, syntax, encode):
    for _ in range(2):
        found = decoder.decode(guard.Coded(syntax, encode(image), GREY, 16, "MONOCHROME2"))
        np.testing.assert_array_equal(found, image)


def test_a_larger_frame_after_a_small_one_finds_room(decoder, image):
    decoder.decode(grey(image))
    large = np.random.default_rng(1).integers(0, 4096, (700, 900), dtype=np.uint16)
    found = decoder.decode(grey(large))
    np.testing.assert_array_equal(found, large)


@pytest.mark.parametrize("syntax", sorted(JPEG | JPEG_LS | JPEG_2000 | {RLE}))
def test_nonsense_is_refused_by_name_and_the_same_child_goes_on(decoder, image, syntax):
    good = grey(image)
    decoder.decode(good)
    child = decoder._child.pid
    with pytest.raises(BadCase) as error:
        decoder.decode(guard.Coded(syntax, b"\xff\xd8" + bytes(300), GREY, 16, "MONOCHROME2"))
    assert error.value.reason in ("undecodable", "truncated")
    np.testing.assert_array_equal(decoder.decode(good), image)
    assert decoder._child.pid == child


def test_a_frame_larger_than_promised_never_reaches_the_parent(decoder, image):
    with pytest.raises(BadCase, match="was promised"):
        decoder.decode(
            guard.Coded(LS, imagecodecs.jpegls_encode(image), (8, 8, 1), 16, "MONOCHROME2")
        )


def test_a_stream_that_wants_all_memory_is_refused(decoder):
    large = imagecodecs.jpegls_encode(np.zeros((14000, 14000), np.uint16))
    with pytest.raises(BadCase) as error:
        decoder.decode(guard.Coded(LS, large, (8, 8, 1), 16, "MONOCHROME2"))
    assert error.value.reason == "undecodable"
    assert "promised" not in str(error.value)  # it failed while decoding, not after


def test_a_child_that_was_killed_is_replaced_unnoticed(decoder, image):
    coded = grey(image)
    decoder.decode(coded)
    os.kill(decoder._child.pid, signal.SIGKILL)
    np.testing.assert_array_equal(decoder.decode(coded), image)


def dying_on(decoder, monkeypatch, poison):
    """Let each child die with this very frame in its hands."""
    send = guard.send_requests

    def send_and_kill(pipe, requests):
        child = psutil.Process(decoder._child.pid)
        for request in requests:
            held = decoder._ring._shared[request.start : request.start + request.length]
            if held == poison:
                # Waiting for a request, it has answered all others; stopped, it cannot answer this.
                while child.status() != psutil.STATUS_SLEEPING:
                    time.sleep(0.001)
                child.suspend()
            send(pipe, [request])
            if held == poison:
                child.kill()
                return

    monkeypatch.setattr(guard, "send_requests", send_and_kill)


def gather(arrays, found, then=lambda: None):
    for array in arrays:
        found.append(array.copy())
        then()


def test_a_frame_on_which_children_die_is_refused(decoder, image, monkeypatch):
    # Stopped before the request, so that the child dies with the frame in its hands.
    ensure, send = decoder._ensure, guard.send_requests

    def ensure_and_stop():
        ensure()
        os.kill(decoder._child.pid, signal.SIGSTOP)

    def send_and_kill(pipe, requests):
        send(pipe, requests)
        os.kill(decoder._child.pid, signal.SIGKILL)

    monkeypatch.setattr(guard, "send_requests", send_and_kill)
    monkeypatch.setattr(decoder, "_ensure", ensure_and_stop)
    with pytest.raises(BadCase) as error:
        decoder.decode(grey(image))
    assert error.value.reason == "decoder_died"


def test_many_frames_come_back_in_order_and_from_any_syntax(decoder):
    rng = np.random.default_rng(2)
    images = [rng.integers(0, 4096, (16 + k, 24), dtype=np.uint16) for k in range(30)]
    frames = [
        guard.Coded(LS, imagecodecs.jpegls_encode(one), (*one.shape, 1), 16, "")
        if k % 2
        else guard.Coded(RLE, run_length(one), (*one.shape, 1), 16, "")
        for k, one in enumerate(images)
    ]
    found = [array.copy() for array in decoder.decode_each(frames)]
    for one, other in zip(found, images, strict=True):
        np.testing.assert_array_equal(one, other)


def test_frames_are_taken_a_few_ahead_and_no_more(decoder, image):
    taken = []

    def frames():
        for k in range(40):
            taken.append(k)
            yield grey(image)

    for done, _ in enumerate(decoder.decode_each(frames()), start=1):
        # One more than is under way waits for its slot.
        assert done < len(taken) <= done + ring.SLOTS or len(taken) == 40


def test_large_frames_share_few_slots(decoder, monkeypatch):
    monkeypatch.setattr(ring, "RING_BYTES", 1 << 20)
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 4096, (500, 600), dtype=np.uint16) for _ in range(5)]
    frames = [guard.Coded(LS, imagecodecs.jpegls_encode(x), (500, 600, 1), 16, "") for x in images]
    found = [array.copy() for array in decoder.decode_each(frames)]
    np.testing.assert_array_equal(found, images)
    assert decoder._ring.slots == 2


def test_a_bad_frame_is_told_in_its_turn_and_nothing_of_it_is_left(decoder, image):
    good, bad = grey(image), guard.Coded(LS, b"\xff\xd8" + bytes(300), GREY, 16, "")
    found = []
    with pytest.raises(BadCase) as error:
        gather(decoder.decode_each([good, good, bad, good, good]), found)
    assert error.value.reason == "undecodable"
    np.testing.assert_array_equal(found, [image, image])
    child = decoder._child.pid
    np.testing.assert_array_equal(decoder.decode(good), image)
    assert decoder._child.pid == child


def test_a_frame_refused_before_it_is_sent_is_told_in_its_turn(decoder, image):
    def frames():
        yield grey(image)
        yield grey(image)
        raise BadCase("truncated", "cut")

    found = []
    with pytest.raises(BadCase, match="cut"):
        gather(decoder.decode_each(frames()), found)
    np.testing.assert_array_equal(found, [image, image])


def test_frames_nobody_waits_for_do_not_come_up_later(decoder, image):
    other = image[::-1].copy()
    frames = decoder.decode_each([grey(image)] * 6)
    np.testing.assert_array_equal(next(frames), image)
    with pytest.raises(RuntimeError, match="close"):
        decoder.decode(grey(other))
    frames.close()
    np.testing.assert_array_equal(decoder.decode(grey(other)), other)


def test_a_death_half_way_costs_only_the_frame_in_hands(decoder, image, monkeypatch):
    poison = bytes(imagecodecs.jpegls_encode(image[:, ::-1].copy()))
    dying_on(decoder, monkeypatch, poison)
    frames = [grey(image)] * 3 + [guard.Coded(LS, poison, GREY, 16, "")]
    found = []
    with pytest.raises(BadCase) as error:
        gather(decoder.decode_each(frames), found)
    assert error.value.reason == "decoder_died"
    np.testing.assert_array_equal(found, [image] * 3)


def test_a_death_that_was_not_the_frames_fault_goes_unnoticed(decoder, image):
    found = []
    for number, array in enumerate(decoder.decode_each([grey(image)] * 30)):
        found.append(array.copy())
        if number == 10:
            os.kill(decoder._child.pid, signal.SIGKILL)
    np.testing.assert_array_equal(found, [image] * 30)


def test_a_hang_half_way_is_ended_and_the_frames_before_it_are_kept(decoder, image, monkeypatch):
    monkeypatch.setattr(guard, "FRAME_SECONDS", 1.5)
    monkeypatch.setattr(ring, "SLOTS", 2)
    found = []

    def stop_at_five():
        if len(found) == 5:
            os.kill(decoder._child.pid, signal.SIGSTOP)

    with pytest.raises(BadCase) as error:
        gather(decoder.decode_each([grey(image)] * 20), found, stop_at_five)
    assert error.value.reason == "decoder_hung"
    assert 5 <= len(found) <= 5 + ring.SLOTS
    assert decoder._child is None
    np.testing.assert_array_equal(decoder.decode(grey(image)), image)


def test_a_slow_reader_of_the_frames_is_no_hang_of_the_child(decoder, image, monkeypatch):
    monkeypatch.setattr(guard, "FRAME_SECONDS", 1.0)
    monkeypatch.setattr(ring, "SLOTS", 2)
    found = []
    for array in decoder.decode_each([grey(image)] * 3):
        found.append(array.copy())
        time.sleep(1.1)
    np.testing.assert_array_equal(found, [image] * 3)


def test_threads_take_turns(decoder, image):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(decoder.decode, [grey(image)] * 12))
    np.testing.assert_array_equal(found, [image] * 12)


def test_a_child_that_hangs_is_ended_in_time_and_replaced(decoder, image, monkeypatch):
    coded = grey(image)
    decoder.decode(coded)
    hung = decoder._child.pid
    os.kill(hung, signal.SIGSTOP)
    monkeypatch.setattr(guard, "FRAME_SECONDS", 0.3)
    with pytest.raises(BadCase) as error:
        decoder.decode(coded)
    assert error.value.reason == "decoder_hung"
    assert not psutil.pid_exists(hung)
    monkeypatch.setattr(guard, "FRAME_SECONDS", 30)
    np.testing.assert_array_equal(decoder.decode(coded), image)


ORPHAN = """
import os, sys, numpy as np, imagecodecs
from tasks.archive import guard, ring
image = np.zeros((8, 8), np.uint16)
frame = ("1.2.840.10008.1.2.4.80", imagecodecs.jpegls_encode(image), (8, 8, 1), 16, "")
guard.decode_guarded(guard.Coded(*frame))
print(guard._decoder._child.pid, flush=True)
if os.fork() == 0:  # a forked copy gets a child of its own and leaves its parent's alone
    guard.decode_guarded(guard.Coded(*frame))
    os._exit(0)
os.wait()
assert guard._decoder._child.poll() is None
print("forked", flush=True)
sys.stdin.read()
"""


def test_a_child_ends_with_its_parent_even_when_it_hangs():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    with subprocess.Popen(
        [sys.executable, "-c", ORPHAN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
    ) as parent:
        child = int(parent.stdout.readline())
        assert parent.stdout.readline() == "forked\n"
        os.kill(child, signal.SIGSTOP)
        parent.kill()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
