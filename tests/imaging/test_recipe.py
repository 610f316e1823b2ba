import json
import sys
import types

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from tasks.cohort.fingerprint import Fingerprint
from tasks.errors import BadCase
from tasks.imaging.recipe import FittedRecipe, FittedStep, Image, apply, fit, invert, replay
from tasks.imaging.step import Parameters, Step
from tasks.imaging.steps import STEPS, needs_fit, parse_steps

HALF_VOXEL = 0.5
"""A blob's centre may move by this, in voxels of the coarser grid: a grid cannot say it finer."""

FINGERPRINT = Fingerprint((2.0, 1.0, 1.5), (10, 20, 20), 10.0, 5.0, -2.0, 30.0, 4, "f" * 32)

sizes = st.tuples(*[st.integers(1, 30)] * 3)
spacings = st.tuples(*[st.floats(0.7, 3.0)] * 3).map(list)
pads_and_crops = st.one_of(
    sizes.map(lambda shape: {"step": "crop", "shape": list(shape)}),
    sizes.map(lambda shape: {"step": "pad", "shape": list(shape)}),
    sizes.map(lambda shape: {"step": "pad", "multiple_of": list(shape)}),
    st.just({"step": "pad_square"}),
    st.integers(0, 3).map(lambda n: {"step": "crop", "shape": "foreground", "margin": n}),
    st.integers(0, 3).map(lambda n: {"step": "crop", "shape": "nonzero", "margin": n}),
)
any_geometry = st.one_of(
    pads_and_crops,
    sizes.map(lambda shape: {"step": "resize", "shape": list(shape)}),
    spacings.map(lambda spacing: {"step": "resample", "spacing": spacing}),
    st.just({"step": "resample", "spacing": "median"}),
    spacings.map(
        lambda mm: {"step": "resample", "spacing": mm, "order": "cubic", "masks": "onehot"}
    ),
    st.sampled_from(["SPL", "ILA", "RSP"]).map(
        lambda way: {"step": "reorient", "orientation": way}
    ),
    st.just({"step": "normalise", "method": "minmax"}),
)


def affine_of(spacing, angle=0.3):
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    affine[:3, 3] = (-100, 20, 7)
    return affine


def applied(recipe, image):
    """Apply a drawn recipe; one that a step rightly refuses is not what the test is about."""
    try:
        return apply(recipe, image)
    except BadCase as bad:
        if bad.reason not in ("resample_too_large", "no_foreground"):
            raise
        reject()


def image_of(shape, seed=0):
    array = np.random.default_rng(seed).integers(1, 100, shape).astype(np.int16)
    array.flat[0] = 101 if array.size == 1 else 0
    return Image(array, affine_of((2.0, 1.0, 0.9)))


@settings(max_examples=150, deadline=None)
@given(shape=sizes, steps=st.lists(any_geometry, min_size=1, max_size=4), seed=st.integers(0, 9))
def test_inverting_returns_the_source_grid_exactly(shape, steps, seed):
    steps = [step for step in steps if step["step"] != "normalise"]
    recipe = fit(parse_steps(steps), FINGERPRINT)
    image = image_of(shape, seed)
    out, traces = applied(recipe, image)
    traces = json.loads(json.dumps(traces))
    label = Image((image.array > 50).astype(np.uint8) * 3, image.affine)
    replayed = replay(recipe, traces, label)
    assert replayed.array.shape == out.array.shape
    np.testing.assert_allclose(replayed.affine, out.affine, rtol=0, atol=1e-9)
    assert set(np.unique(replayed.array)) <= {0, 3}
    back = invert(recipe, traces, replayed.array, kind="label")
    assert (back.shape, back.dtype) == (shape, label.array.dtype)
    maps = np.stack([replayed.array / 3, 1 - replayed.array / 3]).astype(np.float32)
    returned = invert(recipe, traces, maps, kind="probability")
    assert returned.shape == (2, *shape)
    assert returned.min() >= 0
    assert returned.max() <= 1 + 1e-6


