"""Pictures: the values their files store, in grey and upright; damaged ones only raise."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.archive import picture
from tasks.archive.picture import picture_facts, read_picture
from tasks.errors import BadCase

Image = pytest.importorskip("PIL.Image")
tifffile = pytest.importorskip("tifffile")

GREY8 = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
GREY16 = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1000 + 7
COLOUR = np.stack([GREY8, GREY8[::-1], GREY8[:, ::-1]], axis=-1)


def encoded(values: np.ndarray, form: str = "PNG", **more) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, form, **more)
    return stream.getvalue()


def tiff(values: np.ndarray, **more) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **more)
    return stream.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG by hand, for what Pillow does not write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def reason(data: bytes) -> str:
    with pytest.raises(BadCase) as caught:
        read_picture(data, None)
    return caught.value.reason


@pytest.mark.parametrize(
    "data",
    [encoded(GREY8), encoded(GREY8, "TIFF"), tiff(GREY8), tiff(GREY8, compression="zlib")],
    ids=["png", "tiff", "tifffile", "deflate"],
)
def test_eight_bits_of_grey_are_what_the_file_stores(data):
    volume = read_picture(data, None)
    np.testing.assert_array_equal(volume.array, GREY8[None])
    assert volume.array.dtype == np.int16
    assert picture_facts(data) == picture.PictureFacts(6, 8, "MONOCHROME2")


@pytest.mark.parametrize(
    "data",
    [encoded(GREY16), tiff(GREY16), tiff(GREY16, byteorder=">")],
    ids=["png", "tiff", "big-endian"],
)
def test_sixteen_bits_of_grey_are_kept(data):
    np.testing.assert_array_equal(read_picture(data, None).array, GREY16[None])


def test_floats_and_signed_values_of_tiff_are_kept():
    floats = GREY16.astype(np.float32) / 3 - 1000
    np.testing.assert_array_equal(read_picture(tiff(floats), None).array, floats[None])
    signed = GREY16.astype(np.int32) - 20_000
    np.testing.assert_array_equal(
        read_picture(tiff(signed.astype(np.int16)), None).array, signed[None]
    )
    wide = signed * 1000
    np.testing.assert_array_equal(read_picture(tiff(wide), None).array, wide[None])
    assert reason(tiff(np.where(GREY8 > 3, np.nan, floats).astype(np.float32))) == "non_finite"


@pytest.mark.parametrize("values", [GREY8, GREY16], ids=["8", "16"])
def test_white_that_is_zero_is_turned(values):
    top = np.iinfo(values.dtype).max
    data = tiff(values, photometric="miniswhite")
    np.testing.assert_array_equal(read_picture(data, None).array, top - values[None].astype(int))


def test_colour_becomes_luminance():
    expected = np.rint(COLOUR @ [0.299, 0.587, 0.114])
    for data in (encoded(COLOUR), tiff(COLOUR, photometric="rgb")):
        np.testing.assert_array_equal(read_picture(data, None).array, expected[None])
        assert picture_facts(data).photometric == "RGB"


def test_a_palette_shows_its_colours():
    image = Image.fromarray(GREY8).convert("RGB").quantize(64)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    expected = np.asarray(image.convert("RGB")).astype(int)[..., 0]
    np.testing.assert_array_equal(read_picture(stream.getvalue(), None).array[0], expected)


def test_what_is_transparent_is_refused_and_what_is_opaque_read():
    alpha = np.full(GREY8.shape, 255, np.uint8)
    whole = encoded(np.dstack([COLOUR, alpha]))
    np.testing.assert_array_equal(
        read_picture(whole, None).array, read_picture(encoded(COLOUR), None).array
    )
    alpha[0, 0] = 254
    assert reason(encoded(np.dstack([COLOUR, alpha]))) == "not_grey"


def test_a_photograph_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(GREY8, "JPEG", quality=100, exif=exif)
    upright = read_picture(data, None)
    assert upright.array.shape == (1, 8, 6)
    assert (picture_facts(data).rows, picture_facts(data).cols) == (8, 6)
    plain = read_picture(encoded(GREY8, "JPEG", quality=100), None).array[0]
    np.testing.assert_array_equal(upright.array[0], np.rot90(plain, -1))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_each_orientation_is_turned_once(form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(GREY8, form, exif=exif)
    turned = {
        1: GREY8,
        2: GREY8[:, ::-1],
        3: GREY8[::-1, ::-1],
        4: GREY8[::-1],
        5: GREY8.T,
        6: np.rot90(GREY8, -1),
        7: GREY8[::-1, ::-1].T,
        8: np.rot90(GREY8),
    }[orientation]
    volume, facts = read_picture(data, None), picture_facts(data)
    np.testing.assert_array_equal(volume.array[0], turned)
    assert (facts.rows, facts.cols) == turned.shape


def test_the_spacing_is_the_mappings_and_never_the_papers():
    data = encoded(GREY8, dpi=(300, 300))
    assert read_picture(data, None).facts["spacing"] == "spacing unknown"
    volume = read_picture(data, (0.5, 0.75))
    assert volume.facts["spacing"] == "mapping"
    assert volume.certificate["spacing"] == [1.0, 0.5, 0.75]
    assert volume.certificate["orientation"] == "image plane"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "not_picture"),
        (b"GIF89a" + bytes(50), "not_picture"),
        (encoded(GREY8)[:-30], "truncated"),
        (png(65535, 65535, 8, 0, bytes(100)), "too_large"),
        (png(20000, 20000, 8, 0, bytes(100)), "too_large"),
        (png(4, 4, 8, 0, bytes(3)), "truncated"),
        (png(2, 2, 16, 2, bytes(2 * 13)), "unsupported_bits"),
        (png(2, 2, 16, 4, bytes(2 * 9)), "unsupported_bits"),
        (tiff(np.stack([GREY16] * 3, -1), photometric="rgb"), "unsupported_bits"),
        (tiff(GREY16.astype(np.uint32)), "unsupported_bits"),
        (tiff(np.stack([GREY8, GREY8]), photometric="minisblack"), "needs_multiframe"),
    ],
    ids=range(11),
)
def test_what_cannot_be_exact_is_refused_with_a_reason(data, expected):
    assert reason(data) == expected


WHOLE = (encoded(GREY8), encoded(COLOUR, "JPEG"), tiff(GREY16), tiff(COLOUR, photometric="rgb"))


@settings(deadline=None, max_examples=400)
@given(data=st.data())
def test_a_mutated_picture_gives_values_or_a_reason(data):
    whole = bytearray(data.draw(st.sampled_from(WHOLE)))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(whole)))
    with contextlib.suppress(BadCase):
        assert read_picture(bytes(whole[:cut]), None).array.ndim == 3
