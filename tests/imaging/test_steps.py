"""What each step does to intensities and grids, and that its output keeps its version."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import zoom

from tasks.cohort.fingerprint import Fingerprint
from tasks.errors import BadCase
from tasks.hashing import digest_json
from tasks.imaging.columns import numbers_of
from tasks.imaging.recipe import Image, apply, fit, fixed_shape, output_dtype
from tasks.imaging.resample import resize_linear, resize_nearest
from tasks.imaging.steps import STEPS, parse_steps
from tests.imaging.masks import examples as mask_examples

GOLDEN = Path(__file__).with_name("golden.json")

GOLDEN_DECIMALS = 3
"""Outputs are rounded to this before the digest: CPUs differ in the last bits of a float32."""

ROUNDING_GUARD = 0.05
"""A value this near to a rounding border (in units of the last kept decimal) is moved off it, so
that the last bits of a float32 cannot flip the digest."""

TOLERANT = {
    "anisotropic_diffusion",
    "bias_correction",
    "bilateral",
    "gamma",
    "gaussian",
    "histogram_standard",
    "lee",
    "log_compress",
    "non_local_means",
    "resample",
    "total_variation",
    "unsharp",
}
"""Steps whose every voxel is a sum or a power that CPUs round otherwise: quantiles are kept of
them instead of a digest, which one voxel at a rounding border would change."""

GOLDEN_SHARE = 1e-4
"""Such a quantile may move by this share of the output's range; rounding moves it by 1e-6."""

FINGERPRINT = Fingerprint((2.0, 1.0, 1.0), (10, 20, 20), 100.0, 50.0, -20.0, 300.0, 4, "f" * 32)

EXAMPLES = {
    "window": [
        {"name": "lung"},
        {"level": 50, "width": 200},
        {"level": 50, "width": 200, "function": "linear"},
    ],
    "clip": [{"low": -10, "high": 200}],
    "percentile_clip": [{}, {"low": 2, "high": 90}],
    "clahe": [{}, {"clip_limit": 4.0, "tiles": 2}],
    "normalise": [
        {},
        {"method": "minmax"},
        {"method": "fingerprint"},
        {"method": "nonzero_zscore"},
        {"method": "percentile"},
    ],
    "median": [{}, {"size": 7}, {"dimensions": 3}],
    "gaussian": [{"sigma": 1.2}, {"sigma": 1.5, "unit": "voxels", "dimensions": 3}],
    "bilateral": [
        {"sigma": 1.5, "sigma_value": 60},
        {"sigma": 1.0, "sigma_value": 60, "unit": "mm", "dimensions": 3},
    ],
    "non_local_means": [{"sigma": 17}, {"patch": 3, "reach": 2, "sigma": 17, "dimensions": 3}],
    "total_variation": [{"weight": 20}, {"weight": 20, "iterations": 30, "dimensions": 3}],
    "anisotropic_diffusion": [{"kappa": 40}, {"kappa": 40, "edge": "rational", "dimensions": 3}],
    "lee": [{"noise": 0.1}, {"kind": "additive", "size": 5, "dimensions": 3}],
    "log_compress": [{}],
    "gamma": [{"gamma": 0.5}],
    "unsharp": [{"amount": 0.7}, {"sigma": 2.0, "unit": "mm", "dimensions": 3}],
    "bias_correction": [{"shrink": 2, "iterations": [5, 5]}],
    "histogram_standard": [{"standard": [0, 10, 20, 30, 40, 50, 60, 70, 80, 95, 100]}],
    "store_as": [{"dtype": "int16"}, {"dtype": "float16"}],
    "reorient": [{}, {"orientation": "AIR"}],
    "resample": [
        {"spacing": [1.5, 1.0, 2.0]},
        {"spacing": "median"},
        {"spacing": [1.5, 1.0, 0.7], "order": "cubic"},
        {"spacing": "median", "order": "cubic", "thick_axis": "cubic"},
    ],
    "resize": [{"shape": [4, 9, 40]}],
    "crop": [{"shape": [4, 10, 100]}, {"shape": "foreground", "threshold": 200, "margin": 1}],
    "pad": [
        {"shape": [9, 30, 10]},
        {"shape": [9, 30, 10], "value": -5},
        {"multiple_of": [4, 16, 32]},
    ],
    "pad_square": [{}],
    **mask_examples.EXAMPLES,
    "features": [
        {"families": ["intensity", "hog"]},
        {
            "families": ["intensity", "histogram", "shape", "glcm", "lbp"],
            "mask": "ball",
            "bin_width": 25,
            "resegment": [0, 600],
            "glcm": ["2d_averaged", "3d_merged"],
        },
    ],
    "straighten": [{}],
}


