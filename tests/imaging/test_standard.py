"""Standard recipes: each fits its own modality, from the first step to the last."""

from dataclasses import replace

import numpy as np
import pytest

from tasks.cohort.fingerprint import Fingerprint
from tasks.imaging.advice import advice
from tasks.imaging.histogram import LANDMARKS
from tasks.imaging.learning import next_to_measure
from tasks.imaging.recipe import apply, fit, invert
from tasks.imaging.standard import STANDARD, standard
from tasks.imaging.step import CaseMeasure, Image
from tasks.imaging.steps import missing_masks, parse_steps
from tests.imaging.masks import phantoms

FINGERPRINT = Fingerprint((3.0, 2.0, 2.0), (20, 90, 90), 40.0, 60.0, -200.0, 300.0, 4, "f" * 32)
FINGERPRINT = replace(FINGERPRINT, target_spacing=(3.0, 2.0, 2.0), modalities=("MR",))

MODALITY = {
    "auto": "MR",
    "ct-lung": "CT", "ct-soft-tissue": "CT", "ct-bone": "CT", "mr-brain": "MR", "mr": "MR",
    "radiograph": "DX", "mammogram": "MG", "ultrasound": "US",
}  # fmt: skip


def plane(modality):
    """Return a single image: noise about two tissues, dark outside."""
    rng = np.random.default_rng(3)
    array = rng.normal(60, 8, (1, 150, 190)).clip(0)
    array[:, 30:120, 50:160] += 90
    array[:, :, :10] = 0
    return Image(array.astype(np.float32), np.eye(4), facts={"modality": modality})


def picture_of(name):
    if name.startswith("ct"):
        return phantoms.chest()[0]
    if name == "mr-brain":
        return phantoms.head()[0]
    if name == "mammogram":
        return phantoms.mammogram()[0]
    if name in ("mr", "auto"):
        return Image(phantoms.head()[0].array, phantoms.head()[0].affine, facts={"modality": "MR"})
    return plane(MODALITY[name])


def fitted(name):
    steps, measured = parse_steps(standard(name)), {}
    while (index := next_to_measure(steps, measured)) is not None:
        numbers = {"landmarks": np.linspace(0, 400, len(LANDMARKS)).tolist()}
        measured[index] = [CaseMeasure("a", numbers)]
    return fit(steps, FINGERPRINT, measured)


def test_every_recipe_has_a_modality_here():
    assert MODALITY.keys() == STANDARD.keys()


@pytest.mark.parametrize("name", STANDARD)
def test_no_step_is_advised_against_and_no_mask_is_missing(name):
    steps = parse_steps(standard(name))
    assert advice(steps, {MODALITY[name]}) == ()
    assert missing_masks(steps) == []


@pytest.mark.parametrize("name", STANDARD)
def test_an_image_goes_through_and_an_answer_comes_back(name):
    image, recipe = picture_of(name), fitted(name)
    out, traces = apply(recipe, image)
    assert out.array.dtype == np.float32
    assert np.isfinite(out.array).all()
    assert out.array.std() > 0.01
    back = invert(recipe, traces, np.ones(out.array.shape, np.uint8), kind="label")
    assert back.shape == image.array.shape
    assert back.any()


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'ct-lung'"):
        standard("ct_lung")
    with pytest.raises(ValueError, match="there are auto, ct-lung"):
        standard("zzz")
