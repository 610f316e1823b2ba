"""A fixed image that steps are run on, upright or leaning."""

import numpy as np

from tasks.cohort.fingerprint import Fingerprint
from tasks.imaging.recipe import Image, apply, fit
from tasks.imaging.steps import parse_steps

FINGERPRINT = Fingerprint((2.0, 1.0, 1.0), (10, 20, 20), 100.0, 50.0, -20.0, 300.0, 4, "f" * 32)


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


def run(*steps, image=None):
    recipe = fit(parse_steps(steps), FINGERPRINT)
    out, traces = apply(recipe, image or picture())
    return recipe, out, traces
