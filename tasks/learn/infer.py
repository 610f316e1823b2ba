"""Asking networks: class probabilities, probability maps, what an input looks like, heatmaps."""

import itertools
import math
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from tasks.labels.regions import INSIDE, Sets, written
from tasks.learn.classifiers import Classifier
from tasks.learn.device import mixed_precision
from tasks.learn.networks import to_network
from tasks.learn.plan import NetworkPlan
from tasks.learn.samples import PAD_VALUE
from tasks.learn.sliding import Slab, slabs

WHOLE_IMAGE_FACTOR = 3.0
"""An image of up to this many patches is asked for whole: tiles at half overlap cost as much."""

SPILL_BYTES = 1 << 28
"""Probability maps larger than this lie in a file."""

IMAGES_AT_ONCE = 64
"""Images a classifier takes at once; they bound memory and change no result."""


def classify(
    networks: Sequence[nn.Module],
    plan: NetworkPlan,
    images: Sequence[np.ndarray],
    device: torch.device,
) -> np.ndarray:
    """Return the mean class probabilities over networks and mirrorings.

    Parameters
    ----------
    networks : sequence of Module
        In evaluation mode, on ``device``.
    plan : NetworkPlan
    images : n arrays ([c,] z, y, x)
        Read a few at a time.
    device : torch.device

    Returns
    -------
    (n, k) float64
    """
    rows = [_mean_softmax(networks, plan, x, device) for x in image_batches(plan, images)]
    return np.concatenate(rows).astype(np.float64)


def logits_of(
    network: nn.Module, plan: NetworkPlan, images: Sequence[np.ndarray], device: torch.device
) -> Tensor:
    """Return the logits (n, k) of one network, on the CPU, without mirroring."""
    rows = []
    with torch.inference_mode(), mixed_precision(device):
        for x in image_batches(plan, images):
            rows.append(network(to_network(x.to(device), plan.dims)).float().cpu())
    return torch.cat(rows)


def image_batches(plan: NetworkPlan, images: Sequence[np.ndarray]) -> Iterator[Tensor]:
    """Yield images as batches of at most `IMAGES_AT_ONCE`; ValueError where a shape is another."""
    for start in range(0, len(images), IMAGES_AT_ONCE):
        stop = min(start + IMAGES_AT_ONCE, len(images))
        few = [np.asarray(images[i], dtype=np.float32) for i in range(start, stop)]
        if wrong := [image.shape for image in few if image.shape[-3:] != tuple(plan.patch)]:
            raise ValueError(
                f"an image has shape {wrong[0]}, the network was trained on {plan.patch}; "
                "apply the model's own recipe first"
            )
        yield torch.cat([as_input(image) for image in few])


def as_input(image: np.ndarray) -> Tensor:
    """Return an image ([c,] z, y, x) as a batch of one (1, c, z, y, x), float32."""
    x = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
    return x[None] if x.ndim == 4 else x[None, None]


def _mean_softmax(
    networks: Sequence[nn.Module], plan: NetworkPlan, x: Tensor, device: torch.device
) -> np.ndarray:
    total: Tensor | float = 0.0
    mirrors = mirrorings(plan)
    with torch.inference_mode(), mixed_precision(device):
        x = x.to(device)
        for network, axes in itertools.product(networks, mirrors):
            seen = to_network(x.flip(axes) if axes else x, plan.dims)
            total = total + network(seen).float().softmax(1)
    return (total / (len(networks) * len(mirrors))).cpu().numpy()


def mirrorings(plan: NetworkPlan) -> list[tuple[int, ...]]:
    """Return the tensor axes of (n, c, z, y, x) mirrored in each test-time pass, none first."""
    axes = ["zyx".index(axis) + 2 for axis in plan.flip_tta]
    subsets = [itertools.combinations(axes, n) for n in range(len(axes) + 1)]
    return [tuple(one) for one in itertools.chain.from_iterable(subsets)]


def segment(
    networks: Sequence[nn.Module], plan: NetworkPlan, image: np.ndarray, device: torch.device
) -> np.ndarray:
    """Return the mean probability maps over networks and mirrorings.

    Maps of more than `SPILL_BYTES` are float16 in a file without a name, which the system may take
    out of memory; :func:`outline` needs none of either.

    Parameters
    ----------
    image : ([c,] z, y, x) array

    Returns
    -------
    (k, z, y, x) float32 or float16
        Sums to 1 over the classes, background first; of regions each lies between 0 and 1.
    """
    shape = (plan.n_classes, *image.shape[-3:])
    if math.prod(shape) * np.dtype(np.float32).itemsize > SPILL_BYTES:
        with tempfile.TemporaryFile() as file:
            maps = np.memmap(file, np.float16, "w+", shape=shape)
    else:
        maps = np.empty(shape, np.float32)
    for slab in slabs_of(networks, plan, image, device):
        maps[:, slab.start : slab.start + slab.maps.shape[1]] = slab.maps.numpy()
    return maps


def outline(
    networks: Sequence[nn.Module], plan: NetworkPlan, image: np.ndarray, device: torch.device
) -> np.ndarray:
    """Return the label map (z, y, x) uint8, found while the slabs pass."""
    found = np.empty(image.shape[-3:], np.uint8)
    for slab in slabs_of(networks, plan, image, device):
        found[slab.start : slab.start + slab.maps.shape[1]] = label_map(
            slab.maps.numpy(), plan.regions
        )
    return found


