"""Drawn changes applied to a whole batch at once, on the device it lies on.

Each change takes the samples it was drawn for in one operation. Nothing here waits for the device,
and nothing is drawn: :func:`tasks.learn.augment.draw_params` did that.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv3d, grid_sample, interpolate, pad

Params = Sequence[Mapping[str, Any]]

_BLUR_REACH = 3.0
"""Standard deviations a blur kernel reaches on each side; beyond it lies .3 % of the weight."""

_MIN_SPREAD = 1e-6
"""Least intensity range of an image that gamma is applied to; a constant image stays as it is."""

_VOXELS = (2, 3, 4)
"""Axes over which a channel of a sample is one image."""


def apply(
    params: Params, image: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Apply drawn changes to a batch.

    Parameters
    ----------
    params : sequence of dict
        One record of :func:`tasks.learn.augment.draw_params` a sample.
    image : Tensor, (n, c, z, y, x) float
        Channels move together; intensities change by the same amounts in each.
    mask : Tensor, (n, z, y, x) int, optional
        Moved with the image, nearest neighbour, 0 where it came from outside.

    Returns
    -------
    image, mask : Tensor
        New tensors of the same shapes.
    """
    image, mask = image.clone(), None if mask is None else mask.clone()
    _move(params, image, mask)
    # A batch is drawn with one configuration.
    changes = _NNUNET if "list" in params[0] else _INTENSITIES
    for name, change in changes.items():
        rows = [i for i, one in enumerate(params) if name in one]
        if rows:
            chosen = _index(rows, image)
            drawn = [params[i] for i in rows]
            image[chosen] = change(image[chosen], drawn)
    return image, mask


def _move(params: Params, image: Tensor, mask: Tensor | None) -> None:
    """Turn, scale, shift and mirror in place the samples that have an ``affine``."""
    rows = [i for i, one in enumerate(params) if "affine" in one]
    if not rows:
        return
    chosen = _index(rows, image)
    shape = np.array(image.shape[2:], dtype=float)
    theta = np.stack([_theta(params[i]["affine"], shape) for i in rows])
    matrix = torch.as_tensor(theta, dtype=image.dtype, device=image.device)
    moved = image[chosen]
    flat = moved.shape[2] == 1
    if flat:
        # Bilinear in the plane costs half of trilinear over one slice.
        matrix, moved = matrix[:, :2][:, :, [0, 1, 3]], moved[:, :, 0]
    grid = affine_grid(matrix, list(moved.shape), align_corners=False)
    moved = grid_sample(moved, grid, "bilinear", "border", align_corners=False)
    image[chosen] = moved[:, :, None] if flat else moved
    if mask is None:
        return
    labels = mask[chosen] if flat else mask[chosen][:, None]
    labels = grid_sample(labels.to(grid.dtype), grid, "nearest", "zeros", align_corners=False)
    mask[chosen] = (labels if flat else labels[:, 0]).to(mask.dtype)


def _theta(affine: Sequence[Sequence[float]], shape: np.ndarray) -> np.ndarray:
    """Return the 3x4 matrix that ``affine_grid`` wants: normalised coordinates, order x, y, z."""
    matrix = np.array(affine)
    # With align_corners=False a voxel is 2/n wide in normalised coordinates.
    linear = matrix[:, :3] * shape[None, :] / shape[:, None]
    shift = matrix[:, 3] * 2 / shape
    return np.column_stack([linear[::-1, ::-1], shift[::-1]])


def _gamma(image: Tensor, params: Params) -> Tensor:
    low, high = image.amin(_VOXELS, keepdim=True), image.amax(_VOXELS, keepdim=True)
    spread = high - low
    exponent = _column(params, "gamma", image)
    # A constant image is divided by one, and kept.
    changed = ((image - low) / spread.clamp(min=_MIN_SPREAD)) ** exponent * spread + low
    return torch.where(spread > _MIN_SPREAD, changed, image)


def _contrast(image: Tensor, params: Params) -> Tensor:
    mean = image.mean(_VOXELS, keepdim=True)
    return (image - mean) * _column(params, "contrast", image) + mean


def _brightness(image: Tensor, params: Params) -> Tensor:
    return image + _column(params, "brightness", image)


