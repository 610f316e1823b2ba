"""What a frame shows: grey whatever its polarity, colour or table, and the spacing it tells."""

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from tasks.archive.grey import shown_grey
from tasks.archive.pixels import decode_frame, read_dataset
from tasks.archive.sources import FileRef
from tasks.archive.volume import UNKNOWN_SPACING, read_volume
from tests.archive.made_images import image, ramp, reason, saved


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
