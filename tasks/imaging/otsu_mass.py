"""The classical outline of a mass in ultrasound: smoothing, Otsu's threshold, a component.

Nothing is learned, so that a network has something to be held against.  Masses echo less than the
tissue around them; so do shadows, fat and vessels, which is why this is a baseline and no tool.
"""

import numpy as np

SMOOTHING = 0.012
"""Of the Gaussian, as a fraction of the image's height: speckle would else make specks."""

FARTHEST = 0.35
"""From the middle of the image, as a fraction of its size: sonographers put the mass there."""


def otsu_mass(image: np.ndarray) -> np.ndarray:
    """Return the largest dark component whose middle lies in the middle of the image.

    Parameters
    ----------
    image : array, shape (y, x)

    Returns
    -------
    array of bool, shape (y, x)
        Empty where no component qualifies.
    """
    from scipy.ndimage import binary_fill_holes, binary_opening, center_of_mass, gaussian_filter
    from scipy.ndimage import label as components
    from skimage.filters import threshold_otsu

    smooth = gaussian_filter(np.asarray(image, np.float32), SMOOTHING * image.shape[0])
    if smooth.min() == smooth.max():
        return np.zeros(image.shape, bool)
    dark = binary_opening(smooth < threshold_otsu(smooth), iterations=2)
    parts, count = components(dark)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    for number in np.argsort(-sizes[1:]) + 1:
        part = parts == number
        away = np.array(center_of_mass(part)) / image.shape - 0.5
        if np.abs(away).max() <= FARTHEST:
            return binary_fill_holes(part)
    return np.zeros(image.shape, bool)
