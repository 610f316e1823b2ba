"""CT scanners: what kernel, spacing, dose and slices make of a body in HU."""

from dataclasses import dataclass

import numpy as np
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from scipy.ndimage import correlate1d, gaussian_filter, gaussian_filter1d


@dataclass(frozen=True)
class Scanner:
    """One synthetic make of CT; headers are invented after what such devices write.

    Attributes
    ----------
    manufacturer, model, kernel : str
    blur : float
        Width of the in-plane point spread, in mm.
    edge : float
        Height of the kernel's edge enhancement; 0 for a soft one.
    noise : float
        Standard deviation of the noise in the lung, in HU at 2.5 mm voxels.
    spacing : float
        In-plane spacing over the asked one.
    tube : float
        kVp.
    """

    manufacturer: str
    model: str
    kernel: str
    blur: float
    edge: float
    noise: float
    spacing: float
    tube: float


SCANNERS = (
    Scanner("GE MEDICAL SYSTEMS", "LightSpeed VCT", "STANDARD", 0.9, 0.0, 14, 1.0, 120),
    Scanner("GE MEDICAL SYSTEMS", "LightSpeed16", "LUNG", 0.5, 0.55, 34, 0.97, 120),
    Scanner("SIEMENS", "Sensation 64", "B30f", 1.0, 0.0, 16, 1.02, 120),
    Scanner("SIEMENS", "Definition AS", "B60f", 0.5, 0.45, 30, 0.94, 100),
    Scanner("Philips", "Brilliance 64", "C", 0.8, 0.15, 20, 1.05, 140),
    Scanner("TOSHIBA", "Aquilion", "FC10", 0.9, 0.05, 18, 1.0, 120),
)

SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
)

DOSES = {"easy": 0.6, "standard": 1.0, "hard": 1.7}
"""Noise over the scanner's own, by difficulty."""


def scan(
    body: np.ndarray,
    spacing: tuple[float, float, float],
    scanner: Scanner,
    seed: int,
    dose: float = 1.0,
) -> np.ndarray:
    """Return a body as a scanner shows it.

    The kernel blurs or enhances within the slice; noise is made by the same kernel, so that a sharp
    one is both sharper and grainier, is stronger behind more tissue, and differs along z as slices
    overlap a little.

    Parameters
    ----------
    body : array of float32, shape (z, y, x)
        HU.
    spacing : tuple of float
        (z, y, x) in mm.
    scanner : Scanner
    seed : int
    dose : float
        Factor on the noise.

    Returns
    -------
    array of int16
        HU, not below -1024.
    """
    rng = np.random.default_rng([seed, 77])
    width = scanner.blur / spacing[1]
    noise = rng.standard_normal(body.shape, dtype=np.float32)
    noise = correlate1d(noise, [0.25, 0.5, 0.25], axis=0)
    shown = [gaussian_filter(v, (0, width, width), truncate=3) for v in (body, noise)]
    if scanner.edge:
        wide = max(2.2 * width, 0.8)
        shown = [
            v + scanner.edge * (v - gaussian_filter(v, (0, wide, wide), truncate=2.5))
            for v in shown
        ]
    image, grain = shown
    # What lies in the beam, as the mean over each line of the slice both ways.
    tissue = np.clip(body + 1000, 0, 2200) / 1000
    wall = tissue.mean(axis=2, keepdims=True) + tissue.mean(axis=1, keepdims=True)
    strength = gaussian_filter1d(wall, 4, axis=2, mode="nearest")
    strength = np.sqrt(strength / strength.mean())
    image += grain * (scanner.noise * dose / grain.std()) * strength
    return np.maximum(np.rint(image), -1024).astype(np.int16)
