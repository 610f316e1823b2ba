"""Places in millimetres, smooth random fields and soft edges: what all phantoms draw with.

All sizes are millimetres, never voxels: a finer matrix shows the same kind of body more finely.
"""

from collections.abc import Sequence

import numpy as np

DIFFICULTIES = ("easy", "standard", "hard")
"""How much a phantom hides what is to be found."""


def check_difficulty(difficulty: str) -> None:
    """Raise ValueError for a word that is none of :data:`DIFFICULTIES`."""
    if difficulty not in DIFFICULTIES:
        msg = f"difficulty is {', '.join(DIFFICULTIES)}, not {difficulty!r}"
        raise ValueError(msg)


def centred_axes(shape: Sequence[int], spacing: Sequence[float]) -> list[np.ndarray]:
    """Return one coordinate array an axis, in mm about the grid's middle, ready to broadcast."""
    axes = []
    for axis, (n, step) in enumerate(zip(shape, spacing, strict=True)):
        line = (np.arange(n, dtype=np.float32) - (n - 1) / 2) * np.float32(step)
        axes.append(line.reshape([-1 if i == axis else 1 for i in range(len(shape))]))
    return axes


def smooth_field(
    rng: np.random.Generator, axes: Sequence[np.ndarray], length: float | Sequence[float]
) -> np.ndarray:
    """Return a stationary Gaussian field of mean 0 and variance 1.

    White noise on a lattice of step `length`, spread by Gaussians of that width: separable, so a
    matrix product an axis.

    Parameters
    ----------
    rng : numpy Generator
    axes : sequence of array
        Coordinates in mm, each of full length along its own axis (see :func:`centred_axes`).
    length : float or sequence of float
        Width of a blob in mm, of each axis or of all.

    Returns
    -------
    array of float32, of the broadcast shape of the axes
    """
    lengths = np.broadcast_to(length, (len(axes),))
    weights = []
    for axis, wide in zip(axes, lengths, strict=True):
        line = axis.ravel().astype(np.float64) / wide
        reach = int(np.ceil(np.abs(line).max())) + 3
        spread = np.exp(-0.5 * (line[:, None] - np.arange(-reach, reach + 1)) ** 2)
        spread /= np.sqrt((spread**2).sum(axis=1, keepdims=True))
        weights.append(spread.astype(np.float32))
    field = rng.standard_normal([w.shape[1] for w in weights], dtype=np.float32)
    for w in weights:
        # Each product takes the first axis away and puts its result last: after all, in order.
        field = np.tensordot(field, w, axes=([0], [1]))
    return field


def step(distance: np.ndarray, softness: float) -> np.ndarray:
    """Return 0 below and 1 above a distance of zero, linear over `softness`: partial volume."""
    return np.clip(distance / np.float32(softness) + np.float32(0.5), 0, 1)


def mix(image: np.ndarray, value: np.ndarray | float, share: np.ndarray) -> None:
    """Put `value` over the image where `share` is 1, in between where it lies between; in place."""
    image += share * (value - image)