@settings(max_examples=150, deadline=None)
@given(shape=sizes, steps=st.lists(pads_and_crops, min_size=1, max_size=4), seed=st.integers(0, 9))
def test_pads_and_crops_give_back_the_same_label(shape, steps, seed):
    recipe = fit(parse_steps(steps), None)
    image = image_of(shape, seed)
    _, traces = applied(recipe, image)
    ones = invert(
        recipe,
        traces,
        replay(recipe, traces, Image(np.ones(shape, bool), image.affine)).array,
        kind="label",
    )
    label = np.random.default_rng(seed).integers(0, 200, shape).astype(np.uint8)
    forth = replay(recipe, traces, Image(label, image.affine)).array
    back = invert(recipe, traces, forth, kind="label")
    np.testing.assert_array_equal(back, np.where(ones, label, 0))
    if all(step["step"] in ("pad", "pad_square") for step in steps):
        np.testing.assert_array_equal(back, label)


@settings(max_examples=100, deadline=None)
@given(
    centre=st.tuples(*[st.floats(0.35, 0.65)] * 3),
    step=st.sampled_from(
        [
            {"step": "crop", "shape": [22, 26, 24]},
            {"step": "crop", "shape": "foreground", "threshold": 1, "margin": 2},
            {"step": "pad", "shape": [41, 40, 39], "value": 0},
            {"step": "pad_square", "value": 0},
            {"step": "resize", "shape": [40, 20, 37]},
            {"step": "resample", "spacing": [1.3, 1.7, 0.8]},
            {"step": "resample", "spacing": [1.3, 1.7, 0.8], "order": "cubic"},
            {"step": "reorient", "orientation": "LAI"},
            {"step": "pad", "multiple_of": [7, 8, 9], "value": 0},
            {"step": "resample", "spacing": "median"},
        ]
    ),
    spacing=st.tuples(*[st.floats(0.8, 2.5)] * 3),
)
def test_a_blob_stays_where_it_is_in_the_world(centre, step, spacing):
    shape = np.array((30, 34, 32))
    grid = np.moveaxis(np.indices(shape), 0, -1)
    distance = ((grid - shape * centre) ** 2).sum(axis=-1)
    image = Image((1000 * np.exp(-distance / 8)).astype(np.float32), affine_of(spacing))
    recipe = fit(parse_steps([step]), FINGERPRINT)
    out, _ = apply(recipe, image)

    def world(picture):
        index = np.moveaxis(np.indices(picture.array.shape), 0, -1)
        weight = np.maximum(picture.array - 1, 0).astype(np.float64)
        middle = np.append((index * weight[..., None]).sum(axis=(0, 1, 2)) / weight.sum(), 1)
        return (picture.affine @ middle)[:3]

    coarser = np.maximum(*(np.linalg.norm(i.affine[:3, :3], axis=0) for i in (image, out)))
    moved = np.linalg.solve(affine_of((1, 1, 1))[:3, :3], world(out) - world(image))
    assert (abs(moved) <= HALF_VOXEL * coarser).all()


def test_the_same_image_gives_the_same_bytes():
    recipe = fit(parse_steps(CHEST), None)
    first, _ = apply(recipe, image_of((1, 30, 20)))
    second, _ = apply(recipe, image_of((1, 30, 20)))
    assert first.array.tobytes() == second.array.tobytes()


CHEST = [
    {"step": "percentile_clip", "low": 0.5, "high": 99.5},
    {"step": "pad_square"},
    {"step": "resize", "shape": [1, 96, 96]},
    {"step": "normalise", "method": "zscore"},
]


