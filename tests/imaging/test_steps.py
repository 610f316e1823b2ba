"""What each step does to intensities and grids."""

import numpy as np
import pytest
from scipy.ndimage import zoom

from tasks.errors import BadCase
from tasks.imaging.recipe import Image, fixed_shape, output_dtype
from tasks.imaging.resample import resize_linear, resize_nearest
from tests.imaging.pictures import picture, run


def test_window_and_clip_keep_to_their_limits():
    _, out, _ = run({"step": "window", "level": 50, "width": 200})
    np.testing.assert_allclose(
        out.array, np.clip((picture().array + 50) / 200, 0, 1), rtol=0, atol=1e-6
    )
    _, out, _ = run({"step": "clip", "low": -10, "high": 200})
    np.testing.assert_array_equal(out.array, np.clip(picture().array, -10, 200))


def test_percentile_clip_cuts_that_share_of_voxels():
    _, out, _ = run({"step": "percentile_clip", "low": 5, "high": 90})
    source = picture().array
    assert np.mean(source > out.array) == pytest.approx(0.10, abs=0.01)
    assert np.mean(source < out.array) <= 0.06


def test_normalise_gives_the_moments_its_method_names():
    _, out, _ = run({"step": "normalise"})
    assert (out.array.mean(), out.array.std()) == pytest.approx((0, 1), abs=1e-5)
    _, out, _ = run({"step": "normalise", "method": "minmax"})
    assert (out.array.min(), out.array.max()) == (0, 1)
    _, out, _ = run({"step": "normalise", "method": "nonzero_zscore"})
    zero = picture().array == 0
    assert not out.array[zero].any()
    assert (out.array[~zero].mean(), out.array[~zero].std()) == pytest.approx((0, 1), abs=1e-5)
    _, out, _ = run({"step": "normalise", "method": "fingerprint"})
    expected = (np.clip(picture().array, -20, 300) - 100) / 50
    np.testing.assert_allclose(out.array, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", ["zscore", "minmax", "nonzero_zscore"])
def test_an_image_that_shows_nothing_is_a_bad_case(method):
    blank = Image(np.zeros((1, 8, 8), np.int16), np.eye(4))
    with pytest.raises(BadCase, match="constant_image"):
        run({"step": "normalise", "method": method}, image=blank)
    with pytest.raises(BadCase, match="constant_image"):
        run({"step": "clahe"}, image=blank)
    with pytest.raises(BadCase, match="no_foreground"):
        run({"step": "crop", "shape": "foreground"}, image=blank)


def test_clahe_raises_local_contrast_and_keeps_the_range():
    ramp = np.tile(np.linspace(400, 500, 128), (1, 128, 1)).astype(np.float32)
    ramp[0, :10, :10] = 0
    ramp[0, -10:, -10:] = 1000
    _, out, _ = run({"step": "clahe", "clip_limit": 40}, image=Image(ramp, np.eye(4)))
    assert out.array.min() >= 0
    assert out.array.max() <= 1000.01
    tile = slice(64, 76)
    assert np.ptp(out.array[0, 64, tile]) > 2 * np.ptp(ramp[0, 64, tile])


@pytest.mark.parametrize("shape", [(33, 96, 70), (10, 30, 25), (20, 60, 80), (1, 96, 7)])
def test_linear_resizing_equals_scipy_on_the_same_grid(shape):
    array = np.random.default_rng(0).random((20, 60, 50), dtype=np.float32)
    peer = zoom(array, np.divide(shape, array.shape), order=1, grid_mode=True, mode="nearest")
    np.testing.assert_allclose(resize_linear(array, shape), peer, rtol=0, atol=1e-6)


def test_a_shrinking_image_is_averaged_over_area():
    array = np.random.default_rng(0).random((1, 40, 60), dtype=np.float32)
    mean = array.reshape(1, 10, 4, 20, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(resize_linear(array, (1, 10, 20)), mean, rtol=0, atol=1e-6)


def test_nearest_resizing_makes_no_new_value():
    label = np.random.default_rng(0).choice([0, 3, 250], (7, 9, 11)).astype(np.uint8)
    out = resize_nearest(label, (20, 5, 11))
    assert out.dtype == np.uint8
    assert set(np.unique(out)) <= {0, 3, 250}
    np.testing.assert_array_equal(resize_nearest(label, (21, 27, 33))[1::3, 1::3, 1::3], label)


def test_resampling_reaches_the_spacing_within_a_voxel_of_the_field():
    _, out, _ = run({"step": "resample", "spacing": [1.5, 1.0, 2.0]})
    source = picture()
    spacing = np.linalg.norm(out.affine[:3, :3], axis=0)
    field = np.array(source.array.shape) * (3.0, 0.8, 0.8)
    np.testing.assert_allclose(spacing * out.array.shape, field)
    assert (abs(field - np.array(out.array.shape) * (1.5, 1.0, 2.0)) <= (1.5, 1.0, 2.0)).all()


def test_a_spacing_that_makes_an_absurd_image_is_a_bad_case():
    with pytest.raises(BadCase, match="resample_too_large"):
        run({"step": "resample", "spacing": [0.1, 0.1, 0.1]})


def test_padding_to_multiples_adds_the_least_that_will_do():
    _, out, traces = run({"step": "pad", "multiple_of": [4, 8, 16], "value": -7})
    assert out.array.shape == (8, 24, 32)
    np.testing.assert_array_equal(out.array[1:7, :, 6:26], picture().array)
    assert (out.array[:, :, :6] == -7).all()
    assert traces[0]["start"] == [-1, 0, -6]


def test_store_as_rounds_and_refuses_what_does_not_fit():
    recipe, out, _ = run(
        {"step": "clip", "low": 0.5, "high": 9}, {"step": "store_as", "dtype": "int16"}
    )
    assert out.array.dtype == output_dtype(recipe) == np.int16
    big = Image(np.full((1, 4, 4), 70000, np.int32), np.eye(4))
    for dtype in ("int16", "float16"):
        with pytest.raises(BadCase, match="out_of_range"):
            run({"step": "store_as", "dtype": dtype}, image=big)


def test_voxels_are_float32_unless_said():
    recipe, out, _ = run({"step": "percentile_clip"})
    assert out.array.dtype == output_dtype(recipe) == np.float32


@pytest.mark.parametrize(
    ("steps", "shape"),
    [
        ([{"step": "pad_square"}, {"step": "resize", "shape": [1, 96, 96]}], (1, 96, 96)),
        ([{"step": "crop", "shape": [4, 5, 6]}, {"step": "pad", "shape": [4, 5, 6]}], (4, 5, 6)),
        (
            [{"step": "pad", "shape": [9, 40, 40]}, {"step": "crop", "shape": [9, 40, 40]}],
            (9, 40, 40),
        ),
        ([{"step": "resize", "shape": [2, 8, 5]}, {"step": "pad_square"}], (2, 8, 8)),
        ([{"step": "pad", "shape": [4, 5, 6]}], None),
        ([{"step": "pad", "multiple_of": [4, 5, 6]}], None),
        (
            [{"step": "resize", "shape": [2, 8, 5]}, {"step": "pad", "multiple_of": [4, 8, 4]}],
            (4, 8, 8),
        ),
        ([{"step": "crop", "shape": [4, 5, 6]}], None),
        ([{"step": "resize", "shape": [2, 8, 5]}, {"step": "crop", "shape": "foreground"}], None),
        ([{"step": "resize", "shape": [2, 8, 5]}, {"step": "resample", "spacing": "median"}], None),
        ([], None),
    ],
)
def test_the_fixed_shape_is_known_before_any_image(steps, shape):
    recipe, out, _ = run(*steps)
    assert fixed_shape(recipe) == shape
    if shape:
        assert out.array.shape == shape


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "step", [{"step": "store_as", "dtype": "int16"}, {"step": "clahe"}], ids=["store_as", "clahe"]
)
def test_a_value_that_is_no_number_never_becomes_one(step, value):
    image = picture()
    array = image.array.astype(np.float32)
    array[2, 3, 4] = value
    with pytest.raises(BadCase) as refused:
        run(step, image=Image(array, image.affine))
    assert refused.value.reason in ("not_finite", "out_of_range")
