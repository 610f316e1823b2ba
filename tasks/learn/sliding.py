"""Sliding windows over an image in memory that does not grow with classes times image.

Tiles at half overlap under a Gaussian weight, as nnU-Net has them (Isensee et al. 2021): positions
evenly spaced, standard deviation an eighth of the tile. A row of tiles along the first axis shares
a slab; planes that no later tile covers are finished, handed on and forgotten.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

TILE_OVERLAP = 0.5
"""Share by which tiles overlap (nnU-Net)."""

SIGMA = 1 / 8
"""Standard deviation of the weight over the side of the tile (nnU-Net)."""

TILES_AT_ONCE = 4
"""Tiles a forward pass takes; they bound memory and change no result."""

Ask = Callable[[Tensor], Tensor]
"""Probabilities (n, k, z, y, x) of tiles (n, c, z, y, x)."""


@dataclass(frozen=True, eq=False)
class Slab:
    """Finished planes of an image."""

    start: int
    """First plane."""
    maps: Tensor
    """(k, planes, y, x) float32, on the CPU."""


def positions(size: int, tile: int) -> list[int]:
    """Return where tiles begin on an axis: as few as reach, evenly spaced, ends included."""
    if size <= tile:
        return [0]
    steps = int(np.ceil((size - tile) / max(1, tile * (1 - TILE_OVERLAP))))
    return [round(i * (size - tile) / steps) for i in range(steps + 1)]


@lru_cache(maxsize=8)
def gaussian(tile: tuple[int, ...]) -> np.ndarray:
    """Return the weight (z, y, x) of a tile's voxels, at most 1 and never 0."""
    weight = np.ones((1,) * len(tile))
    for axis, n in enumerate(tile):
        # The middle of an even tile is n / 2, as in nnU-Net.
        line = np.exp(-0.5 * ((np.arange(n) - n // 2) / (n * SIGMA)) ** 2)
        weight = weight * line.reshape([-1 if a == axis else 1 for a in range(len(tile))])
    weight = weight.astype(np.float32)
    return np.maximum(weight, weight[weight > 0].min())


def slabs(
    image: Tensor, tile: Sequence[int], n_maps: int, ask: Ask, device: torch.device
) -> Iterator[Slab]:
    """Yield the weighted mean of the tiles' answers, slab after slab along the first axis.

    Held are one tile's length of planes of all maps, whatever the image's length; where the device
    has no room for them they are held on the CPU, and tiles alone go to the device.

    Parameters
    ----------
    image : Tensor, (c, z, y, x)
        On the CPU, at least as large as a tile on every axis.
    tile : sequence of int
        (z, y, x)
    n_maps : int
        Classes.
    ask : callable
        Gets tiles on ``device`` and returns their maps there.
    device : torch.device
    """
    tile, shape = tuple(tile), tuple(image.shape[1:])
    weight = torch.from_numpy(gaussian(tile))
    rows = positions(shape[0], tile[0])
    in_plane = zip(shape[1:], tile[1:], strict=True)
    places = list(itertools.product(*(positions(n, t) for n, t in in_plane)))
    held, total = _buffers(n_maps, (tile[0], *shape[1:]), device)
    weight = weight.to(held.device)
    for number, z in enumerate(rows):
        for first in range(0, len(places), TILES_AT_ONCE):
            few = places[first : first + TILES_AT_ONCE]
            tiles = [image[:, z : z + tile[0], y : y + tile[1], x : x + tile[2]] for y, x in few]
            maps = _answers(ask, torch.stack(tiles), device).to(held.device)
            for one, (y, x) in zip(maps, few, strict=True):
                here = (..., slice(y, y + tile[1]), slice(x, x + tile[2]))
                held[here] += one * weight
                total[here] += weight
        after = rows[number + 1] if number + 1 < len(rows) else shape[0]
        done = after - z
        yield Slab(z, (held[:, :done] / total[:done]).cpu())
        # What is left over moves to the front, where the next row of tiles begins.
        for buffer in (held, total):
            rest = buffer[..., done:, :, :].clone()
            buffer.zero_()
            buffer[..., : tile[0] - done, :, :] = rest


def _answers(ask: Ask, tiles: Tensor, device: torch.device) -> Tensor:
    """Ask for tiles together, or one by one where the device has no room for so many."""
    try:
        return ask(tiles.to(device))
    except torch.OutOfMemoryError:
        if len(tiles) == 1:
            raise
    return torch.cat([ask(tile[None].to(device)) for tile in tiles])


def _buffers(n_maps: int, shape: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    try:
        return (torch.zeros(n_maps, *shape, device=device), torch.zeros(*shape, device=device))
    except torch.OutOfMemoryError:
        return torch.zeros(n_maps, *shape), torch.zeros(*shape)
