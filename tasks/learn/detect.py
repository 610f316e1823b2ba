"""Asking detectors: a picture whole, a volume in overlapping tiles, and one answer of all views."""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from tasks.learn.box_targets import box_of_index
from tasks.learn.boxes import Findings
from tasks.learn.detectors import Found
from tasks.learn.fuse_boxes import View, fuse
from tasks.learn.infer import as_input, mirrorings
from tasks.learn.networks import to_network
from tasks.learn.plan import NetworkPlan
from tasks.learn.samples import PAD_VALUE
from tasks.learn.second_look import look_again
from tasks.learn.sliding import positions

WHOLE_FACTOR = 8.0
"""A volume of up to this many patches is asked for whole. Tiles at half overlap look at each voxel
eight times; and training holds every map of a patch, where asking holds a few at a time."""

OUTLINED = 0.5
"""Probability from which a pixel belongs to a finding."""


def detect(
    networks: Sequence[nn.Module], plan: NetworkPlan, image: np.ndarray, device: torch.device
) -> Findings:
    """Return what networks find in an image, at most ``plan.detector.max_findings``.

    A picture is asked for whole, a volume when it is at most `WHOLE_FACTOR` patches large,
    else in tiles at half overlap; tiles, mirrorings and networks are fused
    (`tasks.learn.fuse_boxes`). Where the plan has a second look, it judges what was fused.

    Parameters
    ----------
    networks : sequence of Module
        In evaluation mode, on ``device``.
    plan : NetworkPlan
    image : ([c,] z, y, x) array
        That passed the recipe.
    device : torch.device

    Returns
    -------
    Findings
        In index coordinates of the image, the best first.
    """
    x = as_input(image)[0]
    views = list(_views(networks, plan, x, device))
    found = fuse(views, plan.detector.overlap, plan.detector.max_findings)
    return look_again(networks, x.to(device), found) if plan.detector.second_look else found


def detector_alone(plan: NetworkPlan) -> NetworkPlan:
    """Return a plan by which `detect` asks the detector itself: no mirroring, no second look."""
    first = plan.detector.model_copy(update={"second_look": False})
    return plan.model_copy(update={"detector": first, "flip_tta": ()})


def _views(
    networks: Sequence[nn.Module], plan: NetworkPlan, x: Tensor, device: torch.device
) -> Iterator[View]:
    shape = tuple(x.shape[1:])
    whole = plan.dims == 2 or math.prod(shape) <= WHOLE_FACTOR * math.prod(plan.patch)
    x = padded(x, plan)
    size = list(x.shape[1:])
    tile = size if whole else list(plan.patch)
    for start in itertools.product(*(positions(n, t) for n, t in zip(size, tile, strict=True))):
        cut = tuple(slice(s, s + t) for s, t in zip(start, tile, strict=True))
        seen = x[(slice(None), *cut)][None].to(device)
        for network, axes in itertools.product(networks, mirrorings(plan)):
            found = _ask(network, seen, axes, plan.dims)
            inside = _inside(found, np.array(start), shape)
            yield View(np.array(start), np.array(tile), inside, whole)


def padded(x: Tensor, plan: NetworkPlan) -> Tensor:
    """Return an image (c, z, y, x) that a network takes whole, with a margin at its ends."""
    least = [max(n, p) for n, p in zip(x.shape[1:], plan.patch, strict=True)]
    # Normalisation is over space too: no less is looked at than was trained on.
    size = [-(-n // d) * d for n, d in zip(least, plan.divisor, strict=True)]
    margin = [m for n, s in zip(x.shape[1:], size, strict=True) for m in (s - n, 0)][::-1]
    return pad(x, margin, value=PAD_VALUE)


def ask(network: nn.Module, tiles: Tensor, dims: int) -> list[Findings]:
    """Return what a network finds in each of tiles (n, c, z, y, x), in index coordinates of it."""
    with torch.inference_mode():
        found = network(to_network(tiles, dims))
    return [_findings(one, tiles.shape, (), dims) for one in found]


def _ask(network: nn.Module, tile: Tensor, axes: tuple[int, ...], dims: int) -> Findings:
    """Return what a network finds in a tile (1, c, z, y, x), in the tile's index coordinates."""
    with torch.inference_mode():
        (found,) = network(to_network(tile.flip(axes) if axes else tile, dims))
    return _findings(found, tile.shape, axes, dims)


def _findings(found: Found, shape: Sequence[int], axes: tuple[int, ...], dims: int) -> Findings:
    box = box_of_index(found.box.double().cpu().numpy(), dims)
    for axis in (axis - 2 for axis in axes):
        box[:, :, axis] = shape[axis + 2] - 1 - box[:, ::-1, axis]
    score = np.clip(found.score.double().cpu().numpy(), 0, 1)
    return Findings(found.label.cpu().numpy(), score, box, _masks(found, axes))


def _masks(found: Found, axes: tuple[int, ...]) -> tuple[np.ndarray, ...] | None:
    if found.mask is None:
        return None
    # Axes count those of (n, c, z, y, x); a mask has none of the first two.
    flips = [axis - 2 for axis in axes if axis > 2]
    outlined = (found.mask >= OUTLINED).cpu().numpy()[:, None]
    return tuple(np.flip(one, flips) for one in outlined)


def _inside(found: Findings, start: np.ndarray, shape: Sequence[int]) -> Findings:
    """Return findings of a tile in the image's coordinates, cut at the image's border."""
    end = np.array(shape) - 0.5
    box = np.clip(found.box + start, -0.5, end)
    mask = found.mask
    if mask is not None:
        mask = tuple(one[tuple(slice(0, n) for n in shape)] for one in mask)
    kept = (box[:, 1] > box[:, 0]).all(1)
    return Findings(found.label, found.score, box, mask).take(kept)
