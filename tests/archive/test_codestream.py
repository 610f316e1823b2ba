"""A stream that states another size than the header never reaches its decoder."""

import numpy as np
import pytest

from tasks.archive.codestream import check_stream
from tasks.errors import BadCase

imagecodecs = pytest.importorskip("imagecodecs")

PICTURE = np.arange(30 * 41, dtype=np.uint16).reshape(30, 41)
STREAMS = {
    "jpeg lossless": (imagecodecs.jpeg_encode(PICTURE, lossless=True, bitspersample=12), False),
    "jpeg baseline": (imagecodecs.jpeg_encode(PICTURE.astype(np.uint8)), False),
    "jpeg-ls": (imagecodecs.jpegls_encode(PICTURE), False),
    "jpeg 2000": (imagecodecs.jpeg2k_encode(PICTURE, level=0, codecformat="j2k"), True),
    "jpeg 2000 in a box": (imagecodecs.jpeg2k_encode(PICTURE, level=0, codecformat="jp2"), True),
}


@pytest.mark.parametrize("name", STREAMS)
def test_the_size_of_every_kind_of_stream_is_found(name):
    stream, jpeg_2000 = STREAMS[name]
    check_stream(stream, 30, 41, 1, jpeg_2000=jpeg_2000)
    for size in ((31, 41, 1), (30, 40, 1), (41, 30, 1), (30, 41, 3)):
        with pytest.raises(BadCase, match=r"\(30, 41, 1\)"):
            check_stream(stream, *size, jpeg_2000=jpeg_2000)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_cut_in_its_header_states_no_size(name):
    stream, jpeg_2000 = STREAMS[name]
    with pytest.raises(BadCase, match="undecodable"):
        check_stream(stream[:12], 30, 41, 1, jpeg_2000=jpeg_2000)


def test_very_many_tiles_are_refused():
    stream, _ = STREAMS["jpeg 2000"]
    start = stream.index(b"\xff\x4f\xff\x51")
    tiny = bytearray(stream)
    tiny[start + 24 : start + 32] = (1).to_bytes(4, "big") * 2
    tiny[start + 8 : start + 16] = (100).to_bytes(4, "big") * 2
    with pytest.raises(BadCase, match="tiles"):
        check_stream(bytes(tiny), 100, 100, 1, jpeg_2000=True)
