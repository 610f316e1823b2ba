import numpy as np
import pytest
from pydicom import Dataset
from pydicom.pixels import apply_windowing

from tasks.errors import BadCase
from tasks.imaging.recipe import apply, fit
from tasks.imaging.step import Image
from tasks.imaging.steps import parse_steps
from tests.imaging.noisy import stepped

HU = np.arange(-1200, 1500, 7, dtype=np.int16).reshape(1, 2, -1)


def dicom_window(array, level, width, function):
    """Return what pydicom makes of the window, scaled to 0 .. 1."""
    dataset = Dataset()
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsStored, dataset.PixelRepresentation = 16, 1
    dataset.WindowCenter, dataset.WindowWidth = level, width
    dataset.VOILUTFunction = function.upper()
    shown = apply_windowing(array.astype(np.float64), dataset)
    return (shown + 32768) / 65535


@pytest.mark.parametrize("function", ["linear", "linear_exact", "sigmoid"])
@pytest.mark.parametrize(("level", "width"), [(40, 400), (-600, 1500), (50.5, 20)])
def test_each_function_is_that_of_dicom(function, level, width):
    out = stepped(HU, "window", level=level, width=width, function=function)
    expected = dicom_window(HU, level, width, function)
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-5)


def test_a_linear_window_of_width_one_is_a_threshold():
    out = stepped(HU, "window", level=40, width=1, function="linear")
    np.testing.assert_array_equal(out, HU > 39.5)


def test_soft_tissue_is_a_name():
    np.testing.assert_array_equal(
        stepped(HU, "window", name="soft_tissue"), stepped(HU, "window", level=40, width=400)
    )


def header_window(array, **facts):
    recipe = fit(parse_steps([{"step": "window", "name": "header"}]), None)
    return apply(recipe, Image(array, np.eye(4), facts=facts))[0].array


def test_the_window_of_the_file_is_obeyed_with_its_function():
    for function in ("linear", "linear_exact", "sigmoid"):
        stated = {"level": 50.0, "width": 350.0, "function": function}
        np.testing.assert_array_equal(
            header_window(HU, window=stated, modality="CT"), stepped(HU, "window", **stated)
        )


@pytest.mark.parametrize("voi", ["lut", "window"])
def test_a_radiograph_that_was_read_through_its_window_is_only_scaled(voi):
    out = header_window(HU, voi=voi, modality="DX", window={"level": 1, "width": 2})
    np.testing.assert_allclose(out, (HU + 1200.0) / np.ptp(HU), rtol=0, atol=1e-6)


def test_without_a_window_in_the_file_the_case_is_refused():
    for facts in ({}, {"voi": "none"}, {"window": None}):
        with pytest.raises(BadCase, match="no_window"):
            header_window(HU, **facts)
    with pytest.raises(BadCase, match="constant_image"):
        header_window(np.zeros((1, 2, 2)), voi="lut")