def slabs_of(
    networks: Sequence[nn.Module], plan: NetworkPlan, image: np.ndarray, device: torch.device
) -> Iterator[Slab]:
    """Yield the mean probability maps over networks and mirrorings, slab after slab along z.

    The image, or of a 2-D network each plane, is asked for whole when it is at most
    ``WHOLE_IMAGE_FACTOR`` patches large, else in overlapping tiles (`tasks.learn.sliding`).
    """
    x, shape = as_input(image)[0], image.shape[-3:]
    mirrors = mirrorings(plan)

    def ask(tiles: Tensor) -> Tensor:
        total: Tensor | float = 0.0
        # Here and not around the loop: who takes the slabs must not be in this mode.
        with torch.inference_mode(), mixed_precision(device):
            for network, axes in itertools.product(networks, mirrors):
                seen = to_network(tiles.flip(axes) if axes else tiles, plan.dims)
                maps = network(seen).float()
                maps = maps.sigmoid() if plan.regions else maps.softmax(1)
                maps = maps[:, :, None] if plan.dims == 2 else maps
                total = total + (maps.flip(axes) if axes else maps)
        return total / (len(networks) * len(mirrors))

    extent = (1, *shape[1:]) if plan.dims == 2 else shape
    whole = math.prod(extent) <= WHOLE_IMAGE_FACTOR * math.prod(plan.patch)
    # A network whose normalisation is over space wants the surroundings it was trained with.
    size = [
        max(p, -(-n // d) * d if whole else n)
        for n, p, d in zip(extent, plan.patch, plan.divisor, strict=True)
    ]
    before = [(s - n) // 2 for s, n in zip(size, extent, strict=True)]
    margin: list[int] = []
    for s, n, b in reversed(list(zip(size, extent, before, strict=True))):
        margin += [b, s - n - b]
    inside = (..., *(slice(b, b + n) for b, n in zip(before, extent, strict=True)))
    step = extent[0]
    for start in range(0, shape[0], step):
        padded = pad(x[:, start : start + step], margin, value=PAD_VALUE)
        for slab in slabs(padded, size if whole else plan.patch, plan.n_classes, ask, device):
            if whole or size[0] != extent[0]:
                # One row of tiles covers all planes, some of them padding.
                yield Slab(start, slab.maps[inside])
            else:
                yield Slab(start + slab.start, slab.maps[(..., *inside[-2:])])


def label_map(probability: np.ndarray, regions: Sets = ()) -> np.ndarray:
    """Return the most probable class (z, y, x) uint8 of maps (k, z, y, x).

    Maps of regions are written in their order wherever they pass `INSIDE`.
    """
    if regions:
        return written(probability > INSIDE, regions)
    return probability.argmax(0).astype(np.uint8)


def features(
    network: nn.Module, plan: NetworkPlan, images: Sequence[np.ndarray], device: torch.device
) -> np.ndarray | None:
    """Return pooled features (n, f) of images ([c,] z, y, x), None if the network offers none.

    A volume larger than the patch is looked at in its middle, padded where it is smaller.
    """
    if not hasattr(network, "pooled_features"):
        return None
    rows = []
    with torch.inference_mode():
        for image in images:
            x = as_input(middle(image, plan.patch)).to(device)
            rows.append(network.pooled_features(to_network(x, plan.dims)).float().cpu().numpy())
    return np.concatenate(rows)


def middle(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return the middle of an image ([c,] z, y, x) as float32 of a size, padded where it is
    smaller."""
    cut, margin = [], [(0, 0) for _ in image.shape[:-3]]
    for n, p in zip(image.shape[-3:], size, strict=True):
        start = max(0, (n - p) // 2)
        cut.append(slice(start, start + min(n, p)))
        before = max(0, (p - n) // 2)
        margin.append((before, max(0, p - n) - before))
    inside = np.asarray(image[(..., *cut)], dtype=np.float32)
    return np.pad(inside, margin, constant_values=PAD_VALUE)


def heatmap(
    networks: Sequence[nn.Module],
    plan: NetworkPlan,
    image: np.ndarray,
    class_index: int,
    device: torch.device,
) -> np.ndarray | None:
    """Return where a classifier sees a class: mean Grad-CAM over the networks (Selvaraju 2017).

    Parameters
    ----------
    image : ([c,] z, y, x) array
    class_index : int

    Returns
    -------
    (z, y, x) float32 in [0, 1], or None if a network is not a `Classifier`
    """
    if not all(isinstance(network, Classifier) for network in networks):
        return None
    x = as_input(image).to(device)
    x = to_network(x, plan.dims)
    total: Tensor | float = 0.0
    for network in networks:
        last = network.maps(x)[-1].detach().requires_grad_(True)
        score = network.classify(last)[0, class_index]
        (gradient,) = torch.autograd.grad(score, last)
        weight = gradient.flatten(2).mean(-1)
        seen = torch.einsum("nc,nc...->n...", weight, last.detach()).relu()
        total = total + seen / seen.max().clamp_min(torch.finfo(seen.dtype).tiny)
    mode = "bilinear" if plan.dims == 2 else "trilinear"
    large = interpolate(total[:, None], size=x.shape[2:], mode=mode, align_corners=False)[0, 0]
    return (large / large.max().clamp_min(1e-12)).reshape(image.shape[-3:]).cpu().numpy()
