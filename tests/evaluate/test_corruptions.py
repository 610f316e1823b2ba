"""Each corruption against what it is said to do, on images whose answer is known."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, uniform_filter1d

from tasks.evaluate import corruptions as made
from tasks.evaluate.stress import CORRUPTIONS, SEVERITIES, corrupt, kind_of

SPACING = (2.0, 0.5, 0.5)
ALL = [(kind, one) for kind, row in CORRUPTIONS.items() for one in row]


def grey(shape=(6, 48, 40), seed=0):
    """A smooth picture from 0 to 1000 with texture, as a patient is."""
    rng = np.random.default_rng(seed)
    image = gaussian_filter(rng.normal(size=shape), (1, 3, 3))
    image = (image - image.min()) / np.ptp(image)
    return (1000 * image + rng.normal(0, 5, shape)).clip(0).astype(np.float32)


def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize(("kind", "one"), ALL, ids=lambda v: getattr(v, "name", v))
def test_severities_are_repeatable_and_move_ever_further_away(kind, one):
    image = grey()
    away = []
    for severity in SEVERITIES:
        worse = corrupt(image, one, severity, SPACING, "case", seed=1)
        assert worse.shape == image.shape
        assert worse.dtype == np.float32
        assert np.isfinite(worse).all()
        np.testing.assert_array_equal(worse, corrupt(image, one, severity, SPACING, "case", seed=1))
        away.append(float(np.sqrt(np.mean((worse - image) ** 2))))
    assert away == sorted(away)
    assert away[0] > 0
    assert image.max() <= 1000 + 50  # the image that came in is left as it was


def test_each_case_draws_its_own_and_each_severity_the_same():
    (noise,) = [one for one in CORRUPTIONS["ct"] if one.name == "dose_noise"]
    image = np.zeros((2, 64, 64), np.float32)
    first, second = (corrupt(image, noise, 1, SPACING, name) for name in ("a", "b"))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05
    np.testing.assert_allclose(corrupt(image, noise, 5, SPACING, "a"), 6 * first, rtol=1e-4)
    assert first.std() == pytest.approx(10, rel=0.03)


def test_integers_as_files_hold_them_are_taken():
    image = np.rint(grey()).astype(np.int16)
    for _, one in ALL:
        assert corrupt(image, one, 3, SPACING, "case").dtype == np.float32


def test_an_image_of_one_value_stays_finite():
    for _, one in ALL:
        flat = np.full((3, 16, 16), 40, np.int16)
        assert np.isfinite(corrupt(flat, one, 5, SPACING, "case")).all()


def test_thick_slices_are_means_of_slices():
    image = grey()
    np.testing.assert_allclose(
        made.thick_slices(image, 3.0, SPACING, rng()),
        uniform_filter1d(image, 3, axis=0, mode="nearest"),
        rtol=1e-5,
    )
    # One and a half slices: the slice itself, and a quarter of a slice on either side.
    found = made.thick_slices(image, 1.5, SPACING, rng())
    expected = (0.25 * image[1] + image[2] + 0.25 * image[3]) / 1.5
    np.testing.assert_allclose(found[2], expected, rtol=1e-5)


def test_a_kernel_is_wide_in_millimetres():
    image = grey()
    np.testing.assert_allclose(
        made.smooth_kernel(image, 1.0, SPACING, rng()),
        gaussian_filter(image, (0, 2, 2), mode="nearest"),
        rtol=1e-5,
    )


def test_a_ghost_lies_half_a_field_away():
    image = np.zeros((1, 32, 32), np.float32)
    image[0, 4, 9] = 100
    found = made.ghosting(image, 0.4, SPACING, rng())
    assert found[0, 4, 9] == pytest.approx(80, abs=1e-3)
    assert found[0, 20, 9] == pytest.approx(20, abs=1e-3)
    assert found.sum() == pytest.approx(100, abs=0.1)


def test_motion_keeps_every_line_and_changes_its_phase():
    image = grey()
    still = made.motion(image, 0.0, SPACING, rng())
    np.testing.assert_allclose(still, image, atol=0.01)
    moved = made.motion(image, 6.0, SPACING, rng())
    assert np.sqrt((moved**2).mean()) == pytest.approx(np.sqrt((image**2).mean()), rel=0.02)
    # The centre of k-space is where it was: so is the middle of the patient.
    assert moved.mean() == pytest.approx(image.mean(), rel=0.02)


def test_rician_noise_without_signal_has_rayleighs_mean():
    image = np.zeros((1, 200, 200), np.float32)
    image[0, :3] = 1000  # 1.5 % of the pixels set the range
    found = made.rician(image, 0.05, SPACING, rng())
    assert found[0, 3:].mean() == pytest.approx(50 * np.sqrt(np.pi / 2), rel=0.02)


def test_a_bias_field_is_smooth_and_of_the_size_told():
    image = np.full((5, 40, 30), 100, np.float32)
    log = np.log(made.bias_field(image, 0.5, SPACING, rng()) / 100)
    assert np.abs(log).max() == pytest.approx(0.5, rel=1e-3)
    assert np.abs(np.diff(log, axis=1)).max() < 0.12


def test_a_jpeg_is_the_librarys_own():
    image = np.arange(32 * 32, dtype=np.float32).reshape(1, 32, 32)
    low, high = made.grey_range(image)
    levels = np.rint(np.clip((image[0] - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(levels).save(stream, "jpeg", quality=30)
    expected = np.asarray(Image.open(stream)) / 255 * (high - low) + low
    found = made.jpeg(image, 30, SPACING, rng())
    np.testing.assert_allclose(found[0], expected, rtol=1e-4)


def test_pixels_are_the_mean_of_what_they_stand_for():
    image = grey((2, 40, 40))
    found = made.pixelate(image, 0.25, SPACING, rng())
    blocks = image.reshape(2, 10, 4, 10, 4).mean((2, 4))
    np.testing.assert_allclose(found[:, ::4, ::4], blocks, rtol=1e-4)
    assert len(np.unique(found[0])) <= 100


def test_tones_saturate_where_the_range_ends():
    image = grey()
    low, high = made.grey_range(image)
    bright = made.brightness(image, 2.0, SPACING, rng())
    assert bright.max() == pytest.approx(high, rel=1e-5)
    inside = (image > low) & (image < (low + high) / 2)
    np.testing.assert_allclose(bright[inside] - low, 2 * (image[inside] - low), rtol=1e-3)
    power = made.gamma(image, 0.5, SPACING, rng())[inside]
    expected = low + np.sqrt((image[inside] - low) / (high - low)) * (high - low)
    np.testing.assert_allclose(power, expected, rtol=1e-4)


def test_motion_blur_smears_a_point_into_a_line():
    image = np.zeros((1, 101, 101), np.float32)
    image[0, 50, 50] = 100
    found = made.motion_blur(image, 0.1, SPACING, rng())[0]
    assert found.sum() == pytest.approx(100, rel=1e-4)
    points = np.argwhere(found > 0.5) - 50
    long, short = np.sqrt(np.linalg.eigvalsh(np.cov(points.T))[::-1])
    assert long > 4 * short
    assert np.linalg.norm(points, axis=1).max() == pytest.approx(5, abs=1)


def test_the_commonest_modality_says_the_kind():
    assert kind_of(["DX", "CR", "DX", None]) == "radiograph"
    assert kind_of(["MR"]) == "mr"
    assert kind_of([None, None]) == "any"
    assert kind_of(["PT"]) == "any"
