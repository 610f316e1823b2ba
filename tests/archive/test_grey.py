"""Greys of radiographs step by step: modality LUT, VOI, polarity, padding and shutter."""

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from tasks.archive.grey import AIR_HU, shown_grey, slice_in_units
from tests.archive.test_pixels import image, ramp


def table(first, values, bits=16):
    """A look-up table item (PS3.3 C.11.1.1.1) whose first stored value is `first`."""
    item = Dataset()
    item.LUTDescriptor = [len(values), first, bits]
    item.add_new(0x00283006, "OW", np.asarray(values, "<u2").tobytes())
    return item


def test_a_modality_table_gives_the_units():
    values = np.sqrt(np.arange(4096)).astype(int) * 10
    dataset = image(ramp(), bits_stored=12, modality="CT", ModalityLUTSequence=[table(0, values)])
    np.testing.assert_array_equal(slice_in_units(dataset), values[ramp()])
    np.testing.assert_array_equal(slice_in_units(dataset), apply_modality_lut(ramp(), dataset))


def test_a_voi_table_begins_at_its_first_value_and_holds_its_ends():
    values = np.arange(1000) * 4
    dataset = image(ramp(), bits_stored=12, VOILUTSequence=[table(1500, values)])
    shown, voi = shown_grey(dataset)
    assert voi == "lut"
    np.testing.assert_array_equal(shown, np.clip(ramp().astype(int) - 1500, 0, 999) * 4)


def test_of_several_tables_and_windows_the_first_is_taken():
    one = image(ramp(), bits_stored=12, WindowCenter=["900", "40"], WindowWidth=["500", "80"])
    first = image(ramp(), bits_stored=12, WindowCenter="900", WindowWidth="500")
    np.testing.assert_array_equal(shown_grey(one)[0], shown_grey(first)[0])
    tables = [table(0, np.arange(4096)[::-1]), table(0, np.zeros(4096))]
    shown, _ = shown_grey(image(ramp(), bits_stored=12, VOILUTSequence=tables))
    np.testing.assert_array_equal(shown, 4095 - ramp().astype(int))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_each_function_of_a_window_is_pydicoms(function):
    window = {"WindowCenter": "1800", "WindowWidth": "700", "VOILUTFunction": function}
    dataset = image(ramp(), bits_stored=12, **window)
    expected = apply_voi_lut(ramp().astype(np.int64), dataset)
    np.testing.assert_allclose(shown_grey(dataset)[0], expected, rtol=1e-6)
    assert np.ptp(expected) > 3000


def test_a_range_of_padding_is_black_in_a_picture_and_air_in_a_ct():
    padding = {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 300}
    hidden = ramp() <= 300
    shown, _ = shown_grey(image(ramp(), bits_stored=12, photometric="MONOCHROME1", **padding))
    assert (shown[hidden] == shown[~hidden].min()).all()
    units = slice_in_units(image(ramp(), bits_stored=12, modality="CT", **padding))
    assert (units[hidden] == AIR_HU).all()
    np.testing.assert_array_equal(units[~hidden], ramp()[~hidden])


def test_padding_that_no_pixel_has_changes_nothing():
    plain, padded = (
        shown_grey(image(ramp(), bits_stored=12, **more))[0]
        for more in ({}, {"PixelPaddingValue": 9999})
    )
    np.testing.assert_array_equal(plain, padded)


def test_padding_of_a_signed_image_may_be_written_unsigned():
    array = ramp().astype(np.int16) - 1000
    array[:3] = -2000
    dataset = image(array, modality="CT")
    dataset.add_new(0x00280120, "US", 65536 - 2000)
    units = slice_in_units(dataset)
    assert (units[:3] == AIR_HU).all()
    np.testing.assert_array_equal(units[3:], array[3:])


def test_a_mammogram_goes_through_every_step_once():
    """MONOCHROME1, INVERSE, a table, padding and a shutter: as IHE's mammograms for processing."""
    values = (np.arange(4096) ** 1.5 / 64).astype(int)
    dataset = image(
        ramp(), bits_stored=12, modality="MG", photometric="MONOCHROME1",
        PresentationLUTShape="INVERSE", VOILUTSequence=[table(0, values)],
        PixelPaddingValue=4095, ShutterShape="RECTANGULAR", ShutterLeftVerticalEdge=3,
        ShutterRightVerticalEdge=18, ShutterUpperHorizontalEdge=2, ShutterLowerHorizontalEdge=24,
    )  # fmt: skip
    shown, voi = shown_grey(dataset)
    expected = values[0] + values[4095] - values[ramp()]
    y, x = np.indices(ramp().shape)
    hidden = (ramp() == 4095) | (x + 1 < 3) | (x + 1 > 18) | (y + 1 < 2)
    assert voi == "lut"
    np.testing.assert_array_equal(shown[~hidden], expected[~hidden])
    assert (shown[hidden] == expected[~hidden].min()).all()
