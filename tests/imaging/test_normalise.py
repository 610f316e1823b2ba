import numpy as np
import pytest

from tasks.cohort.fingerprint import Fingerprint
from tasks.errors import BadCase
from tasks.imaging.normalise import NORMALISE, NormaliseParameters
from tasks.imaging.recipe import fit
from tasks.imaging.step import Image
from tasks.imaging.steps import parse_steps
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


def seen(modalities, inside=1.0):
    numbers = ((2.0, 1.0, 1.0), (10, 20, 20), 40.0, 60.0, -200.0, 300.0, 4, "f" * 32)
    return Fingerprint(*numbers, inside_share=inside, modalities=modalities)


@pytest.mark.parametrize(
    ("modalities", "inside", "method"),
    [
        (("CT",), 0.4, "fingerprint"),
        (("MR",), 0.76, "zscore"),
        (("MR",), 0.74, "nonzero_zscore"),
        (("MR", "PT"), 1.0, "zscore"),
    ],
)
def test_auto_follows_nnunet(modalities, inside, method):
    found = NORMALISE.fit(NormaliseParameters(method="auto"), seen(modalities, inside))
    assert found.method == method
    assert not NORMALISE.needs_fit(found)
    if method == "fingerprint":
        assert (found.mean, found.std, found.p005, found.p995) == (40, 60, -200, 300)


@pytest.mark.parametrize(
    ("modalities", "said"), [(("",), "not said"), (("CT", "MR"), "CT, MR"), ((), "not said")]
)
def test_auto_does_not_guess_whether_images_are_ct(modalities, said):
    with pytest.raises(ValueError, match=f"modality is {said}; choose one"):
        NORMALISE.fit(NormaliseParameters(method="auto"), seen(modalities))


@pytest.mark.parametrize(("modality", "refused"), [("CT", True), ("MR", False)])
def test_what_source_images_taught_is_not_held_to_an_image_of_another_unit(modality, refused):
    """A windowed CT would be clipped at nothing, and be one grey after it."""
    window = {"step": "window", "name": "lung"}
    steps = parse_steps([window, {"step": "normalise", "method": "auto"}])
    if refused:
        with pytest.raises(ValueError, match="window before it brings them to another: take"):
            fit(steps, seen((modality,)))
    else:
        assert fit(steps, seen((modality,))).steps[1].params["method"] == "zscore"
