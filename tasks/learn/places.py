"""Places that could be findings, by classical means, and what is measured at each.

Blobs of the sizes of the training boxes are extrema of the Laplacian of Gaussians over space and
scale (Lindeberg 1998); a place is told apart by the eigenvalues of its Hessian (a ball, a tube or a
plate; Frangi et al. 1998), by its grey values and those around it, and by the size and shape of the
part that is joined to its middle. So classical systems look for nodules (Murphy et al. 2009).

Sizes are (z, y, x) voxels of the prepared image; an axis of one slice has no extent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, label, maximum_filter

from tasks.learn.candidate import PLACE_COLUMNS

Size = tuple[float, float, float]

SIZES = (0.1, 0.4, 0.7, 0.95)
"""Quantiles of the boxes' sizes that are looked for."""

MOST = 120
"""Places of an image, those that stand out most."""

SURROUNDINGS = 2.0
"""Sides of what is around a place over those of the place."""

APART = 0.5
"""Of two places nearer than this share of a side the one that stands out less is left out."""


@dataclass(frozen=True)
class PlaceFinder:
    """What is looked for.

    Attributes
    ----------
    sizes : tuple of (z, y, x)
        Ascending.
    sign : int
        1 for what is brighter than its surroundings, -1 for what is darker.
    """

    sizes: tuple[Size, ...]
    sign: int = 1

    def find(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the boxes of places and what is measured there.

        Parameters
        ----------
        image : (z, y, x) array
            That passed the recipe.

        Returns
        -------
        box : (p, 2, 3) float64
            Index coordinates, those that stand out most first; at most `MOST`.
        measured : (p, len(`PLACE_COLUMNS`)) float64
        """
        image = self.sign * np.asarray(image, np.float32)
        answers = np.stack([_response(image, _sigma(size)) for size in self.sizes])
        scale, place = self._extrema(answers)
        size = np.array(self.sizes)[scale]
        box = np.stack([place - size / 2, place + size / 2], axis=1)
        rows = [
            self._measure(image, answers, int(s), tuple(p))
            for s, p in zip(scale, place, strict=True)
        ]
        return box, np.array(rows, float).reshape(len(rows), len(PLACE_COLUMNS))

    def _extrema(self, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return scale and place of what stands out most, none near a greater one."""
        peak = (answers == maximum_filter(answers, size=3, mode="nearest")) & (answers > 0)
        found = np.argwhere(peak)
        found = found[np.argsort(-answers[tuple(found.T)], kind="stable")]
        sides = np.array(self.sizes)[found[:, 0]]
        kept: list[int] = []
        for row, (_, *place) in enumerate(found):
            away = np.abs(found[kept, 1:] - place) / sides[kept]
            if not (away < APART).all(1).any():
                kept.append(row)
            if len(kept) == MOST:
                break
        return found[kept, 0], found[kept, 1:]

    def _measure(
        self, image: np.ndarray, answers: np.ndarray, scale: int, place: tuple[int, ...]
    ) -> list[float]:
        size = np.array(self.sizes[scale])
        here = answers[(slice(None), *place)]
        finer, coarser = max(scale - 1, 0), min(scale + 1, len(here) - 1)
        cut = _cut(place, size * SURROUNDINGS / 2, image.shape)
        around = image[cut]
        inside = _ellipsoid(place, size / 2, cut)
        own, others = around[inside], around[~inside]
        others = others if others.size else own
        middle = [p - c.start for p, c in zip(place, cut, strict=True)]
        first, second = _roundness(around, _sigma(tuple(size)), middle)
        contrast = own.mean() - others.mean()
        part = _part(around > others.mean() + contrast / 2, inside)
        return [
            float(np.prod(size) ** (1 / 3)), here[scale], here[finer], here[coarser], first, second,
            own.mean(), own.std(), own.min(), own.max(), others.mean(), others.std(), contrast,
            *_shape(part, inside),
            *(p / max(n - 1, 1) for p, n in zip(place, image.shape, strict=True)),
        ]  # fmt: skip


def finder_of(pairs: Iterator[tuple[np.ndarray, np.ndarray]]) -> PlaceFinder:
    """Return what is to be looked for, from images (z, y, x) and their boxes (b, 2, 3).

    Raises
    ------
    ValueError
        If there is no box.
    """
    sizes, contrast = [], []
    for image, boxes in pairs:
        for low, high in boxes:
            size, place = high - low, np.round((low + high) / 2).astype(int)
            place = tuple(np.clip(place, 0, np.array(image.shape) - 1))
            cut = _cut(place, size * SURROUNDINGS / 2, image.shape)
            inside = _ellipsoid(place, size / 2, cut)
            sizes.append(size)
            contrast.append(image[cut][inside].mean() - image[cut].mean())
    if not sizes:
        raise ValueError(
            "no box to be found on the training side, so no sizes to look for; widen the cohort"
        )
    said = np.unique(np.round(np.quantile(sizes, SIZES, axis=0), 2), axis=0)
    return PlaceFinder(tuple(map(tuple, said.tolist())), 1 if np.mean(contrast) >= 0 else -1)


def _sigma(size: Size) -> np.ndarray:
    """Return the width at which a ball of these sides answers most, 0 along an axis of one."""
    sides = np.array(size)
    wide = sides > 1
    return np.where(wide, sides / 2 / np.sqrt(max(wide.sum(), 1)), 0.0)


def _response(image: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Return the negated Laplacian of Gaussians in units of the scale: high where it is bright."""
    total = np.zeros(image.shape, np.float32)
    for axis in np.flatnonzero(sigma):
        order = [2 if a == axis else 0 for a in range(3)]
        total -= sigma[axis] ** 2 * gaussian_filter(image, sigma, order=order, mode="nearest")
    return total


def _cut(place: Sequence[int], half: np.ndarray, shape: Sequence[int]) -> tuple[slice, ...]:
    return tuple(
        slice(max(0, int(p - np.ceil(h))), min(n, int(p + np.ceil(h)) + 1))
        for p, h, n in zip(place, half, shape, strict=True)
    )


def _ellipsoid(place: Sequence[int], half: np.ndarray, cut: Sequence[slice]) -> np.ndarray:
    """Return which voxels of a cut lie in the place; its middle always does."""
    lines = [
        ((np.arange(c.start, c.stop) - p) / max(h, 0.5)) ** 2
        for p, h, c in zip(place, half, cut, strict=True)
    ]
    return lines[0][:, None, None] + lines[1][:, None] + lines[2] <= 1


def _roundness(around: np.ndarray, sigma: np.ndarray, middle: Sequence[int]) -> tuple[float, float]:
    """Return the smallest and the middle of the Hessian's eigenvalues over the largest.

    Both near 1 in a ball; in a tube the first is near 0, in a plate both are.
    """
    axes = np.flatnonzero(sigma)
    hessian = np.zeros((len(axes), len(axes)))
    for i, a in enumerate(axes):
        for j, b in enumerate(axes[: i + 1]):
            order = [int(axis == a) + int(axis == b) for axis in range(3)]
            smooth = gaussian_filter(around, sigma, order=order, mode="nearest")
            hessian[i, j] = hessian[j, i] = sigma[a] * sigma[b] * smooth[tuple(middle)]
    values = np.sort(-np.linalg.eigvalsh(hessian))[::-1]
    values = values / max(abs(values[0]), 1e-6)
    return float(values[-1]), float(values[len(values) // 2])


def _part(bright: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return the part that has most in common with the place."""
    numbered, count = label(bright)
    if not count:
        return np.zeros_like(bright)
    shared = np.bincount(numbered[inside], minlength=count + 1)
    shared[0] = 0
    return numbered == shared.argmax() if shared.any() else np.zeros_like(bright)


def _shape(part: np.ndarray, inside: np.ndarray) -> list[float]:
    """Return volume over the place's, longest over shortest side, filling of the box, and how much
    of it reaches the border of what is looked at."""
    where = np.argwhere(part)
    if not len(where):
        return [0.0, 0.0, 0.0, 0.0]
    sides = where.max(0) - where.min(0) + 1.0
    wide = sides[np.array(part.shape) > 1]
    border = ((where == 0) | (where == np.array(part.shape) - 1))[:, np.array(part.shape) > 1]
    return [
        len(where) / inside.sum(), wide.max() / wide.min(), len(where) / np.prod(sides),
        float(border.any(1).mean()),
    ]  # fmt: skip