def _blur(image: Tensor, params: Params) -> Tensor:
    """Convolve each sample with its own Gaussian: a channel of a sample is a group of the
    convolution."""
    channels = image.shape[1]
    sigmas = [float(one["blur"]) for one in params for _ in range(channels)]
    out = image.flatten(0, 1)[None]
    for axis, size in enumerate(image.shape[2:]):
        kernels = [_kernel(sigma, size) for sigma in sigmas]
        reach = max(len(kernel) for kernel in kernels) // 2
        if reach == 0:
            continue
        wide = np.stack([np.pad(k, reach - len(k) // 2) for k in kernels])
        weights = torch.as_tensor(wide, dtype=image.dtype, device=image.device)
        extent = [1, 1, 1]
        extent[axis] = 2 * reach + 1
        margin = [0] * 6
        margin[2 * (2 - axis)] = margin[2 * (2 - axis) + 1] = reach
        padded = pad(out, margin, mode="replicate")
        out = conv3d(padded, weights.reshape(-1, 1, *extent), groups=len(sigmas))
    return out[0].unflatten(0, (len(params), channels))


def _kernel(sigma: float, size: int) -> np.ndarray:
    """Return a Gaussian's weights, or one that keeps an axis too short to be blurred."""
    reach = max(1, int(np.ceil(_BLUR_REACH * sigma)))
    if size <= reach:
        return np.ones(1)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, _MIN_SPREAD)) ** 2)
    return weights / weights.sum()


def _noise(image: Tensor, params: Params) -> Tensor:
    """Add noise that is drawn on the CPU: so a sample is the same on every device."""
    drawn = torch.empty(image.shape, dtype=image.dtype)
    for one, place in zip(params, drawn, strict=True):
        source = torch.Generator().manual_seed(one["noise_seed"])
        torch.randn(place.shape, generator=source, dtype=image.dtype, out=place)
    return image + _column(params, "noise", image) * drawn.to(image.device, non_blocking=True)


def _cutout(image: Tensor, params: Params) -> Tensor:
    boxes = torch.tensor([one["cutout"] for one in params], device=image.device)
    inside = torch.ones((), dtype=torch.bool, device=image.device)
    for axis, size in enumerate(image.shape[2:]):
        at = torch.arange(size, device=image.device)
        low, high = boxes[:, 0, axis, None], boxes[:, 1, axis, None]
        extent = [len(params), 1, 1, 1, 1]
        extent[2 + axis] = size
        inside = inside & ((at >= low) & (at < high)).reshape(extent)
    return torch.where(inside, image.mean(_VOXELS, keepdim=True), image)


def _gain(image: Tensor, params: Params) -> Tensor:
    return image * _column(params, "gain", image)


def _contrast_in_range(image: Tensor, params: Params) -> Tensor:
    low, high = image.amin(_VOXELS, keepdim=True), image.amax(_VOXELS, keepdim=True)
    mean = image.mean(_VOXELS, keepdim=True)
    changed = (image - mean) * _column(params, "contrast_in_range", image) + mean
    return changed.clamp(low, high)


def _low_resolution(image: Tensor, params: Params) -> Tensor:
    """Take every so many-th voxel and interpolate between them: each sample has its own factor."""
    out = image.clone()
    for one, place in zip(params, out, strict=True):
        shape = place.shape[1:]
        few = [max(1, round(n * one["low_resolution"])) for n in shape]
        small = interpolate(place[None], size=few, mode="nearest-exact")
        place.copy_(interpolate(small, size=shape, mode="trilinear", align_corners=False)[0])
    return out


def _gamma_same_spread(image: Tensor, params: Params, name: str = "gamma_same_spread") -> Tensor:
    """Change gamma and bring mean and standard deviation back."""
    changed = _gamma(image, [{"gamma": one[name]} for one in params])
    mean, spread = image.mean(_VOXELS, keepdim=True), image.std(_VOXELS, keepdim=True)
    now, wide = changed.mean(_VOXELS, keepdim=True), changed.std(_VOXELS, keepdim=True)
    return (changed - now) * (spread / wide.clamp(min=_MIN_SPREAD)) + mean


def _gamma_of_negative(image: Tensor, params: Params) -> Tensor:
    return -_gamma_same_spread(-image, params, "gamma_of_negative")


_INTENSITIES = {
    "gamma": _gamma,
    "contrast": _contrast,
    "brightness": _brightness,
    "blur": _blur,
    "noise": _noise,
    "cutout": _cutout,
}
"""Changes of intensity, in the order in which they are made."""

_NNUNET = {
    "noise": _noise,
    "blur": _blur,
    "gain": _gain,
    "contrast_in_range": _contrast_in_range,
    "low_resolution": _low_resolution,
    "gamma_of_negative": _gamma_of_negative,
    "gamma_same_spread": _gamma_same_spread,
}
"""Those of nnU-Net's list, in its order."""


def _column(params: Params, name: str, image: Tensor) -> Tensor:
    values = [one[name] for one in params]
    shape = (-1, 1, 1, 1, 1)
    return torch.tensor(values, dtype=image.dtype, device=image.device).reshape(shape)


def _index(rows: Sequence[int], image: Tensor) -> Tensor:
    return torch.tensor(rows, device=image.device)
