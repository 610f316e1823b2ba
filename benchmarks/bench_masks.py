"""Masks and the lung chain against scipy and scikit-image, one thread, same run.

    python benchmarks/bench_masks.py [--slices 120] [--side 512] [--rounds 3] [--only lung]

A chest CT made in code (trunk, lungs, vessels, airways, table, noise). Every row first checks that
both sides give the same, then takes their CPU time turn by turn, so that other load on the machine
meets both; the best of each is compared. The last row is the chain a recipe runs: lung mask, then
linear resampling of image and mask to 1 mm. Its peer is the usual chain of scipy and scikit-image,
which has no airways to remove: it does less.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from scipy import ndimage
from skimage import filters, measure, morphology, segmentation

from tasks.imaging.masks import components, otsu, planes, watershed
from tasks.imaging.recipe import Image, apply, fit
from tasks.imaging.steps import parse_steps

SPACING = (2.5, 0.7, 0.7)
"""Of a usual chest CT, in mm."""

CLOSE_MM = 8.0
"""Radius of the closing, as in the step lung."""

SAME_CHAIN_DICE = 0.97
"""Least agreement of the two lung masks: the peer keeps bronchi and joins lungs that are near."""


@dataclass(frozen=True)
class Row:
    """A need, both sides, how their results are compared, and the least ratio of speeds."""

    name: str
    usual: Callable[[], Any]
    ours: Callable[[], Any]
    same: Callable[[Any, Any], bool]
    bar: float


def chest(slices: int, side: int) -> np.ndarray:
    """Return Hounsfield units, int16, (z, y, x)."""
    y, x = (np.arange(side) - side / 2)[:, None], np.arange(side) - side / 2
    unit = side / 512
    rng = np.random.default_rng(0)
    out = np.empty((slices, side, side), np.int16)
    vessels = rng.uniform(-1, 1, (60, 2)) * (60, 120) * unit
    for index in range(slices):
        height = abs(index / slices - 0.5) * 2
        plane = np.full((side, side), -1000.0, np.float32)
        plane[(x / 225) ** 2 + (y / 160) ** 2 < unit**2] = 40
        wide = unit * np.sqrt(max(0.0, 1 - height**2))
        for middle in (-110 * unit, 110 * unit):
            lung = ((x - middle) / 80) ** 2 + (y / 125) ** 2 < wide**2
            plane[lung] = -800
            for dy, dx in vessels + index * 0.2 * unit:
                plane[(x - middle - dx) ** 2 + (y - dy * 0.8) ** 2 < (4 * unit) ** 2] = 40
        plane[x**2 + (y + 20 * unit) ** 2 < (13 * unit) ** 2] = -990
        plane[x**2 + (y - 105 * unit) ** 2 < (38 * unit) ** 2] = 500
        plane[(np.abs(y - 190 * unit) < 6 * unit) & (np.abs(x) < 240 * unit)] = -200
        out[index] = np.rint(plane + rng.normal(0, 12, plane.shape))
    return out


def usual_lungs(hu: np.ndarray) -> np.ndarray:
    """Return the usual mask: threshold, border cleared, two largest parts, closed, filled."""
    air = hu < -320
    inside = np.stack([segmentation.clear_border(plane) for plane in air])
    labels = measure.label(inside, connectivity=1)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    lungs = np.isin(labels, np.argsort(sizes)[-2:])
    radius = CLOSE_MM / SPACING[1]
    closed = np.stack([morphology.isotropic_closing(plane, radius) for plane in lungs])
    return np.stack([ndimage.binary_fill_holes(plane) for plane in closed])


def usual_chain(hu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return image and lung mask at 1 mm by scipy."""
    mask = usual_lungs(hu)
    shape = [round(size * step) for size, step in zip(hu.shape, SPACING, strict=True)]
    factors = np.divide(shape, hu.shape)
    image = ndimage.zoom(hu.astype(np.float32), factors, order=1, grid_mode=True, mode="nearest")
    return image, ndimage.zoom(mask, factors, order=0, grid_mode=True, mode="nearest")


