"""Pictures of predictions: the image in grey with a heat map or a mask over it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

WINDOW_PERCENTILES = (1.0, 99.0)
"""Grey levels outside these percentiles are clipped, so that one hot pixel does not darken all."""

LONG_SIDE = 384
"""Pixels of the longer side; 900 such pictures take about 60 MB."""

MASK_OPACITY = 0.35
"""Share of colour inside a mask; its outline is drawn in full colour."""

HEAT_OPACITY = 0.55
"""Share of colour where a heat map is 1."""

PALETTE = ((46, 196, 182), (255, 159, 28), (231, 29, 54), (124, 104, 238), (144, 190, 109))
"""Colours of the classes 1, 2, ... of a mask, told apart also by the colour-blind."""

_HEAT = np.array([[255, 214, 102], [255, 120, 40], [214, 20, 40]], dtype=np.float64)
_HEAT_AT = (0.0, 0.5, 1.0)


def overlay_png(
    path: str | Path,
    image: ArrayLike,
    *,
    heat: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    spacing: Sequence[float] | None = None,
) -> Path:
    """Write the picture of `overlay` as a PNG file and return its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    overlay(image, heat=heat, mask=mask, spacing=spacing).save(path)
    return path


def overlay(
    image: ArrayLike,
    *,
    heat: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    spacing: Sequence[float] | None = None,
) -> "Image":
    """Draw an image with a heat map or a mask over it.

    Parameters
    ----------
    image : array_like, shape (y, x)
        Any range; MONOCHROME1 already turned.
    heat : array_like, shape (y, x), optional
        0 (nothing) to 1.
    mask : array_like, shape (y, x), optional
        0 is background, 1, 2, ... are classes.
    spacing : (y, x), optional
        Millimetres a pixel; unequal ones are stretched so that shapes are true.

    Returns
    -------
    PIL.Image.Image

    Raises
    ------
    ValueError
        When an array is not two-dimensional or of another shape than the image.
    """
    from PIL import Image

    grey = _grey(_plane(image, "image"))
    colour = np.repeat(grey[..., None], 3, axis=2)
    if heat is not None:
        colour = _with_heat(colour, _plane(heat, "heat map", grey.shape))
    if mask is not None:
        colour = _with_mask(colour, _plane(mask, "mask", grey.shape))
    picture = Image.fromarray(np.clip(colour, 0, 255).astype(np.uint8))
    return picture.resize(_size(grey.shape, spacing), Image.Resampling.BILINEAR)


def most_of(mask: ArrayLike) -> int:
    """Return the slice (axis 0) with the most foreground, the middle one when there is none."""
    counts = np.count_nonzero(np.asarray(mask), axis=(1, 2))
    return int(counts.argmax()) if counts.any() else len(counts) // 2


def _plane(values: ArrayLike, name: str, shape: tuple[int, ...] | None = None) -> NDArray:
    array = np.asarray(values)
    if array.ndim != 2 or (shape is not None and array.shape != shape):
        raise ValueError(
            f"The {name} of an overlay has the shape {array.shape}; it must be (y, x)"
            + (f" like the image, {shape}." if shape else ".")
        )
    return array


def _grey(image: NDArray) -> NDArray[np.float64]:
    values = image.astype(np.float64)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.zeros(values.shape)
    low, high = np.percentile(finite, WINDOW_PERCENTILES)
    if high <= low:
        low, high = float(finite.min()), float(finite.max())
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / ((high - low) or 1.0)
    return np.clip(scaled, 0, 1) * 255


def _with_heat(colour: NDArray, heat: NDArray) -> NDArray:
    level = np.clip(np.nan_to_num(heat.astype(np.float64)), 0, 1)
    tint = np.stack([np.interp(level, _HEAT_AT, _HEAT[:, c]) for c in range(3)], axis=2)
    share = (HEAT_OPACITY * level)[..., None]
    return colour * (1 - share) + tint * share


def _with_mask(colour: NDArray, mask: NDArray) -> NDArray:
    for value in np.unique(mask[mask > 0]).astype(int):
        inside = mask == value
        tint = np.asarray(PALETTE[(value - 1) % len(PALETTE)], dtype=np.float64)
        colour[inside] = colour[inside] * (1 - MASK_OPACITY) + tint * MASK_OPACITY
        colour[_outline(inside)] = tint
    return colour


def _outline(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a region that touch, by a side, a pixel outside it."""
    padded = np.pad(inside, 1)
    kept = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~kept


def _size(shape: tuple[int, ...], spacing: Sequence[float] | None) -> tuple[int, int]:
    step_y, step_x = spacing or (1.0, 1.0)
    height, width = shape[0] * step_y, shape[1] * step_x
    scale = LONG_SIDE / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))
