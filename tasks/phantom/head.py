"""A drawn head for MR: scalp, skull, folded grey matter, white matter, ventricles, cerebellum.

Proportions are those of an adult; no person's image went in. Coordinates are mm about the middle
of the grid, (z, y, x) = (to the vertex, to the back, to the left).
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from tasks.phantom.fields import smooth_field, step

SEQUENCES = ("t1n", "t1c", "t2w", "t2f")
"""T1, T1 with contrast medium, T2, T2-FLAIR: the names BraTS gives since 2023."""

SIGNALS = {
    "fat": (950, 950, 800, 700),
    "muscle": (420, 500, 300, 330),
    "bone": (60, 60, 50, 50),
    "marrow": (430, 450, 300, 250),
    "fluid": (180, 185, 1150, 110),
    "grey": (520, 540, 560, 570),
    "white": (700, 720, 400, 440),
    "nuclei": (590, 610, 470, 500),
    "sinus": (250, 1150, 130, 210),
    "plexus": (450, 1020, 800, 470),
    "lesion": (600, 610, 640, 800),
    "necrosis": (330, 350, 960, 520),
    "oedema": (540, 555, 760, 750),
    "enhancing": (560, 1050, 620, 700),
}
"""Signal of each tissue in :data:`SEQUENCES`, arbitrary units."""

BRAIN = (64.0, 84.0, 66.0)
"""Half axes of the brain in mm, (z, y, x)."""


@dataclass(frozen=True)
class Head:
    """A drawn head before scanner and tumour.

    Attributes
    ----------
    images : array of float32, shape (4, z, y, x)
        Signals of :data:`SEQUENCES`.
    brain, white : array of float32, shape (z, y, x)
        Share of brain with its fluid, and of white matter, in each voxel.
    """

    images: np.ndarray
    brain: np.ndarray
    white: np.ndarray


def paint(images: np.ndarray, signals: np.ndarray, share: np.ndarray) -> None:
    """Put a tissue over all sequences where its share is 1; in place."""
    for image, signal in zip(images, signals, strict=True):
        image += share * (np.float32(signal) - image)


def vary(rng: np.random.Generator, spread: float) -> dict[str, np.ndarray]:
    """Draw this scanner's and patient's signals about those of the table."""
    return {
        name: np.array(row) * np.exp(spread * rng.standard_normal(len(row)))
        for name, row in SIGNALS.items()
    }


def draw_head(
    rng: np.random.Generator,
    axes: list[np.ndarray],
    bent: tuple[np.ndarray, np.ndarray, np.ndarray],
    signals: dict[str, np.ndarray],
    voxel: float,
) -> Head:
    """Draw a head.

    Parameters
    ----------
    rng : numpy Generator
    axes : list of array
        (z, y, x) in mm, ready to broadcast.
    bent : tuple of array, each of shape (z, y, x)
        The same places as they lay before a tumour pushed them away.
    signals : dict
        See :func:`vary`.
    voxel : float
        Width of a soft edge, in mm.
    """
    shape = tuple(axis.size for axis in axes)
    images = np.zeros((len(SEQUENCES), *shape), dtype=np.float32)
    size = np.array(BRAIN) * rng.uniform(0.93, 1.05, 3)
    build = [2.5 * smooth_field(rng, axes, 45) for _ in range(3)]
    z, y, x = (axis + warp for axis, warp in zip(axes, build, strict=True))
    _shell(rng, images, axes, (z, y, x), size, signals, voxel)
    inner = tuple(b + warp for b, warp in zip(bent, build, strict=True))
    return _brain(rng, images, axes, inner, size, signals, voxel)


def _ball(places: tuple, centre: tuple, half: tuple) -> np.ndarray:
    """Return the depth inside an ellipsoid in mm, about right near its border."""
    square = sum(((p - c) / h) ** 2 for p, c, h in zip(places, centre, half, strict=True))
    return (1 - np.sqrt(square)) * min(half)


def _shell(
    rng: np.random.Generator,
    images: np.ndarray,
    axes: list[np.ndarray],
    places: tuple,
    size: np.ndarray,
    signals: dict[str, np.ndarray],
    voxel: float,
) -> None:
    """Draw scalp, skull with its marrow, face muscles, eyes, and fluid where the brain will be."""
    z, y, x = places
    depth = _ball(places, (-2, 4, 0), tuple(size + 2.0))
    lumps = smooth_field(rng, axes, 25)
    skull = 6.5 + 0.8 * lumps
    scalp = skull + 5.5 + 1.2 * lumps + np.clip((-30 - z) / 6, 0, 6)
    # Below the brain the head does not close but goes on as face and neck.
    below = np.where(z < -20, _oval_below(y, x, size), depth)
    outer = np.maximum(depth, below)
    paint(images, signals["muscle"], step(outer + scalp, voxel))
    paint(images, signals["fat"], step(outer + scalp - 1.6, voxel))
    flesh = np.clip(0.5 + 0.9 * smooth_field(rng, axes, 7), 0, 1)
    paint(images, signals["muscle"], step(outer + skull + 0.5, voxel))
    base = step(-36 - z - 0.2 * y, 10)
    paint(images, signals["fat"], step(outer + skull, voxel) * base * flesh * 0.7)
    closed = step(depth + skull, voxel) * (1 - 0.6 * base * flesh)
    paint(images, signals["bone"], closed)
    diploe = step(1.3 + 0.5 * lumps - np.abs(depth + skull / 2 + 0.4), voxel)
    paint(images, signals["marrow"], diploe * (1 - base) * 0.8)
    for side in (-1, 1):
        orbit = _ball(places, (-42, -66, side * 32), (19, 24, 19))
        paint(images, signals["fat"], step(orbit, voxel))
        paint(
            images,
            signals["muscle"],
            step(_ball(places, (-42, -76, side * 32), (13, 13, 13)), voxel),
        )
        paint(
            images, signals["fluid"], step(_ball(places, (-42, -76, side * 32), (11.8,) * 3), voxel)
        )
    fluid = np.minimum(depth + 0.8, z - _floor(y, x) + 2.5)
    hind = _ball(places, (-46, 46, 0), (23, 33, 48))
    stem = np.minimum(16 - np.hypot(y - 12, x * 0.9), -20 - z)
    paint(images, signals["fluid"], step(np.maximum(fluid, np.maximum(hind, stem)), voxel))
    sinus = np.minimum(4.0 - np.hypot(x, depth - 0.5) * 0.9, z - 5)
    paint(images, signals["sinus"], step(np.where(y > -50, sinus, -9), voxel))


def _oval_below(y: np.ndarray, x: np.ndarray, size: np.ndarray) -> np.ndarray:
    radius = np.sqrt(((y - 4) / (size[1] - 4)) ** 2 + (x / (size[2] - 2)) ** 2)
    return (1 - radius) * size[2]


def _floor(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the height of the brain's base: frontal lobes, lower temporal ones, tentorium."""
    temporal = step(np.abs(x) - 20, 16) * step(y + 32, 18) * step(34 - y, 30)
    return -27 - 18 * temporal + 7 * np.clip((y - 26) / 22, 0, 3)


