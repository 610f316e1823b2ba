"""RLE frames (PS3.5 annex G): exact, or refused when bytes are missing."""

import numpy as np
import pytest

from tasks.archive.runlength import decode_run_length
from tasks.errors import BadCase
from tests.archive.test_guard import run_length

SHAPE = (48, 64, 1)


@pytest.fixture
def image() -> np.ndarray:
    # As steps, so that runs and literals both occur.
    rows, columns = np.indices(SHAPE[:2])
    return ((rows // 5) * 300 + (columns // 3) * (rows % 4)).astype(np.uint16)


def test_a_whole_frame_comes_back_exactly(image):
    np.testing.assert_array_equal(decode_run_length(run_length(image), SHAPE, 16), image)


@pytest.mark.parametrize("gone", [1, 2, 8, 31])
def test_bytes_lost_inside_a_segment_are_never_passed_over(image, gone):
    """The bytes behind them move up: shifted pixels would look like an image."""
    frame = run_length(image)
    found = []
    for at in range(64, len(frame) - gone, 7):
        try:
            values = decode_run_length(frame[:at] + frame[at + gone :], SHAPE, 16)
        except Exception:  # packbits has an error of its own; the guard makes a reason of it
            continue
        found.append(np.array_equal(values, image))
    # One lost byte may be the literal of a run: as many pixels as before, one of them wrong.
    assert len(found) < (8 if gone == 1 else 3)


@pytest.mark.parametrize("more", [2, 100])
def test_a_segment_that_holds_more_than_its_plane_is_refused(image, more):
    taller = np.concatenate([image, image])
    with pytest.raises(BadCase, match=r"undecodable.*holds 6144 bytes, not 3072"):
        decode_run_length(run_length(taller), SHAPE, 16)
    wider = np.concatenate([image.ravel(), np.zeros(more, np.uint16)])[None]
    with pytest.raises(BadCase, match="undecodable"):
        decode_run_length(run_length(wider), SHAPE, 16)


def test_a_padded_plane_of_odd_length_is_read():
    image = np.arange(15, dtype=np.uint16).reshape(3, 5) * 300
    padded = np.concatenate([image.ravel(), np.zeros(1, np.uint16)])[None]
    np.testing.assert_array_equal(decode_run_length(run_length(padded), (3, 5, 1), 16), image)
