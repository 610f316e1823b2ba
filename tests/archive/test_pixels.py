"""Stored values, real units and shown grey of single frames; sizes are judged before decoding."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom import Dataset, FileMetaDataset, dcmread
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
from tasks.archive.volume import UNKNOWN_SPACING, read_volume
from tasks.errors import BadCase
from tasks.phantom.encode import encode_pixels, write_dataset
from tests.archive import made_dicom

SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
]


def image(array, *, bits_stored=None, modality="DX", photometric="MONOCHROME2", **elements):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.SOPInstanceUID = "2.25.77"
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.77"
    dataset.Modality, dataset.PhotometricInterpretation = modality, photometric
    dataset.Rows, dataset.Columns = array.shape[:2]
    dataset.SamplesPerPixel = 3 if array.ndim == 3 else 1
    dataset.BitsAllocated = array.dtype.itemsize * 8
    dataset.BitsStored = bits_stored or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(array.dtype.kind == "i")
    if array.ndim == 3:
        dataset.PlanarConfiguration = 0
    for name, value in elements.items():
        setattr(dataset, name, value)
    encode_pixels(dataset, array, ExplicitVRLittleEndian)
    return dataset


def ramp(dtype=np.uint16, top=4095):
    return (np.arange(24 * 20).reshape(24, 20) * top // 479).astype(dtype)


def saved(dataset, tmp_path, name="a.dcm"):
    write_dataset(tmp_path / name, dataset)
    path = tmp_path / name
    return FileRef(str(path), None, "", path.stat().st_size)


def reason(call, *arguments):
    with pytest.raises(BadCase) as caught:
        call(*arguments)
    return caught.value.reason


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


def test_monochrome1_and_2_of_one_picture_show_the_same():
    plain = image(ramp(), bits_stored=12)
    inverse = image(4095 - ramp(), bits_stored=12, photometric="MONOCHROME1")
    np.testing.assert_array_equal(shown_grey(plain)[0], shown_grey(inverse)[0])


def test_monochrome1_is_inverted_after_the_window():
    # The window keeps stored 1000 to 2000; inverted before it, the dark half would survive instead.
    window = {"WindowCenter": "1500", "WindowWidth": "1000"}
    dataset = image(ramp(), bits_stored=12, photometric="MONOCHROME1", **window)
    shown, voi = shown_grey(dataset)
    assert voi == "window"
    assert np.all(shown[ramp() <= 1000] == pytest.approx(4095))
    assert np.all(shown[ramp() >= 2000] == pytest.approx(0))


def test_voi_lut_is_preferred_to_the_window():
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 16]
    item.add_new(0x00283006, "OW", (np.arange(4096) // 16).astype("<u2").tobytes())
    dataset = image(ramp(), bits_stored=12, WindowCenter="10", WindowWidth="20")
    dataset.VOILUTSequence = [item]
    shown, voi = shown_grey(dataset)
    assert voi == "lut"
    np.testing.assert_array_equal(shown, ramp() // 16)


def test_a_window_without_width_is_passed_over():
    shown, voi = shown_grey(image(ramp(), WindowCenter="0", WindowWidth="0"))
    assert voi == "none"
    np.testing.assert_array_equal(shown, ramp())


def test_declared_padding_is_black_also_in_monochrome1():
    array = ramp()
    array[:2] = 0
    dataset = image(array, bits_stored=12, photometric="MONOCHROME1", PixelPaddingValue=0)
    shown, _ = shown_grey(dataset)
    assert np.all(shown[:2] == shown[2:].min())


def test_colour_becomes_luminance(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (16, 18, 3)).astype(np.uint8)
    expected = np.rint(colour @ np.array([0.299, 0.587, 0.114]))
    dataset = image(colour, photometric="RGB", modality="US")
    np.testing.assert_array_equal(shown_grey(dataset)[0], expected)
    dataset.PlanarConfiguration = 1
    dataset.PixelData = np.moveaxis(colour, -1, 0).tobytes()
    np.testing.assert_array_equal(shown_grey(dataset)[0], expected)
    volume = read_volume("dicom", [saved(dataset, tmp_path)])
    assert volume.array.shape == (1, 16, 18)
    dataset.PhotometricInterpretation = "YBR_FULL"
    np.testing.assert_array_equal(shown_grey(dataset)[0], colour[..., 0])


def test_colour_of_32_bits_does_not_overflow():
    colour = np.array([[[2**32 - 1, 2**32 - 1, 2**32 - 1], [0, 2**31, 5]]], dtype=np.uint32)
    shown, _ = shown_grey(image(colour, photometric="RGB", modality="OT"))
    np.testing.assert_allclose(shown, [[2.0**32 - 1, 0.587 * 2**31]], rtol=1e-6)


def test_palette_becomes_luminance_or_is_refused():
    dataset = image(np.arange(12, dtype=np.uint8).reshape(3, 4), photometric="PALETTE COLOR")
    assert reason(shown_grey, dataset) == "unsupported_photometric"
    for name, factor in (("Red", 10), ("Green", 10), ("Blue", 10)):
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [12, 0, 8])
        table = (np.arange(12) * factor).astype(np.uint8).tobytes()
        setattr(dataset, f"{name}PaletteColorLookupTableData", table)
    np.testing.assert_array_equal(shown_grey(dataset)[0].ravel(), np.arange(12) * 10)


@pytest.mark.parametrize(
    ("elements", "spacing", "fact"),
    [
        ({"PixelSpacing": [0.2, 0.3], "ImagerPixelSpacing": [1, 1]}, (0.2, 0.3), "PixelSpacing"),
        ({"ImagerPixelSpacing": [0.14, 0.15]}, (0.14, 0.15), "ImagerPixelSpacing"),
        ({}, (1.0, 1.0), UNKNOWN_SPACING),
    ],
)
def test_a_radiograph_says_where_its_spacing_comes_from(tmp_path, elements, spacing, fact):
    volume = read_volume("dicom", [saved(image(ramp(), **elements), tmp_path)])
    assert volume.array.shape == (1, 24, 20)
    assert volume.facts["spacing"] == fact
    np.testing.assert_allclose(volume.affine @ [0, 2, 3, 1], [3 * spacing[1], 2 * spacing[0], 0, 1])


def test_an_ultrasound_region_gives_its_spacing(tmp_path):
    region = Dataset()
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.02, 0.03
    dataset = image(ramp(), modality="US", SequenceOfUltrasoundRegions=[region])
    volume = read_volume("dicom", [saved(dataset, tmp_path)])
    assert volume.certificate["spacing"][1:] == pytest.approx([0.3, 0.2])


def test_real_radiographs_show_bright_bones_whatever_their_polarity(shared_data):
    files = sorted((shared_data / "chest-xray").rglob("*.dcm"))[:120]
    darker = {"MONOCHROME1": [], "MONOCHROME2": []}
    for path in files:
        volume = read_volume("dicom", [FileRef(str(path), None, "", path.stat().st_size)])
        image_2d = volume.array[0]
        # The spine and heart in the middle are brighter than the image's corners.
        middle, corner = image_2d[90:150, 95:130].mean(), image_2d[:20, :20].mean()
        darker[volume.facts["photometric"]].append(middle > corner)
    assert len(darker["MONOCHROME1"]) > 5
    assert np.mean(darker["MONOCHROME1"]) > 0.85
    assert np.mean(darker["MONOCHROME2"]) > 0.85


def test_stored_pixels_of_real_radiographs_equal_pydicoms(shared_data):
    for path in sorted((shared_data / "chest-xray").rglob("*.dcm"))[:25]:
        stored = decode_frame(read_dataset(path.read_bytes()))
        np.testing.assert_array_equal(stored, dcmread(path).pixel_array)
