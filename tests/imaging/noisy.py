"""A phantom whose truth is known: flat organs with sharp borders, and noise on top."""

import numpy as np

from tasks.imaging.recipe import Image, apply, fit
from tasks.imaging.steps import parse_steps

SIGMA = 20.0
"""Standard deviation of the noise; the smallest step between organs is four times that."""


def truth(shape=(10, 64, 60)) -> np.ndarray:
    """Return flat regions: a body, an organ in it, a vessel through all slices."""
    z, y, x = np.indices(shape)
    body = (y - 32) ** 2 / 26**2 + (x - 30) ** 2 / 24**2 < 1
    organ = (y - 25) ** 2 + (x - 22) ** 2 + (z - 5) ** 2 < 80
    vessel = abs(y - 44) + abs(x - 38) < 6
    return (100 + 200.0 * body + 80 * organ + 160 * vessel).astype(np.float32)


def noisy(shape=(10, 64, 60), seed=3) -> np.ndarray:
    clean = truth(shape)
    noise = np.random.default_rng(seed).normal(0, SIGMA, shape)
    return (clean + noise).astype(np.float32)


def psnr(array: np.ndarray, clean: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio in dB, the peak being the truth's range."""
    error = np.square(array.astype(np.float64) - clean).mean()
    return float(10 * np.log10(np.ptp(clean) ** 2 / error))


def at_edges(clean: np.ndarray) -> np.ndarray:
    """Return where a neighbour in the plane is of another region."""
    edge = np.zeros(clean.shape, bool)
    for axis in (1, 2):
        jump = np.diff(clean, axis=axis) != 0
        pad = [(0, 0)] * 3
        for ends in ((0, 1), (1, 0)):
            pad[axis] = ends
            edge |= np.pad(jump, pad)
    return edge


def edge_error(array: np.ndarray, clean: np.ndarray) -> float:
    """Return the root mean squared error of the voxels at edges."""
    edge = at_edges(clean)
    return float(np.sqrt(np.square(array[edge] - clean[edge]).mean()))


def stepped(array: np.ndarray, step: str, spacing=(1.0, 1.0, 1.0), **params) -> np.ndarray:
    """Return what one recipe step makes of an array."""
    affine = np.diag([*spacing, 1.0])[[2, 1, 0, 3]]
    recipe = fit(parse_steps([{"step": step, **params}]), None)
    return apply(recipe, Image(array, affine))[0].array