def _folds(rng: np.random.Generator, inner: tuple, size: np.ndarray, width: float) -> np.ndarray:
    """Return the distance to the next sulcus, in mm.

    Sulci are the zeros of a field that changes along the surface and hardly with the depth, so that
    they run into the brain and not along its border.
    """
    line = np.arange(-110, 111, 2.2, dtype=np.float32)
    cube = [line[:, None, None], line[None, :, None], line[None, None, :]]
    field = smooth_field(rng, cube, width)
    radius = np.sqrt(sum((p / s) ** 2 for p, s in zip(inner, size, strict=True)))
    stretch = np.clip(radius, 0.45, 1.4) ** -0.75
    index = np.stack([(p * stretch + 110) / 2.2 for p in inner])
    found = map_coordinates(field, index, order=1, mode="nearest", output=np.float32)
    return np.abs(found) * np.float32(1.41 * width)


def _brain(
    rng: np.random.Generator,
    images: np.ndarray,
    axes: list[np.ndarray],
    inner: tuple,
    size: np.ndarray,
    signals: dict[str, np.ndarray],
    voxel: float,
) -> Head:
    z, y, x = inner
    depth = _ball(inner, (-2, 4, 0), tuple(size))
    floor = _floor(y, x)
    depth = np.minimum(depth, (z - floor) * 0.9)
    age = rng.uniform(0.7, 1.5)
    gap = _folds(rng, inner, size, 2.7)
    reach = 17 + 5 * smooth_field(rng, axes, 14)
    wide = 0.7 * age * np.clip(1 - depth / reach, 0, 1)
    split = np.abs(x) - 0.4 - 0.4 * age
    cleft = np.where((z > 14) | (depth < 24), split, 9.0)
    cortex = np.minimum(np.minimum(depth, cleft), np.where(depth < reach, gap - wide, 99))
    tissue = step(cortex, voxel)
    white = step(cortex - 3.2 - 0.4 * smooth_field(rng, axes, 12), voxel)
    hind = _ball(inner, (-46, 46, 0), (21, 31, 46))
    leaf = _folds(rng, inner, size, 1.7)
    stem = np.minimum(14 - np.hypot(y - 12, x * 0.9), -20 - z)
    paint(images, signals["grey"], tissue)
    paint(images, signals["white"], white)
    paint(images, signals["grey"], step(np.minimum(hind, leaf - 0.25), voxel))
    tree = step(np.minimum(hind - 5, leaf - 2.2), voxel)
    paint(images, signals["white"], np.maximum(tree, step(stem, voxel)))
    for side in (-1, 1):
        for centre, half in (
            ((-2, 8, 12), (10, 14, 9)),
            ((0, -6, 25), (13, 20, 6)),
            ((8, -16, 13), (9, 12, 5)),
        ):
            lump = _ball(inner, (centre[0], centre[1], side * centre[2]), half)
            paint(images, signals["nuclei"], step(lump, voxel))
    cavities = _ventricles(rng, inner, age)
    paint(images, signals["fluid"], step(cavities, voxel))
    paint(
        images,
        signals["plexus"],
        step(np.minimum(2.2 - np.hypot(z - 8, np.abs(x) - 14), 14 - np.abs(y - 22)), voxel),
    )
    # Bright spots of small vessels' disease and caps about the ventricles are no tumour.
    caps = step(1.5 + 3 * rng.random() - np.abs(cavities + 1), voxel) * 0.7 * white
    spots = smooth_field(rng, axes, 4.5) - np.float32(rng.uniform(2.2, 3.4))
    paint(images, signals["lesion"], np.maximum(caps, np.clip(spots * 3, 0, 1) * white))
    brain = np.maximum(step(depth + 1, voxel), step(np.maximum(hind, stem), voxel))
    return Head(images, brain, white * (1 - step(cavities, voxel)))


def _ventricles(rng: np.random.Generator, inner: tuple, age: float) -> np.ndarray:
    """Return the depth inside the ventricles: two bows, their back horns, and a slit between."""
    z, y, x = inner
    side = np.abs(x) - (9 + 0.0035 * (y + 8) ** 2)
    lift = z - (13 - 0.004 * (y + 5) ** 2)
    long = np.clip(1 - ((y - 6) / 44) ** 2, 0, 1)
    bow = (np.sqrt(long) - np.sqrt((side / 6.5) ** 2 + (lift / 8.5) ** 2)) * 5.5 * age
    slit = np.minimum(2.0 * age - np.abs(x), np.minimum(12 - np.abs(z), 13 - np.abs(y - 4)))
    fourth = _ball(inner, (-40, 26, 0), (8, 6, 7))
    return np.maximum(np.maximum(bow, slit), fourth) + rng.uniform(-0.3, 0.3)
