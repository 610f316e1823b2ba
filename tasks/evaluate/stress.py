"""Which corruptions belong to which modality, each in five severities."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from tasks.evaluate import corruptions as made

SEVERITIES = (1, 2, 3, 4, 5)
"""0 is the image as it is."""

MORE = (1.1, 1.2, 1.3, 1.4, 1.6)
LESS = (0.9, 0.8, 0.7, 0.6, 0.4)
"""Contrast and gamma of MedMNIST-C's chest radiographs."""

OFFSETS = (5.0, 10.0, 20.0, 30.0, 40.0)
"""Hounsfield units by which a calibration may be off; 4 in water is what is tolerated."""


@dataclass(frozen=True)
class Corruption:
    """One thing that goes wrong.

    Parameters
    ----------
    name : str
    family : str
        Corruptions of one family, such as too bright and too dark, together count as one.
    text : str
        What the strength is.
    levels : tuple of five float
        Strength of the severities 1 to 5.
    change : callable (image, strength, spacing, generator) -> image
    needs_slices : bool
        Whether an image of one slice cannot show it.
    """

    name: str
    family: str
    text: str
    levels: tuple[float, ...]
    change: Callable[..., np.ndarray]
    needs_slices: bool = False


def _one(name, text, levels, change, family=None, needs_slices=False) -> Corruption:
    return Corruption(name, family or name, text, levels, change, needs_slices)


_NOISE = _one("noise", "sd, share of the range", (0.04, 0.08, 0.12, 0.18, 0.26), made.noise)
_BLUR = _one(
    "blur", "sigma, share of the longer side", (0.003, 0.006, 0.01, 0.015, 0.02), made.blur
)
_TONES = (
    _one("contrast_up", "factor", MORE, made.contrast, "contrast"),
    _one("contrast_down", "factor", LESS, made.contrast, "contrast"),
    _one("brightness_up", "factor", (1.1, 1.2, 1.3, 1.4, 1.5), made.brightness, "brightness"),
    _one("brightness_down", "factor", (0.9, 0.8, 0.7, 0.6, 0.5), made.brightness, "brightness"),
)
_GAMMAS = (
    _one("gamma_up", "power", MORE, made.gamma, "gamma"),
    _one("gamma_down", "power", LESS, made.gamma, "gamma"),
)

CORRUPTIONS: Mapping[str, tuple[Corruption, ...]] = {
    "radiograph": (
        _NOISE,
        _BLUR,
        *_TONES,
        *_GAMMAS,
        _one("jpeg", "quality", (50, 30, 15, 10, 7), made.jpeg),
        _one("pixelate", "share of the rows kept", (0.5, 0.35, 0.25, 0.15, 0.1), made.pixelate),
    ),
    "ct": (
        _one("dose_noise", "sd in HU", (10, 20, 30, 45, 60), made.unit_noise),
        _one("kernel_smooth", "sigma in mm", (0.4, 0.6, 0.8, 1.0, 1.4), made.smooth_kernel,
             "kernel"),
        _one("kernel_sharp", "share added", (0.5, 1.0, 1.5, 2.0, 3.0), made.sharp_kernel,
             "kernel"),
        _one("slice_thickness", "slices in one", (1.5, 2.0, 3.0, 4.0, 5.0), made.thick_slices,
             needs_slices=True),
        _one("hu_up", "HU", OFFSETS, made.add, "hu_offset"),
        _one("hu_down", "HU", tuple(-value for value in OFFSETS), made.add, "hu_offset"),
    ),
    "mr": (
        _one("bias_field", "largest |log|", (0.2, 0.35, 0.5, 0.65, 0.8), made.bias_field),
        _one("ghosting", "share of a line lost", (0.1, 0.2, 0.3, 0.45, 0.6), made.ghosting),
        _one("motion", "mm", (1.0, 2.0, 3.0, 4.0, 6.0), made.motion),
        _one("rician", "sd, share of the brightest", (0.02, 0.05, 0.08, 0.12, 0.18), made.rician),
        *_GAMMAS,
    ),
    "ultrasound": (
        _one("speckle", "sd", (0.1, 0.15, 0.2, 0.25, 0.3), made.speckle),
        _one("motion_blur", "length, share of the longer side", (0.01, 0.02, 0.03, 0.045, 0.06),
             made.motion_blur),
        _one("brightness_up", "factor", (1.4, 1.55, 1.7, 1.85, 2.0), made.brightness,
             "brightness"),
        _one("brightness_down", "factor", (0.55, 0.5, 0.45, 0.4, 0.3), made.brightness,
             "brightness"),
    ),
    "any": (_NOISE, _BLUR, *_TONES, *_GAMMAS),
}  # fmt: skip
"""By kind of image; ``any`` is what holds for every grey picture."""

MODALITIES = {
    "CR": "radiograph",
    "DX": "radiograph",
    "DR": "radiograph",
    "RG": "radiograph",
    "MG": "radiograph",
    "XA": "radiograph",
    "RF": "radiograph",
    "CT": "ct",
    "MR": "mr",
    "US": "ultrasound",
    "IVUS": "ultrasound",
}
"""DICOM's modality (PS3.3 C.7.3.1.1.1) to kind of image."""


def kind_of(modalities: Sequence[str | None]) -> str:
    """Return the kind of image of the commonest modality; ``any`` for another or none."""
    stated = sorted(name for name in modalities if name)
    if not stated:
        return "any"
    return MODALITIES.get(max(stated, key=stated.count), "any")


def corrupt(
    image: np.ndarray,
    corruption: Corruption,
    severity: int,
    spacing: Sequence[float],
    case_id: str,
    seed: int = 0,
) -> np.ndarray:
    """Do a corruption to one image.

    Parameters
    ----------
    image : (z, y, x) array
        In real units, before any normalisation.
    corruption : Corruption
    severity : int
        1 to 5.
    spacing : (z, y, x) in mm
    case_id : str
        With the seed and the corruption's name it draws what is random, at every severity alike.

    Returns
    -------
    (z, y, x) float32
    """
    text = f"{seed} {corruption.name} {case_id}"
    rng = np.random.default_rng(int.from_bytes(sha256(text.encode()).digest()[:8], "big"))
    strength = corruption.levels[severity - 1]
    return np.asarray(corruption.change(image, strength, spacing, rng), np.float32)
