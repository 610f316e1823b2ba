"""Stored values and real units of single frames; sizes are judged before decoding."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate, itemize_fragment
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tasks.archive import deflate, pixel_format, pixels
from tasks.archive.grey import real_units, shown_grey
from tasks.archive.pixel_format import check_size
from tasks.archive.pixels import decode_frame, read_dataset
from tasks.archive.sources import FileRef
from tasks.archive.volume import read_volume
from tasks.errors import BadCase
from tasks.phantom.encode import encode_pixels
from tests.archive import made_dicom
from tests.archive.made_images import image, ramp, reason, saved

SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
]


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(("dtype", "bits"), [("u2", 12), ("u2", 16), ("i2", 16), ("u1", 8)])
def test_every_lossless_syntax_gives_back_the_pixels(tmp_path, syntax, dtype, bits):
    array = ramp(dtype, 255 if dtype == "u1" else 4095)
    if dtype == "i2":
        array = array - 2000
    dataset = image(array, bits_stored=bits)
    encode_pixels(dataset, array, syntax)
    decoded = decode_frame(read_dataset(Path(saved(dataset, tmp_path).path).read_bytes()))
    np.testing.assert_array_equal(decoded, array)
    assert decoded.dtype == array.dtype


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEGLosslessSV1])
def test_signed_12_bit_values_keep_their_sign_when_compressed(syntax):
    array = ramp("i2", 4095) - 2048
    dataset = image(array.astype("i2"), bits_stored=12)
    encode_pixels(dataset, array.astype("i2"), syntax)
    np.testing.assert_array_equal(decode_frame(dataset), array)


def test_nine_real_syntaxes_decode_to_the_reference(shared_data):
    nibabel = pytest.importorskip("nibabel")
    folder = shared_data / "dicom/transfer_syntaxes"
    frames = [decode_frame(read_dataset(path.read_bytes())) for path in sorted(folder.iterdir())]
    assert len(frames) == 9
    for frame in frames:
        np.testing.assert_array_equal(frame, frames[0])
    # The slice is a mosaic of 6 x 6 tiles; the reference holds the 35 used, rows upside down.
    tiles = frames[0].reshape(6, 64, 6, 64).swapaxes(1, 2).reshape(36, 64, 64)[:35]
    stored = np.asanyarray(nibabel.load(shared_data / "reference/transfer_syntaxes.nii").dataobj)
    np.testing.assert_array_equal(stored.T[:, ::-1], tiles)


def test_big_endian_bytes_are_turned():
    array = ramp()
    dataset = image(array, bits_stored=12)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dataset.PixelData = array.astype(">u2").tobytes()
    np.testing.assert_array_equal(decode_frame(dataset), array)


def test_bits_above_the_stored_ones_are_dropped():
    array = ramp(top=4000)
    dataset = image(array | 0xA000, bits_stored=12)
    np.testing.assert_array_equal(decode_frame(dataset), array)


def test_sign_is_extended_from_the_stored_bits():
    array = ramp("i2") - 2048
    dataset = image((array & 0x0FFF).astype("u2"), bits_stored=12, PixelRepresentation=1)
    np.testing.assert_array_equal(decode_frame(dataset), array)


def test_values_in_the_high_bits_are_shifted_down():
    array = ramp()
    dataset = image((array << 4).astype("u2"), bits_stored=12, HighBit=15)
    np.testing.assert_array_equal(decode_frame(dataset), array)


def test_header_limits_are_checked_before_pixels():
    dataset = image(ramp())
    dataset.Rows = dataset.Columns = 65535
    assert reason(check_size, dataset) == "too_large"
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    assert reason(check_size, dataset) == "too_large"


def test_a_small_file_that_promises_much_is_refused(monkeypatch):
    monkeypatch.setattr(pixel_format, "EXPANSION_FREE_BYTES", 1000)
    dataset = image(ramp())
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.Rows = 20000
    assert reason(check_size, dataset) == "too_large"


@pytest.mark.parametrize(
    ("edit", "word"),
    [
        (lambda d: setattr(d, "PixelData", d.PixelData[:-10]), "truncated"),
        (lambda d: setattr(d, "PixelData", d.PixelData + bytes(10)), "wrong_length"),
        (lambda d: setattr(d, "BitsAllocated", 1), "unsupported_bits"),
        (lambda d: setattr(d, "Rows", 0), "invalid_header"),
        (lambda d: delattr(d, "PixelData"), "no_pixel_data"),
        (lambda d: setattr(d, "BitsStored", 17), "invalid_header"),
    ],
)
def test_headers_that_do_not_fit_their_pixels_are_refused(edit, word):
    dataset = image(ramp())
    edit(dataset)
    assert reason(decode_frame, dataset) == word


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_files_cut_anywhere_are_refused_and_never_half_read(tmp_path, syntax):
    noise = np.random.default_rng(0).integers(0, 4096, (48, 40)).astype(np.uint16)
    dataset = image(noise, bits_stored=12)
    encode_pixels(dataset, noise, syntax)
    data = Path(saved(dataset, tmp_path).path).read_bytes()
    for share in (0.3, 0.5, 0.7, 0.9, 0.97):
        (tmp_path / "cut.dcm").write_bytes(data[: int(len(data) * share)])
        size = (tmp_path / "cut.dcm").stat().st_size
        cut = FileRef(str(tmp_path / "cut.dcm"), None, "", size)
        word = reason(read_volume, "dicom", [cut])
        assert word in {"truncated", "no_pixel_data", "not_dicom", "undecodable"}


def test_what_cannot_be_decoded_names_its_transfer_syntax():
    dataset = image(ramp())
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"
    dataset.PixelData = (
        b"\xfe\xff\x00\xe0\x00\x00\x00\x00\xfe\xff\x00\xe0\x04\x00\x00\x00\x00\x00\xff\xd9"
    )
    with pytest.raises(BadCase, match=r"MPEG2.*1\.2\.840\.10008\.1\.2\.4\.100") as caught:
        decode_frame(dataset)
    assert caught.value.reason == "undecodable"


@pytest.mark.parametrize("syntax", SYNTAXES[2:])
def test_damaged_streams_never_escape_as_other_errors(syntax):
    rng = np.random.default_rng(1)
    dataset = image(ramp(), bits_stored=12)
    encode_pixels(dataset, ramp(), syntax)
    whole = dataset.PixelData
    refused = 0
    for _ in range(40):
        damaged = bytearray(whole)
        for place in rng.integers(16, len(whole), 6):
            damaged[place] = rng.integers(256)
        dataset.PixelData = bytes(damaged)
        try:
            assert decode_frame(dataset).shape == (24, 20)
        except BadCase:
            refused += 1
    assert refused > 0


def test_bytes_that_are_no_dicom_are_refused():
    for data in (b"", b"hello", b"%PDF-1.7" * 40, bytes(4000)):
        assert reason(read_dataset, data) == "not_dicom"
    deflated = b"\0" * 128 + b"DICM" + b"\x02\x00\x10\x00UI\x16\x001.2.840.10008.1.2.1.99"
    assert reason(read_dataset, deflated) == "truncated"


def test_deflated_files_are_read_as_what_they_hold():
    dataset = read_dataset(made_dicom.deflated(made_dicom.header()))
    np.testing.assert_array_equal(
        decode_frame(dataset), np.arange(32, dtype="u1").view("<u2").reshape(4, 4)
    )
    assert dataset.PixelSpacing == [0.5, 0.75]


def test_a_deflated_file_that_inflates_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(deflate, "MAX_INFLATED_BYTES", 100_000)
    bomb = made_dicom.deflated(made_dicom.header(), extra=10_000_000)
    assert reason(read_dataset, bomb) == "decompression_bomb"


@pytest.mark.parametrize("share", [0.5, 0.8, 0.97])
def test_a_cut_deflated_file_is_truncated(share):
    data = made_dicom.deflated(made_dicom.header())
    assert reason(read_dataset, data[: int(len(data) * share)]) == "truncated"


def test_halved_chroma_gives_both_pixels_their_colour():
    values = np.array([[10, 20, 90, 200, 30, 40, 100, 110]], dtype=np.uint8)
    dataset = image(np.zeros((1, 4, 3), np.uint8), photometric="YBR_FULL_422", modality="US")
    dataset.PixelData = values.tobytes()
    expected = [[[10, 90, 200], [20, 90, 200], [30, 100, 110], [40, 100, 110]]]
    np.testing.assert_array_equal(decode_frame(dataset), expected)
    np.testing.assert_array_equal(shown_grey(dataset)[0], [[10, 20, 30, 40]])


@pytest.mark.parametrize("table", ["basic", "none"])
def test_fragments_of_a_frame_are_joined(table):
    """PS3.5 A.4: a frame may lie in several fragments."""
    array = ramp()
    stream = bytes(imagecodecs.jpegls_encode(array))
    dataset = image(array, bits_stored=12)
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    half = len(stream) // 2 // 2 * 2
    if table == "basic":
        dataset.PixelData = encapsulate([stream], fragments_per_frame=3)
    else:
        dataset.PixelData = bytes.fromhex("feff00e000000000") + b"".join(
            itemize_fragment(part) for part in (stream[:half], stream[half:])
        )
    np.testing.assert_array_equal(decode_frame(dataset), array)


def test_every_frame_of_a_native_file_is_its_own():
    frames = np.random.default_rng(0).integers(0, 256, (3, 5, 7)).astype(np.uint8)
    dataset = image(frames[0])
    dataset.NumberOfFrames, dataset.PixelData = "3", frames.tobytes() + b"\0"
    for index in range(3):
        np.testing.assert_array_equal(decode_frame(dataset, index), frames[index])
    swapped = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dataset.PixelData = swapped
    dataset["PixelData"].VR = "OW"
    for index in range(3):
        np.testing.assert_array_equal(decode_frame(dataset, index), frames[index])


def test_fewer_frames_than_promised_is_truncated():
    stream = bytes(imagecodecs.jpegls_encode(ramp()))
    dataset = image(ramp(), bits_stored=12, NumberOfFrames="3")
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    dataset.PixelData = encapsulate([stream, stream])
    assert reason(decode_frame, dataset, 2) in ("truncated", "undecodable")


def test_htj2k_gives_back_the_pixels():
    dataset = image(ramp(), bits_stored=12)
    dataset.file_meta.TransferSyntaxUID = HTJ2KLossless
    dataset.PixelData = encapsulate([bytes(imagecodecs.htj2k_encode(ramp(), reversible=True))])
    np.testing.assert_array_equal(decode_frame(dataset), ramp())


def test_rescale_stays_whole_when_it_is_whole():
    dataset = image(ramp(), RescaleSlope="2", RescaleIntercept="-1024")
    values = real_units(ramp(), dataset)
    assert values.dtype == np.int16
    np.testing.assert_array_equal(values, ramp().astype(int) * 2 - 1024)
    dataset.RescaleSlope = "0.5"
    assert real_units(ramp(), dataset).dtype == np.float32


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4"])
@pytest.mark.parametrize("slope", [1, -1, 2, -3, 40_000])
@pytest.mark.parametrize("intercept", [0, -1024, 32_767, -70_000])
def test_whole_rescale_is_what_wide_arithmetic_gives(dtype, slope, intercept):
    ends = np.iinfo(dtype)
    rng = np.random.default_rng(0)
    for low, high in ((ends.min, ends.max), (0, 100), (max(ends.min, -100), 0)):
        stored = rng.integers(low, high, (5, 7), dtype=dtype, endpoint=True)
        stored[0, :2] = low, high
        found = real_units(stored, Dataset(), (float(slope), float(intercept)))
        wide = stored.astype(np.int64) * slope + intercept
        smallest = next(
            (kind for kind in (np.int16, np.int32) if np.array_equal(wide.astype(kind), wide)),
            np.float32,
        )
        np.testing.assert_array_equal(found, wide.astype(smallest))
        assert found.dtype == smallest


def test_frames_of_a_compressed_cine_are_each_their_own(tmp_path):
    frames = np.random.default_rng(1).integers(0, 256, (40, 24, 20)).astype(np.uint8)
    dataset = image(frames[0], modality="US", NumberOfFrames="40")
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    dataset.PixelData = encapsulate([bytes(imagecodecs.jpegls_encode(one)) for one in frames])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    volume = read_volume("dicom", [saved(dataset, tmp_path)])
    np.testing.assert_array_equal(volume.array, frames)


def test_stored_values_hold_after_the_next_frame_was_decoded():
    arrays = [ramp(top=4000 + k) for k in range(40)]
    sets = []
    for array in arrays:
        dataset = image(array, bits_stored=16)
        encode_pixels(dataset, array, JPEGLSLossless)
        sets.append(pixels.StoredPixels(dataset))
    kept = list(pixels.decode_frames([(one, 0) for one in sets], keep=True))
    np.testing.assert_array_equal(kept, arrays)
    passing = [found.copy() for found in pixels.decode_frames((one, 0) for one in sets)]
    np.testing.assert_array_equal(passing, arrays)


def test_a_frame_that_is_refused_is_told_after_those_before_it():
    good, cut = image(ramp(), bits_stored=12), image(ramp(), bits_stored=12)
    for dataset in (good, cut):
        encode_pixels(dataset, ramp(), JPEGLSLossless)
    cut.PixelData = encapsulate([bytes(imagecodecs.jpegls_encode(ramp()))[:-40]])
    order = [(pixels.StoredPixels(dataset), 0) for dataset in (good, good, cut, good)]
    found = []
    with pytest.raises(BadCase) as caught:
        found.extend(one.copy() for one in pixels.decode_frames(order))
    assert caught.value.reason == "truncated"
    assert str(caught.value).count("JPEG-LS") == 1
    np.testing.assert_array_equal(found, [ramp(), ramp()])


def test_a_real_world_mapping_is_the_rescale_of_a_file_without_one():
    world = Dataset()
    world.RealWorldValueSlope, world.RealWorldValueIntercept = 4.5, -2.0
    dataset = image(ramp(), modality="MR", RealWorldValueMappingSequence=[world])
    np.testing.assert_allclose(real_units(ramp(), dataset), ramp() * 4.5 - 2)
    dataset.RescaleSlope, dataset.RescaleIntercept = "2", "0"
    np.testing.assert_array_equal(real_units(ramp(), dataset), ramp() * 2)
    del dataset.RescaleSlope, dataset.RescaleIntercept
    dataset.RealWorldValueMappingSequence = [world, world]
    np.testing.assert_array_equal(real_units(ramp(), dataset), ramp())