def test_a_fitted_recipe_survives_json():
    steps = parse_steps([{"step": "resample", "spacing": "median"}, *CHEST[3:]])
    assert needs_fit(steps)
    recipe = fit(steps, FINGERPRINT)
    assert recipe.steps[0].params == {"spacing": [2.0, 1.0, 1.5]}
    assert recipe.fitted_on == "f" * 32
    assert FittedRecipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_a_recipe_that_learns_nothing_is_fitted_on_nothing():
    steps = parse_steps(CHEST)
    assert not needs_fit(steps)
    assert fit(steps, FINGERPRINT).fitted_on == ""
    assert fit(steps, FINGERPRINT) == fit(steps, None)


def test_fitting_without_a_fingerprint_says_which_step_needs_it():
    with pytest.raises(ValueError, match="'normalise' is fitted on training cases"):
        fit(parse_steps([{"step": "normalise", "method": "fingerprint"}]), None)


def test_another_version_of_a_step_is_refused():
    recipe = FittedRecipe((FittedStep("normalise", 99, {"method": "zscore"}),), "")
    with pytest.raises(ValueError, match="fitted with version 99"):
        apply(recipe, image_of((1, 4, 4)))


def test_traces_of_another_image_are_refused():
    recipe = fit(parse_steps(CHEST), None)
    _, traces = apply(recipe, image_of((1, 30, 20)))
    with pytest.raises(ValueError, match="belong to another image"):
        replay(recipe, traces, Image(np.zeros((1, 31, 20), np.uint8), np.eye(4)))
    with pytest.raises(ValueError, match="belong to another image"):
        invert(recipe, traces, np.zeros((1, 95, 96), np.uint8), kind="label")
    with pytest.raises(ValueError, match="kind is 'mask'"):
        invert(recipe, traces, np.zeros((1, 96, 96), np.uint8), kind="mask")


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"step": "rezise", "shape": [1, 2, 3]}, "did you mean 'resize'"),
        ({"step": "zqx"}, "known are anisotropic_diffusion"),
        ({"step": "sharpen"}, "did you mean 'unsharp'"),
        ({"step": "resize", "shap": [1, 2, 3]}, "no parameter 'shap': did you mean 'shape'"),
        ({"step": "resize", "shape": [0, 2, 3]}, "greater than or equal to 1"),
        ({"step": "resize"}, "shape: Field required"),
        ({"step": "window"}, "either name or both level and width"),
        ({"step": "window", "name": "lung", "level": 3}, "either name or both"),
        ({"step": "clip", "low": 3, "high": 3}, "low 3 must be below high 3"),
        ({"step": "percentile_clip", "low": 60, "high": 40}, "low 60 must be below high 40"),
        ({"step": "crop", "shape": [1, 2, 3], "margin": 2}, "goes with shape: foreground or"),
        ({"step": "crop", "shape": "nonzero", "threshold": 2}, "goes with shape: foreground only"),
        ({"step": "normalise", "method": "magic"}, "zscore"),
        ({"step": "normalise", "method": "masked_zscore"}, "it needs one"),
        ({"step": "normalise", "mask": "brain"}, "goes with method: masked_zscore"),
        ({"step": "normalise", "low": 2}, "go with method: percentile only"),
        ({"step": "normalise", "method": "percentile", "low": 99.5}, "must be below high 99"),
        ({"step": "window", "name": "header", "function": "sigmoid"}, "obeys the file's own"),
        (
            {"step": "window", "level": 1, "width": 0.5, "function": "linear"},
            "width 0.5 must be at least 1",
        ),
        ({"step": "median", "size": 4}, "3, 5, 7 or 9"),
        ({"step": "gaussian", "sigma": 1, "unit": "cm"}, "'mm' or 'voxels'"),
        ({"step": "non_local_means", "sigma": -1.0}, "sigma -1 must be above 0"),
        ({"step": "lee", "noise": 0.0}, "noise 0 must be above 0"),
        ({"step": "histogram_standard", "standard": [1, 2]}, "at least 11 items"),
        ({"step": "resample", "spacing": [1, -1, 1]}, "greater than 0"),
        ({"step": "pad"}, "give either shape or multiple_of"),
        ({"step": "pad", "shape": [1, 2, 3], "multiple_of": [1, 2, 3]}, "give either"),
        ({"step": "no.such.module:thing"}, "cannot be imported"),
        ({"step": "json:loads"}, "beside an integer VERSION"),
    ],
)
def test_a_wrong_recipe_is_refused_in_words_that_help(step, message):
    with pytest.raises(ValidationError, match=message):
        parse_steps([step])


