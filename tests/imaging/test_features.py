"""The measuring step: its columns, its place in a recipe, and what it refuses."""

import importlib.util
import json

import numpy as np
import pytest

from tasks.errors import BadCase
from tasks.imaging import features
from tasks.imaging.columns import MOST_COLUMNS, columns_of, numbers_of
from tasks.imaging.radiomics import run_lengths
from tasks.imaging.recipe import FittedRecipe, apply, fit, invert, replay
from tasks.imaging.step import FEATURES, Image, Parameters, Step
from tasks.imaging.steps import parse_steps
from tests.imaging.radiomics import ibsi

ALL = {"families": ["intensity", "histogram", "shape", "glcm", "lbp"], "mask": "roi", "bins": 6}


def recipe_of(*steps):
    return fit(parse_steps([{"step": "features", **step} for step in steps]), None)


def test_numbers_travel_in_the_trace_and_the_image_stays_as_it_is():
    image = ibsi.digital_phantom()
    recipe = recipe_of(ALL)
    out, traces = apply(recipe, image)
    np.testing.assert_array_equal(out.array, image.array)
    np.testing.assert_array_equal(out.affine, image.affine)
    np.testing.assert_array_equal(out.masks["roi"], image.masks["roi"])
    found = numbers_of(traces)
    assert tuple(found) == columns_of(recipe)
    assert found["roi_intensity_mean"] == pytest.approx(159 / 74, rel=1e-11)
    assert found["roi_glcm_3d_merged_contrast"] == pytest.approx(5.117647, rel=1e-6)
    assert found["roi_shape_volume"] == pytest.approx(556.333, rel=1e-5)


def test_trace_survives_the_json_of_a_part_and_geometry_ignores_it():
    image = Image(np.zeros((2, 9, 9), np.int16), np.eye(4))
    steps = [
        {"step": "features", "families": ["intensity", "glcm"], "bins": 4},
        {"step": "crop", "shape": [2, 5, 5]},
    ]
    recipe = fit(parse_steps(steps), None)
    out, traces = apply(recipe, image)
    kept = json.loads(json.dumps(list(traces), allow_nan=False))
    assert numbers_of(kept) == numbers_of(traces)
    assert numbers_of(kept)["image_glcm_3d_merged_correlation"] is None
    assert replay(recipe, kept, Image(image.array, image.affine)).array.shape == (2, 5, 5)
    assert invert(recipe, kept, out.array, kind="label").shape == (2, 9, 9)


def test_the_place_in_the_recipe_decides_what_is_measured():
    array = np.random.default_rng(1).normal(300, 20, (2, 8, 8)).astype(np.float32)
    measure = {"step": "features", "families": ["intensity"]}
    before = fit(parse_steps([measure, {"step": "normalise"}]), None)
    after = fit(parse_steps([{"step": "normalise"}, measure]), None)
    image = Image(array, np.eye(4))
    means = [
        numbers_of(apply(recipe, image)[1])["image_intensity_mean"] for recipe in (before, after)
    ]
    assert means[0] == pytest.approx(float(array.mean()), rel=1e-5)
    assert means[1] == pytest.approx(0, abs=1e-5)
    assert before != after


def test_two_regions_have_columns_of_their_own():
    image = ibsi.digital_phantom()
    both = recipe_of(
        {"families": ["intensity"], "mask": "roi"}, {"families": ["intensity"], "name": "all"}
    )
    found = numbers_of(apply(both, image)[1])
    assert found["roi_intensity_maximum"] == 6
    assert found["all_intensity_maximum"] == ibsi.OUTSIDE
    assert tuple(found) == columns_of(both)
    again = recipe_of({"families": ["intensity"]}, {"families": ["intensity"]})
    with pytest.raises(ValueError, match="two features steps give the column 'image_intensity_"):
        columns_of(again)


