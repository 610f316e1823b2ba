"""Frames are decoded in a child: its death or hang costs one frame, never this process."""

import os
import signal
import subprocess
import sys
import time

import imagecodecs
import numpy as np
import psutil
import pytest

from tasks.archive import guard
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
        found = decoder.decode(syntax, encode(image), GREY, 16, "MONOCHROME2")
        np.testing.assert_array_equal(found, image)


def test_a_larger_frame_after_a_small_one_finds_room(decoder, image):
    decoder.decode(LS, imagecodecs.jpegls_encode(image), GREY, 16, "MONOCHROME2")
    large = np.random.default_rng(1).integers(0, 4096, (700, 900), dtype=np.uint16)
    found = decoder.decode(LS, imagecodecs.jpegls_encode(large), (700, 900, 1), 16, "MONOCHROME2")
    np.testing.assert_array_equal(found, large)


@pytest.mark.parametrize("syntax", sorted(JPEG | JPEG_LS | JPEG_2000 | {RLE}))
def test_nonsense_is_refused_by_name_and_the_same_child_goes_on(decoder, image, syntax):
    good = imagecodecs.jpegls_encode(image)
    decoder.decode(LS, good, GREY, 16, "MONOCHROME2")
    child = decoder._child.pid
    with pytest.raises(BadCase) as error:
        decoder.decode(syntax, b"\xff\xd8" + bytes(300), GREY, 16, "MONOCHROME2")
    assert error.value.reason in ("undecodable", "truncated")
    np.testing.assert_array_equal(decoder.decode(LS, good, GREY, 16, "MONOCHROME2"), image)
    assert decoder._child.pid == child


def test_a_frame_larger_than_promised_never_reaches_the_parent(decoder, image):
    with pytest.raises(BadCase, match="was promised"):
        decoder.decode(LS, imagecodecs.jpegls_encode(image), (8, 8, 1), 16, "MONOCHROME2")


def test_a_stream_that_wants_all_memory_is_refused(decoder):
    large = imagecodecs.jpegls_encode(np.zeros((14000, 14000), np.uint16))
    with pytest.raises(BadCase) as error:
        decoder.decode(LS, large, (8, 8, 1), 16, "MONOCHROME2")
    assert error.value.reason == "undecodable"
    assert "promised" not in str(error.value)  # it failed while decoding, not after


def test_a_child_that_was_killed_is_replaced_unnoticed(decoder, image):
    coded = imagecodecs.jpegls_encode(image)
    decoder.decode(LS, coded, GREY, 16, "MONOCHROME2")
    os.kill(decoder._child.pid, signal.SIGKILL)
    np.testing.assert_array_equal(decoder.decode(LS, coded, GREY, 16, "MONOCHROME2"), image)


def test_a_frame_on_which_children_die_is_refused(decoder, image, monkeypatch):
    send = guard._send

    def send_and_kill(pipe, body):
        send(pipe, body)
        if "syntax" in body:
            os.kill(decoder._child.pid, signal.SIGKILL)

    # Stopped before the request, so that the child dies with the frame in its hands.
    ensure = decoder._ensure

    def ensure_and_stop():
        ensure()
        os.kill(decoder._child.pid, signal.SIGSTOP)

    monkeypatch.setattr(guard, "_send", send_and_kill)
    monkeypatch.setattr(decoder, "_ensure", ensure_and_stop)
    with pytest.raises(BadCase) as error:
        decoder.decode(LS, imagecodecs.jpegls_encode(image), GREY, 16, "MONOCHROME2")
    assert error.value.reason == "decoder_died"


def test_a_child_that_hangs_is_ended_in_time_and_replaced(decoder, image, monkeypatch):
    coded = imagecodecs.jpegls_encode(image)
    decoder.decode(LS, coded, GREY, 16, "MONOCHROME2")
    hung = decoder._child.pid
    os.kill(hung, signal.SIGSTOP)
    monkeypatch.setattr(guard, "FRAME_SECONDS", 0.3)
    with pytest.raises(BadCase) as error:
        decoder.decode(LS, coded, GREY, 16, "MONOCHROME2")
    assert error.value.reason == "decoder_hung"
    assert not psutil.pid_exists(hung)
    monkeypatch.setattr(guard, "FRAME_SECONDS", 30)
    np.testing.assert_array_equal(decoder.decode(LS, coded, GREY, 16, "MONOCHROME2"), image)


ORPHAN = """
import os, sys, numpy as np, imagecodecs
from tasks.archive import guard
image = np.zeros((8, 8), np.uint16)
frame = ("1.2.840.10008.1.2.4.80", imagecodecs.jpegls_encode(image), (8, 8, 1), 16, "")
guard.decode_guarded(*frame)
print(guard._decoder._child.pid, flush=True)
if os.fork() == 0:  # a forked copy gets a child of its own and leaves its parent's alone
    guard.decode_guarded(*frame)
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
