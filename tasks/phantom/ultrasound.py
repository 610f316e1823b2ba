"""What an ultrasound scanner makes of tissue: speckle, focus, attenuation, gain, logarithm."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from tasks.phantom.fields import smooth_field

SNR_RAYLEIGH = 1.91
"""Mean over standard deviation of the envelope of fully developed speckle: Rayleigh."""


def speckle(
    rng: np.random.Generator, strength: np.ndarray, axial: float, lateral: np.ndarray | float
) -> np.ndarray:
    """Return the envelope a scanner sees of many scatterers in each resolution cell.

    Scatterers are complex Gaussian numbers, summed by a Gaussian pulse: where the strength is even,
    the envelope is Rayleigh (Wagner et al., IEEE Trans Sonics Ultrason 1983).

    Parameters
    ----------
    rng : numpy Generator
    strength : array of float32, shape (rows, columns)
        Root mean square of the scatterers.
    axial : float
        Pulse width along rows, standard deviation in pixels.
    lateral : float or array, shape (rows, 1)
        Beam width in pixels: two at least blurred and mixed where it changes with depth.
    """
    noise = rng.standard_normal((2, *strength.shape), dtype=np.float32) * strength
    noise = gaussian_filter1d(noise, axial, axis=1)
    wide = np.broadcast_to(np.asarray(lateral, dtype=np.float32), (strength.shape[0], 1))
    low, high = float(wide.min()), float(wide.max())
    near = gaussian_filter1d(noise, low, axis=2) * np.sqrt(low)
    if high > low:
        far = gaussian_filter1d(noise, high, axis=2) * np.sqrt(high)
        share = (wide - low) / (high - low)
        near = near * np.sqrt(1 - share) + far * np.sqrt(share)
    return np.hypot(near[0], near[1]) * np.sqrt(axial)


def insonate(
    rng: np.random.Generator,
    axes: list[np.ndarray],
    strength: np.ndarray,
    loss: np.ndarray,
    spacing: tuple[float, float],
) -> np.ndarray:
    """Return a map of tissue as a scanner shows it: pulse, focus, gain with depth, logarithm.

    Parameters
    ----------
    rng : numpy Generator
    axes : list of array
        (depth, across) in mm.
    strength, loss : array of float32, shape (rows, columns)
        Scatterers' root mean square, and attenuation in dB per cm one way.
    spacing : tuple of float
        (row, column) in mm.

    Returns
    -------
    array of uint8, shape (rows, columns)
    """
    depth = axes[0] - axes[0].ravel()[0]
    focus = rng.uniform(12, 24)
    lateral = (0.20 + 0.014 * np.abs(depth - focus)) / spacing[1]
    envelope = speckle(rng, strength, rng.uniform(0.09, 0.14) / spacing[0], lateral)
    # Loss counts there and back; the gain makes up for the usual loss, not for this patient's.
    lost = np.cumsum(loss, axis=0, dtype=np.float32) * np.float32(2 * spacing[0] / 10)
    lost = gaussian_filter1d(lost, 0.7 / spacing[1], axis=1)
    gained = depth * np.float32(2 * rng.uniform(0.55, 0.75) / 10)
    decibel = 20 * np.log10(envelope + 1e-5) - lost + gained
    decibel += np.float32(1.5) * smooth_field(rng, axes, (12, 14))
    noise = 20 * np.log10(np.abs(rng.standard_normal(strength.shape, dtype=np.float32)) + 1e-3)
    decibel = np.maximum(decibel, noise - 44 + gained * 0.6)
    span = rng.uniform(46, 56)
    shown = (decibel - np.percentile(decibel, 99.7)) / span + 1
    shown = np.clip(shown, 0, 1) ** rng.uniform(1.2, 1.6)
    return np.rint(shown * 255).astype(np.uint8)
