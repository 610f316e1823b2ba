"""A step that learns sees training images as the steps before it leave them, and is then frozen."""

import json

import numpy as np
import pytest

from tasks.cohort.fingerprint import Fingerprint
from tasks.hashing import digest_json
from tasks.imaging.histogram import LANDMARKS
from tasks.imaging.learning import measure, next_to_measure
from tasks.imaging.recipe import FittedRecipe, Image, apply, fit
from tasks.imaging.step import CaseMeasure
from tasks.imaging.steps import STEPS, needs_fingerprint, needs_fit, parse_steps

FINGERPRINT = Fingerprint((2.0, 2.0, 2.0), (4, 20, 20), 10.0, 5.0, -2.0, 30.0, 4, "f" * 32)

STEPS_TWICE = [
    {"step": "clip", "low": 0, "high": 500},
    {"step": "histogram_standard"},
    {"step": "gamma", "gamma": 2.0},
    {"step": "histogram_standard"},
]


def picture(seed: int) -> Image:
    rng = np.random.default_rng(seed)
    return Image(rng.gamma(2, 100 * (1 + seed), (4, 20, 20)).astype(np.float32), np.eye(4))


def fitted(steps, seeds, fingerprint=None):
    """Fit as the flow does: a pass over the training images for each step that learns."""
    steps, measured, passes = parse_steps(steps), {}, []
    while (index := next_to_measure(steps, measured)) is not None:
        before = fit(steps[:index], fingerprint, measured)
        measured[index] = [measure(before, steps[index], picture(s), f"case{s}") for s in seeds]
        passes.append(index)
    return fit(steps, fingerprint, measured), passes


def test_each_learning_step_is_fitted_on_what_comes_out_of_the_one_before():
    recipe, passes = fitted(STEPS_TWICE, [1, 2, 3])
    assert passes == [1, 3]
    clipped = [np.clip(picture(seed).array, 0, 500) for seed in (1, 2, 3)]
    own = [np.percentile(one[one > one.mean()], LANDMARKS) for one in clipped]
    expected = np.mean([100 * (o - o[0]) / (o[-1] - o[0]) for o in own], axis=0)
    np.testing.assert_allclose(recipe.steps[1].params["standard"], expected, rtol=1e-4, atol=1e-4)
    halfway = FittedRecipe(recipe.steps[:3])
    outs = [apply(halfway, picture(seed))[0].array for seed in (1, 2, 3)]
    own = [np.percentile(one[one > one.mean()], LANDMARKS) for one in outs]
    expected = np.mean([100 * (o - o[0]) / (o[-1] - o[0]) for o in own], axis=0)
    np.testing.assert_allclose(recipe.steps[3].params["standard"], expected, rtol=1e-4, atol=1e-4)


def test_the_fit_is_frozen_with_the_hash_of_its_cases_and_survives_json():
    recipe, _ = fitted(STEPS_TWICE, [3, 1, 2])
    assert recipe.fitted_on == digest_json(["case1", "case2", "case3"])
    assert recipe == fitted(STEPS_TWICE, [2, 3, 1])[0]
    again = FittedRecipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe
    new = picture(0)
    np.testing.assert_array_equal(apply(again, new)[0].array, apply(recipe, new)[0].array)


def test_other_cases_make_another_hash():
    assert fitted(STEPS_TWICE, [1, 2])[0].fitted_on != fitted(STEPS_TWICE, [1, 3])[0].fitted_on


def test_a_fingerprint_and_measures_of_other_cases_are_both_in_the_hash():
    steps = [{"step": "histogram_standard"}, {"step": "resample", "spacing": "median"}]
    recipe, _ = fitted(steps, [1, 2], FINGERPRINT)
    both = sorted([FINGERPRINT.case_hash, digest_json(["case1", "case2"])])
    assert recipe.fitted_on == digest_json(both)
    assert recipe.steps[1].params == {"spacing": [2.0, 2.0, 2.0]}


def test_only_what_a_step_learns_from_is_asked_for():
    steps = parse_steps(STEPS_TWICE)
    assert needs_fit(steps)
    assert not needs_fingerprint(steps)
    assert needs_fingerprint(parse_steps([{"step": "resample", "spacing": "median"}]))
    given = parse_steps([{"step": "histogram_standard", "standard": list(range(11))}])
    assert next_to_measure(given, {}) is None
    assert not needs_fit(given)


@pytest.mark.parametrize("measured", [None, {}, {0: []}])
def test_without_training_images_the_fit_is_refused(measured):
    steps = parse_steps([{"step": "histogram_standard"}])
    with pytest.raises(ValueError, match="learns from training images and 0 were measured"):
        fit(steps, FINGERPRINT, measured)


def test_a_measure_is_small_and_plain():
    steps = parse_steps(STEPS_TWICE)
    found = measure(fit(steps[:1], None), steps[1], picture(1), "case1")
    assert isinstance(found, CaseMeasure)
    assert len(json.dumps(dict(found.numbers))) < 1000


def test_a_step_learns_in_one_way():
    for name, step in STEPS.items():
        assert (step.measure is None) == (step.learn is None), name
        assert step.fit is None or step.learn is None, name