def picture(shape=(6, 24, 20), spacing=(3.0, 0.8, 0.8), *, marked=False) -> Image:
    """Return a fixed image: a bright ball on a slope with noise, and zeros at one side.

    Marked, it comes with the ball as a mask.
    """
    z, y, x = np.indices(shape)
    ball = (z - 3) ** 2 * 4 + (y - 10) ** 2 + (x - 9) ** 2 < 40
    noise = np.random.default_rng(7).integers(-30, 30, shape)
    array = (5 * x + 400 * ball + noise).astype(np.int16)
    array[:, :, :3] = 0
    masks = {"ball": ball.astype(np.uint8)} if marked else {}
    return Image(array, np.diag([*spacing, 1.0])[[2, 1, 0, 3]], masks)


def leaning() -> Image:
    """Return the picture under a gantry tilted by 15 degrees: what an upright one never shows."""
    image = picture()
    affine = image.affine.copy()
    affine[:3, 0] += 3 * np.tan(np.radians(15)) * affine[:3, 1] / 0.8
    return Image(image.array, affine)


PICTURES = {
    **mask_examples.PICTURES,
    "features": picture(marked=True),
    "straighten": leaning(),
    "log_compress": Image(np.abs(picture().array), picture().affine),
}
"""What a step's golden output is made of, where it is not `picture`."""


def run(*steps, image=None):
    recipe = fit(parse_steps(steps), FINGERPRINT)
    out, traces = apply(recipe, image or picture())
    return recipe, out, traces


def stable_digest(array: np.ndarray) -> str:
    scaled = np.rint(array.astype(np.float64) * 10**GOLDEN_DECIMALS + ROUNDING_GUARD)
    head = f"{array.dtype}{array.shape}".encode()
    return hashlib.sha256(head + scaled.astype(np.int64).tobytes()).hexdigest()[:32]


def digest_of(image: Image) -> str:
    """Return the digest of the voxels, or of voxels and masks where there are masks."""
    digests = [stable_digest(image.array)]
    digests += [name + stable_digest(mask) for name, mask in sorted(image.masks.items())]
    joined = " ".join(digests).encode()
    return digests[0] if len(digests) == 1 else hashlib.sha256(joined).hexdigest()[:32]


def kept_of(name: str, image: Image, traces: tuple[dict, ...] = ()) -> str | list[float]:
    """Return what is kept of an output: a digest, or quantiles and a mean along each axis.

    Of a step that measures, the digest of the voxels and of its numbers.
    """
    if numbers := numbers_of(traces):
        shown = {key: None if n is None else f"{n:.6g}" for key, n in numbers.items()}
        return digest_json([stable_digest(image.array), shown])
    if name not in TOLERANT:
        return digest_of(image)
    array = image.array
    values = np.quantile(array.astype(np.float64), np.linspace(0, 1, 9)).tolist()
    weights = (np.linspace(1, 2, size) for size in array.shape)
    values += [float(np.tensordot(array, w, (axis, 0)).mean()) for axis, w in enumerate(weights)]
    return [float(f"{value:.7g}") for value in values]


def same(kept: str | list[float], now: str | list[float]) -> bool:
    if isinstance(kept, str):
        return kept == now
    return np.allclose(kept, now, rtol=0, atol=GOLDEN_SHARE * (now[8] - now[0]))


def golden_now() -> dict[str, list]:
    return {
        f"{name} {STEPS[name].version}": [
            kept_of(name, *run({"step": name, **params}, image=PICTURES.get(name))[1:])
            for params in EXAMPLES[name]
        ]
        for name in sorted(STEPS)
    }


def test_output_of_every_step_is_that_of_its_version():
    """A changed output needs a raised version: then run `python -m tests.imaging.test_steps`."""
    kept, now = json.loads(GOLDEN.read_text()), golden_now()
    assert EXAMPLES.keys() == STEPS.keys()
    for key, digests in now.items():
        name, version = key.split()
        assert key in kept, f"step {name} has version {version} and no golden output: write it"
        unchanged = all(same(*pair) for pair in zip(kept[key], digests, strict=True))
        assert unchanged, f"output of step {name} changed: raise its version"


def test_the_golden_test_sees_a_small_change():
    _, out, _ = run({"step": "resize", "shape": [4, 9, 40]})
    assert stable_digest(out.array) != stable_digest(out.array * np.float32(1.001))
    assert stable_digest(out.array) == stable_digest(out.array + np.float32(1e-6))
    before = kept_of("gaussian", out)
    for other in (out.array * np.float32(1.001), out.array[:, ::-1]):
        assert not same(before, kept_of("gaussian", Image(other, out.affine)))
    assert same(before, kept_of("gaussian", Image(out.array * np.float32(1 + 1e-6), out.affine)))
    marked = Image(out.array, out.affine, {"lung": np.ones(out.array.shape, np.uint8)})
    other = Image(out.array, out.affine, {"lung": np.zeros(out.array.shape, np.uint8)})
    assert len({digest_of(image) for image in (out, marked, other)}) == 3


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


if __name__ == "__main__":
    kept = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    for key, outputs in golden_now().items():
        # What is kept of a version stays; examples may be added to it.
        kept[key] = [*kept.get(key, ()), *outputs[len(kept.get(key, ())) :]]
    GOLDEN.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
