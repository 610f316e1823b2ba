import numpy as np
import pytest

from tasks.errors import BadCase
from tasks.imaging.normalise import NORMALISE, NormaliseParameters
from tasks.imaging.step import Image
from tests.imaging.noisy import noisy, stepped


def masked(array, mask):
    params = NormaliseParameters(method="masked_zscore", mask="brain")
    return NORMALISE.apply(Image(array, np.eye(4), {"brain": mask}), params)[0].array


def test_masked_zscore_has_its_moments_inside_and_scales_all():
    array = noisy()
    mask = (array > 250).astype(np.uint8)
    out = masked(array, mask)
    inside = out[mask > 0]
    assert (inside.mean(), inside.std()) == pytest.approx((0, 1), abs=1e-5)
    values = array[mask > 0].astype(np.float64)
    np.testing.assert_allclose(out, (array - values.mean()) / values.std(), rtol=0, atol=1e-5)


def test_masked_zscore_of_a_mask_that_shows_nothing_is_a_bad_case():
    array = noisy()
    one = np.zeros(array.shape, np.uint8)
    with pytest.raises(BadCase, match="empty_mask"):
        masked(array, one)
    one[0, 0, 0] = 1
    with pytest.raises(BadCase, match="constant_image"):
        masked(array, one)
    with pytest.raises(BadCase, match="no_such_mask"):
        stepped(array, "normalise", method="masked_zscore", mask="brain")


@pytest.mark.parametrize(("low", "high"), [(None, None), (5, 80), (0, 100)])
def test_percentile_brings_two_percentiles_to_0_and_1(low, high):
    array = noisy()
    given = {} if low is None else {"low": low, "high": high}
    out = stepped(array, "normalise", method="percentile", **given)
    ends = np.percentile(out, (1 if low is None else low, 99 if high is None else high))
    np.testing.assert_allclose(ends, (0, 1), rtol=0, atol=1e-5)
    assert np.corrcoef(out.ravel(), array.ravel())[0, 1] == pytest.approx(1, abs=1e-6)
    with pytest.raises(BadCase, match="constant_image"):
        stepped(np.ones((1, 4, 4)), "normalise", method="percentile", **given)


def test_parameters_that_came_later_do_not_change_the_ids_of_older_recipes():
    old = {"mean": None, "std": None, "p005": None, "p995": None}
    assert NormaliseParameters().model_dump(mode="json") == {"method": "zscore", **old}
    from tasks.imaging.window import WindowParameters

    assert WindowParameters(name="lung").model_dump(mode="json") == {
        "name": "lung",
        "level": None,
        "width": None,
    }