def test_store_as_anywhere_but_last_is_refused():
    steps = parse_steps([{"step": "store_as", "dtype": "int16"}, {"step": "pad_square"}])
    with pytest.raises(ValueError, match="must be the last"):
        fit(steps, None)


class GammaParameters(BaseModel):
    gamma: float = 2.0


MARK = Step(
    version=1,
    parameters=Parameters,
    apply=lambda image, params: (
        Image(image.array, image.affine, {"bright": (image.array > 50).astype(np.uint8)}),
        {},
    ),
)


def test_a_mask_that_a_step_makes_goes_through_the_geometry_after_it(monkeypatch):
    monkeypatch.setitem(STEPS, "mark", MARK)
    steps = [
        {"step": "crop", "shape": [4, 6, 8]},
        {"step": "mark"},
        {"step": "resize", "shape": [4, 12, 16]},
        {"step": "pad_square", "value": 0},
    ]
    source = Image(image_of((5, 7, 9)).array, np.eye(4), facts={"modality": "MR"})
    out, _ = apply(fit(parse_steps(steps), None), source)
    before, _ = apply(fit(parse_steps(steps[:1]), None), source)
    expected = np.repeat(np.repeat(before.array > 50, 2, axis=1), 2, axis=2)
    assert out.masks.keys() == {"bright"}
    assert out.facts == {"modality": "MR"}
    np.testing.assert_array_equal(out.masks["bright"][:, 2:-2], expected)
    assert not out.masks["bright"][:, :2].any()


@pytest.fixture
def foreign(monkeypatch):
    """A tiny package of somebody else's."""
    module = types.ModuleType("somebodys_steps")
    module.VERSION = 7

    def gamma(image: Image, params: GammaParameters) -> Image:
        return Image(image.array.astype(np.float32) ** params.gamma, image.affine)

    def cut(image: Image, params: GammaParameters) -> Image:
        return Image(image.array[:, 1:], image.affine)

    module.gamma, module.cut, module.bare = gamma, cut, lambda image, params: image
    monkeypatch.setitem(sys.modules, "somebodys_steps", module)
    return module


def test_a_step_of_another_package_is_used_with_its_own_parameters(foreign):
    recipe = fit(parse_steps([{"step": "somebodys_steps:gamma", "gamma": 3}]), None)
    assert recipe.steps[0] == FittedStep("somebodys_steps:gamma", 7, {"gamma": 3.0})
    image = image_of((2, 3, 4))
    out, traces = apply(recipe, image)
    np.testing.assert_array_equal(out.array, image.array.astype(np.float32) ** 3)
    label = np.ones((2, 3, 4), np.uint8)
    np.testing.assert_array_equal(invert(recipe, traces, label, kind="label"), label)
    with pytest.raises(ValidationError, match="did you mean 'gamma'"):
        parse_steps([{"step": "somebodys_steps:gamma", "gama": 3}])


def test_a_foreign_function_may_not_move_the_grid_or_hide_its_parameters(foreign):
    recipe = fit(parse_steps([{"step": "somebodys_steps:cut"}]), None)
    with pytest.raises(ValueError, match="changed the grid"):
        apply(recipe, image_of((2, 3, 4)))
    with pytest.raises(ValidationError, match="annotated by its model"):
        parse_steps([{"step": "somebodys_steps:bare"}])


def test_importing_the_recipe_brings_no_heavy_package():
    import subprocess

    program = (
        "import sys, tasks.imaging.recipe\n"
        "heavy = ('cv2', 'scipy', 'torch', 'pandas', 'cc3d', 'edt', 'skimage')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