def our_chain(hu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return image and lung mask at 1 mm by a recipe."""
    steps = [{"step": "lung"}, {"step": "resample", "spacing": [1, 1, 1]}]
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = SPACING
    affine[3, 3] = 1
    image = Image(hu, affine, {}, {"modality": "CT"})
    out, _ = apply(fit(parse_steps(steps), None), image)
    return out.array, out.masks["lung"]


def _same_chain(usual: tuple, ours: tuple) -> bool:
    masks = usual[1] != 0, ours[1] != 0
    common = 2 * (masks[0] & masks[1]).sum() / (masks[0].sum() + masks[1].sum())
    return bool(np.abs(usual[0] - ours[0]).max() < 0.01 and common > SAME_CHAIN_DICE)


def _usual_split(mask: np.ndarray) -> np.ndarray:
    depth = ndimage.distance_transform_edt(mask, sampling=SPACING)
    window = tuple(2 * max(1, int(CLOSE_MM / step)) + 1 for step in SPACING)
    peaks = mask & (depth == ndimage.maximum_filter(depth, window))
    return segmentation.watershed(-depth, ndimage.label(peaks)[0], mask=mask)


def _between(hu: np.ndarray, threshold: float) -> float:
    """Return the between-class variance of a threshold, times the square of the voxels."""
    above = hu > threshold
    count = float(above.sum())
    apart = hu.mean(where=above, dtype=np.float64) - hu.mean(where=~above, dtype=np.float64)
    return count * (hu.size - count) * apart**2


def rows(hu: np.ndarray) -> list[Row]:
    """Return what is compared."""
    tissue, air = hu > -500, (hu < -320)
    disc, radius = planes.disc(CLOSE_MM, SPACING[1:]), CLOSE_MM / SPACING[1]
    lungs = usual_lungs(hu)
    shells = np.ascontiguousarray(tissue).view(np.uint8)
    part = np.ascontiguousarray(lungs[: len(hu) // 3, ::2, ::2])
    equal = np.array_equal

    def each(function: Callable, mask: np.ndarray) -> np.ndarray:
        return np.stack([function(plane) for plane in mask])

    def largest_usual() -> np.ndarray:
        labels = measure.label(air, connectivity=1)
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        return labels == sizes.argmax()

    return [
        Row(
            "Otsu, int16",
            lambda: filters.threshold_otsu(hu),
            lambda: otsu.otsu_threshold(hu),
            # Of two that part equally well either will do: scikit-image counts in 32 bits.
            lambda a, b: _between(hu, b) >= _between(hu, a) * (1 - 1e-9),
            1.0,
        ),
        Row("largest component", largest_usual, lambda: components.largest(air), equal, 2.0),
        Row(
            "fill holes, 3-D",
            lambda: ndimage.binary_fill_holes(shells),
            lambda: components.fill(shells),
            equal,
            2.0,
        ),
        Row(
            "fill holes, slices",
            lambda: each(ndimage.binary_fill_holes, shells),
            lambda: planes.fill(shells),
            equal,
            10.0,
        ),
        Row(
            f"dilate, disc {CLOSE_MM:g} mm",
            lambda: each(lambda p: morphology.isotropic_dilation(p, radius), tissue),
            lambda: planes.dilate(shells, disc),
            equal,
            2.0,
        ),
        Row(
            "watershed split, 1/12",
            lambda: _usual_split(part),
            lambda: watershed.split(part, SPACING, CLOSE_MM),
            lambda a, b: a.max() == b.max() and equal(a != 0, b != 0),
            1.0,
        ),
        Row("lung + linear 1 mm", lambda: usual_chain(hu), lambda: our_chain(hu), _same_chain, 3.0),
    ]


def seconds(row: Row, rounds: int) -> tuple[float, float]:
    """Return the best CPU time of the usual way and of ours, turn by turn."""
    best = [np.inf, np.inf]
    for _ in range(rounds):
        for side, work in enumerate((row.usual, row.ours)):
            # Both sides use one thread; its own time leaves out what others do on the machine.
            begun = time.process_time()
            work()
            best[side] = min(best[side], time.process_time() - begun)
    return best[0], best[1]


def main() -> int:
    """Print a line a row and end with 1 when a bar is missed or results differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=120)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="rows whose name holds this")
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    hu = chest(asked.slices, asked.side)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, one used")
    print(f"{hu.shape[0]} x {hu.shape[1]} x {hu.shape[2]}, int16, best of {asked.rounds}")
    print(f"{'':22} {'usual s':>8} {'radloop s':>9} {'ratio':>6} {'bar':>5}")
    missed = False
    for row in (one for one in rows(hu) if asked.only in one.name):
        same = bool(row.same(row.usual(), row.ours()))
        usual, ours = seconds(row, asked.rounds)
        ratio = usual / ours
        said = "" if ratio >= row.bar else "  MISSED"
        said += "" if same else "  DIFFERS"
        print(f"{row.name:22} {usual:8.3f} {ours:9.3f} {ratio:6.1f} {row.bar:5.1f}{said}")
        missed |= bool(said)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