def test_too_many_columns_are_refused_before_any_image():
    gradients = [{"families": ["hog"], "hog_cells": 8, "name": name} for name in ("a", "b", "c")]
    assert len(columns_of(recipe_of(*gradients[:2]))) == MOST_COLUMNS
    with pytest.raises(ValueError, match=f"over {MOST_COLUMNS}"):
        columns_of(recipe_of(*gradients))


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"families": []}, "families"),
        ({"families": ["intensity", "intensity"]}, "names one of them twice"),
        ({"families": ["glcm"]}, "give either bins or bin_width"),
        ({"families": ["glcm"], "bins": 8, "bin_width": 5}, "give either bins or bin_width"),
        ({"families": ["intensity"], "bins": 8}, "go with histogram, glcm, lbp and mirp only"),
        ({"families": ["glcm"], "bin_width": 5}, "bin_width needs resegment"),
        ({"families": ["shape"]}, "need a mask"),
        ({"families": ["intensity"], "label": 1}, "need a mask"),
        ({"families": ["intensity"], "resegment": [5, 5]}, "is no range"),
        ({"families": ["intensity"], "masks": "roi"}, "did you mean 'mask'"),
        ({"families": ["intensity"], "name": "Lung Left"}, "name"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_when_read(params, says):
    with pytest.raises(ValueError, match=says):
        recipe_of(params)


def test_a_mask_nobody_made_is_a_bad_case():
    image = Image(np.zeros((1, 4, 4), np.int16), np.eye(4))
    with pytest.raises(BadCase, match="no step before made a mask named 'lung'"):
        apply(recipe_of({"families": ["intensity"], "mask": "lung"}), image)


def test_a_missing_package_is_a_sentence_when_the_recipe_is_read(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    run_lengths.mirp_names.cache_clear()
    with pytest.raises(ValueError, match=r"needs the package mirp: install radloop\[radiomics\]"):
        columns_of(recipe_of({"families": ["mirp"], "bins": 8}))


def test_mirps_numbers_are_columns_too():
    pytest.importorskip("mirp", reason="mirp is not installed (radloop[radiomics])")
    recipe = recipe_of({"families": ["mirp"], "mask": "roi", "bins": 6})
    found = numbers_of(apply(recipe, ibsi.digital_phantom())[1])
    assert tuple(found) == columns_of(recipe)
    assert found["roi_mirp_szm_lze_3d"] == 550


class Above(Parameters):
    threshold: float = 0.0


def above(image, params):
    mask = (image.array > params.threshold).astype(np.uint8)
    return Image(image.array, image.affine, {"bright": mask}), {}


BRIGHT = Step(version=1, parameters=Above, apply=above)


def test_a_mask_is_measured_on_the_grid_the_image_has_by_then():
    array = np.zeros((4, 16, 16), np.float32)
    array[1:3, 4:12, 4:12] = 50
    affine = np.diag([4.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]]
    measure = {"step": "features", "mask": "bright", "families": ["intensity", "shape"]}
    found = []
    for between in (
        [],
        [{"step": "crop", "shape": [4, 10, 16]}],
        [{"step": "resize", "shape": [8, 16, 16]}],
    ):
        steps = [{"step": f"{__name__}:BRIGHT", "threshold": 25.0}, *between, measure]
        recipe = fit(parse_steps(steps), None)
        found.append(numbers_of(apply(recipe, Image(array, affine))[1]))
    volumes = [one["bright_shape_voxel_volume"] for one in found]
    # 2 x 8 x 8 voxels of 4 mm3, whatever grid they are counted on.
    assert volumes == [512, 512, 512]
    assert [one["bright_intensity_maximum"] for one in found] == [50, 50, 50]


class Quantile(Parameters):
    q: float = 0.5


def quantile(image, params):
    return image, {FEATURES: {f"quantile_{params.q:g}": float(np.quantile(image.array, params.q))}}


OWN = Step(
    version=1,
    parameters=Quantile,
    apply=quantile,
    features=lambda params: (f"quantile_{params.q:g}",),
)


def test_a_foreign_step_measures_as_well():
    recipe = fit(parse_steps([{"step": f"{__name__}:OWN", "q": 0.25}]), None)
    _, traces = apply(recipe, Image(np.arange(5.0).reshape(1, 1, 5), np.eye(4)))
    assert columns_of(recipe) == ("quantile_0.25",)
    assert numbers_of(traces) == {"quantile_0.25": 1.0}
    assert columns_of(FittedRecipe.from_dict(recipe.to_dict())) == columns_of(recipe)


def test_stored_numbers_keep_twelve_digits_and_no_infinity():
    assert features._kept(float("nan")) is features._kept(float("inf")) is None
    assert features._kept(1 / 3) == 0.333333333333
    assert features._kept(-2.5e-300) == -2.5e-300
