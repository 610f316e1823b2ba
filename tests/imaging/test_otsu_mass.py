"""A threshold's outline of a drawn mass: something, and nothing where there is nothing."""

import numpy as np
from scipy.ndimage import gaussian_filter

from tasks.evaluate.segmentation import dice_per_class
from tasks.imaging.otsu_mass import otsu_mass


def speckled(mass: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y, x = np.indices((96, 96))
    truth = ((y - 50) / 18) ** 2 + ((x - 44) / 24) ** 2 < 1 if mass else np.zeros((96, 96), bool)
    echo = np.where(truth, 0.2, 1.0)
    echo[80:, :20] = 0.1  # a shadow in the corner
    return gaussian_filter(echo, 1) * rng.rayleigh(1, echo.shape), truth


def test_a_dark_mass_in_the_middle_is_outlined_and_a_shadow_aside_is_not():
    image, truth = speckled(mass=True)
    found = otsu_mass(image)
    assert dice_per_class(truth.astype(np.uint8), found.astype(np.uint8), 1)[0][0] > 0.8
    assert not found[80:, :20].any()


def test_an_image_of_one_grey_has_no_mass():
    assert not otsu_mass(np.full((40, 50), 7.0)).any()
