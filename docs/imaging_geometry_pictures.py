"""Draw the pictures of docs/imaging_geometry.md from heads made in code, into docs/images.

    python docs/imaging_geometry_pictures.py

What the pictures show went through the steps of the package; the head is that of their tests.
"""

import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tasks.imaging.coregister import coregister  # noqa: E402
from tasks.imaging.recipe import Image, apply, fit, replay  # noqa: E402
from tasks.imaging.regrid import resample_onto  # noqa: E402
from tasks.imaging.steps import parse_steps  # noqa: E402
from tests.imaging.heads import T1, T2, TUMOUR, centred, labels, scan, turned  # noqa: E402

IMAGES = ROOT / "docs" / "images"
STILL = np.eye(4)


def save(figure: plt.Figure, name: str) -> None:
    """Write a picture without a date, so that the same drawing is the same file."""
    figure.savefig(IMAGES / name, dpi=100, metadata={"Software": None})
    plt.close(figure)


def resampled() -> None:
    """One slice and one column of slices through each choice, with a mask's border."""
    shape, spacing = (28, 44, 40), (6.0, 4.0, 4.0)
    source = scan(shape, centred(shape, spacing), noise=3)
    mask = Image((labels(shape, source.affine, STILL) == TUMOUR).astype(np.uint8), source.affine)
    ways = {
        "source": None,
        "linear, masks nearest": {},
        "cubic, masks onehot": {"order": "cubic", "masks": "onehot"},
        "cubic, spacing 6 x 1 x 1:\nslices kept as they are": {"order": "cubic", "masks": "onehot"},
    }
    figure, axes = plt.subplots(2, len(ways), figsize=(11, 6), layout="constrained")
    for column, (title, choice) in zip(axes.T, ways.items(), strict=True):
        image, border = source, mask
        if choice is not None:
            target = [6.0, 1.0, 1.0] if "kept" in title else [1.5, 1.0, 1.0]
            steps = parse_steps([{"step": "resample", "spacing": target, **choice}])
            recipe = fit(steps, None)
            image, traces = apply(recipe, source)
            border = replay(recipe, traces, mask)
        where = np.argwhere(border.array).mean(axis=0).round().astype(int)
        size = np.linalg.norm(image.affine[:3, :3], axis=0)
        for axis, plane in zip(column, ((0, 1, 2), (2, 0, 1)), strict=True):
            cut, rows, _ = plane
            shown = np.take(image.array, where[cut], cut)
            ring = np.take(border.array, where[cut], cut)
            ratio = size[rows] / size[plane[2]]
            axis.imshow(shown, cmap="gray", vmin=0, vmax=200, aspect=ratio, origin="upper")
            axis.contour(ring, levels=[0.5], colors="#e07020", linewidths=1)
            axis.axis("off")
        column[0].set_title(title, fontsize=9)
    save(figure, "imaging-geometry-resample.png")


def registered() -> None:
    """A T1, a T2 after a nod as the headers lay it on the T1, and as it was found to lie."""
    shape, spacing = (32, 64, 56), (5.0, 2.6, 2.6)
    other = (52, 72, 64), (3.0, 2.4, 2.4)
    fixed = scan(shape, centred(shape, spacing), greys=T1)
    moving = scan(other[0], centred(*other), turned((6, -7, 5), (6, -8, 5)), T2, seed=1)
    found = coregister({"t1": fixed, "t2": moving}, "t1")
    before = resample_onto(moving, STILL, shape, fixed.affine)
    edges = labels(shape, fixed.affine, STILL)
    match = found.registrations["t2"]
    titles = {
        "T1, the reference": fixed,
        "T2 where its headers put it": before,
        f"T2 registered: {match.shift_mm:.1f} mm, {match.rotation_deg:.1f} degrees,\n"
        f"quality {match.quality:.2f}": found.images["t2"],
    }
    figure, axes = plt.subplots(1, 3, figsize=(10, 4.2), layout="constrained")
    for axis, (title, image) in zip(axes, titles.items(), strict=True):
        axis.imshow(image.array[19], cmap="gray", vmin=0, vmax=230)
        axis.contour(edges[19], levels=[1.5, 3.5, 4.5, 5.5], colors="#e07020", linewidths=0.7)
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    save(figure, "imaging-geometry-register.png")


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    resampled()
    registered()
