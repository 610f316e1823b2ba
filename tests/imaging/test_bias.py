import numpy as np
import pytest
import SimpleITK

from tasks.errors import BadCase
from tasks.imaging.bias import BIAS_CORRECTION, BiasParameters, log_bias_field, otsu_mask
from tasks.imaging.step import Image
from tests.imaging.noisy import stepped

SHAPE = (16, 64, 60)


def tissue() -> np.ndarray:
    """Return two tissues in a head, without noise outside it."""
    _, y, x = np.indices(SHAPE)
    head = (y - 32) ** 2 / 28**2 + (x - 30) ** 2 / 26**2 < 1
    inner = (y - 32) ** 2 / 16**2 + (x - 30) ** 2 / 15**2 < 1
    noise = np.random.default_rng(2).normal(0, 3, SHAPE)
    return (head * (100 + 60 * inner + noise)).astype(np.float32)


def coil() -> np.ndarray:
    """Return a field that doubles from one side of the head to the other."""
    _, y, x = np.indices(SHAPE)
    return np.exp(0.7 * (x - 30) / 60 + 0.4 * ((y - 32) / 64) ** 2).astype(np.float32)


def unevenness(array: np.ndarray) -> float:
    """Return the coefficient of variation of the inner tissue."""
    _, y, x = np.indices(SHAPE)
    inside = (y - 32) ** 2 / 14**2 + (x - 30) ** 2 / 13**2 < 1
    return float(array[inside].std() / array[inside].mean())


def test_the_field_of_a_coil_is_taken_out():
    image = tissue() * coil()
    assert unevenness(image) > 2 * unevenness(tissue())
    assert unevenness(stepped(image, "bias_correction")) < 1.2 * unevenness(tissue())


def test_the_same_image_gives_the_same_bytes():
    image = tissue() * coil()
    first, second = (stepped(image, "bias_correction", iterations=[5, 5]) for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_it_is_simpleitk_s_n4():
    image = SimpleITK.GetImageFromArray(tissue() * coil())
    mask = SimpleITK.OtsuThreshold(image, 0, 1, 200)
    small, small_mask = (SimpleITK.Shrink(one, [4, 4, 4]) for one in (image, mask))
    n4 = SimpleITK.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations([10, 10])
    n4.Execute(small, small_mask)
    peer = image / SimpleITK.Exp(n4.GetLogBiasFieldAsImage(image))
    out = stepped(tissue() * coil(), "bias_correction", iterations=[10, 10])
    np.testing.assert_allclose(out, SimpleITK.GetArrayFromImage(peer), rtol=1e-4)


def test_otsu_finds_the_head():
    assert (otsu_mask(tissue()) == (tissue() > 50)).mean() > 0.999


def test_a_named_mask_says_where_tissue_is():
    image = tissue() * coil()
    mask = (tissue() > 130).astype(np.uint8)
    params = BiasParameters(mask="brain", iterations=(10, 10))
    out, _ = BIAS_CORRECTION.apply(Image(image, np.eye(4), {"brain": mask}), params)
    field = log_bias_field(image, mask > 0, 4, (10, 10), 0.001)
    np.testing.assert_allclose(out.array, image / np.exp(field), rtol=1e-6)
    with pytest.raises(BadCase, match="there are: brain"):
        BIAS_CORRECTION.apply(
            Image(image, np.eye(4), {"brain": mask}), BiasParameters(mask="skull")
        )
    with pytest.raises(BadCase, match="empty_mask"):
        BIAS_CORRECTION.apply(Image(image, np.eye(4), {"brain": mask * 0}), params)


@pytest.mark.parametrize("value", [0, -5, 7])
def test_an_image_without_tissue_is_a_bad_case_or_stays_as_it_is(value):
    flat = np.full((4, 16, 16), value, np.float32)
    with pytest.raises(BadCase, match="no_bias_field"):
        stepped(flat, "bias_correction")


@pytest.mark.parametrize("slices", [1, 2, 5])
def test_few_slices_are_corrected_too(slices):
    image = (tissue() * coil())[:slices]
    out = stepped(image, "bias_correction", iterations=[20, 20])
    _, y, x = np.indices(image.shape)
    inside = (y - 32) ** 2 / 14**2 + (x - 30) ** 2 / 13**2 < 1
    spread = [one[inside].std() / one[inside].mean() for one in (image, out)]
    assert spread[1] < 0.7 * spread[0]
