"""Lung nodules whose number, size, density, outline and readers follow the LIDC-IDRI annotations.

The figures below were counted in the 6,859 annotations of 883 series (Armato et al., Med Phys 2011;
DICOM re-encoding on TCIA, CC BY 3.0): annotations of one series whose centres lie within 8 mm on
average are one nodule, which gives 2,667. No image of LIDC-IDRI is used.
"""

from dataclasses import dataclass

import numpy as np

from tasks.phantom.fields import smooth_field

READERS = 4

READER_SHARES = (0.294, 0.185, 0.181, 0.340)
"""Share of nodules marked by exactly one, two, three and four readers."""

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)

DIAMETERS = (
    (2.6, 4.3, 5.3, 6.4, 8.6, 18.8, 56.1),
    (3.5, 4.7, 5.7, 7.0, 9.6, 20.6, 46.0),
    (4.5, 5.5, 6.5, 7.8, 10.5, 30.0, 44.9),
    (4.9, 5.8, 7.7, 10.1, 15.1, 28.3, 46.8),
)
"""Longest diameter in mm at the quantiles, by the number of readers; the mean of the readers."""

DIAMETER_BINS = (6.0, 8.0, 12.0, 20.0)
"""Borders in mm of the five rows of each table of ratings."""

RATINGS = {
    "subtlety": (
        (0.07, 0.19, 0.23, 0.30, 0.21),
        (0.05, 0.13, 0.28, 0.44, 0.10),
        (0.04, 0.11, 0.16, 0.54, 0.15),
        (0.01, 0.06, 0.10, 0.48, 0.35),
        (0.00, 0.02, 0.03, 0.16, 0.79),
    ),
    "malignancy": (
        (0.21, 0.42, 0.36, 0.01, 0.00),
        (0.12, 0.41, 0.43, 0.04, 0.00),
        (0.08, 0.30, 0.49, 0.13, 0.00),
        (0.03, 0.12, 0.33, 0.48, 0.04),
        (0.01, 0.07, 0.10, 0.58, 0.24),
    ),
    "spiculation": (
        (0.82, 0.14, 0.01, 0.02, 0.01),
        (0.77, 0.19, 0.02, 0.01, 0.01),
        (0.61, 0.31, 0.04, 0.03, 0.01),
        (0.33, 0.48, 0.11, 0.07, 0.01),
        (0.17, 0.36, 0.21, 0.22, 0.04),
    ),
    "texture": (
        (0.05, 0.03, 0.05, 0.15, 0.72),
        (0.05, 0.03, 0.05, 0.21, 0.66),
        (0.09, 0.07, 0.05, 0.18, 0.61),
        (0.09, 0.05, 0.05, 0.20, 0.61),
        (0.05, 0.02, 0.04, 0.20, 0.69),
    ),
}
"""Shares of the ratings 1 to 5, by diameter; texture 1 is ground glass, 3 part-solid, 5 solid."""

COUNTS = (0.133, 0.293, 0.205, 0.130, 0.074, 0.043, 0.037, 0.027, 0.058)
"""Share of scans with 0, 1, 2, … 8 nodules or more; none in 135 of LIDC-IDRI's 1,018 scans."""

READER_SPREAD = 0.095
"""Standard deviation of the readers' diameters over their mean."""

PLACES = ("inside", "vessel", "pleura")
"""Where a nodule sits. How often is a choice of this phantom: the table does not say."""

PLACE_SHARES = (0.45, 0.25, 0.30)

LARGEST = 34.0
"""Diameters in mm are cut here, so that a nodule fits into a small lung."""


@dataclass(frozen=True)
class Nodule:
    """One nodule before it is drawn; lengths in mm, ratings from 1 to 5.

    Attributes
    ----------
    centre : tuple of float
        (z, y, x) about the middle of the grid.
    diameter : float
        Longest diameter, mean of the readers.
    place : str
        One of :data:`PLACES`.
    reader_diameters : tuple of float
        Of those readers who marked it.
    subtlety, malignancy, spiculation, texture : int
    calcified : bool
    seed : int
        Of its outline.
    """

    centre: tuple[float, float, float]
    diameter: float
    place: str
    reader_diameters: tuple[float, ...]
    subtlety: int
    malignancy: int
    spiculation: int
    texture: int
    calcified: bool
    seed: int


def draw_count(rng: np.random.Generator) -> int:
    """Draw how many nodules a scan has."""
    return int(rng.choice(len(COUNTS), p=np.array(COUNTS) / sum(COUNTS)))


def draw_nodule(rng: np.random.Generator, place: str, difficulty: str) -> Nodule:
    """Draw one nodule's properties, at the middle of the grid.

    `standard` follows the table. `easy` has nodules of four readers from 8 mm on, solid; `hard` has
    the smaller half of the table, with ratings of texture and subtlety drawn down.
    """
    readers = int(rng.choice(READERS, p=READER_SHARES)) + 1
    level = rng.random()
    if difficulty == "easy":
        readers, level = READERS, 0.3 + 0.65 * level
    elif difficulty == "hard":
        level = 0.05 + 0.5 * level
    diameter = min(float(np.interp(level, QUANTILES, DIAMETERS[readers - 1])), LARGEST)
    row = int(np.searchsorted(DIAMETER_BINS, diameter, side="right"))
    rated = {
        name: int(rng.choice(5, p=np.array(table[row]) / sum(table[row]))) + 1
        for name, table in RATINGS.items()
    }
    if difficulty == "easy":
        rated.update(texture=5, subtlety=5)
    elif difficulty == "hard":
        rated.update(
            texture=max(1, rated["texture"] - int(rng.integers(0, 3))),
            subtlety=max(1, rated["subtlety"] - 1),
        )
    marks = diameter * (1 + READER_SPREAD * rng.standard_normal(readers))
    return Nodule(
        centre=(0.0, 0.0, 0.0),
        diameter=diameter,
        place=place,
        reader_diameters=tuple(float(m) for m in np.maximum(marks, 2.5)),
        calcified=bool(rated["malignancy"] == 1 and rated["texture"] == 5 and rng.random() < 0.4),
        seed=int(rng.integers(2**31)),
        **rated,
    )


def depth_below_surface(nodule: Nodule, axes: list[np.ndarray]) -> np.ndarray:
    """Return how deep each place lies inside the outline, in mm; negative outside.

    A ball, squeezed along one axis, with bulges for lobules and rays for spicules.
    """
    rng = np.random.default_rng([nodule.seed, 1])
    z, y, x = ((axis - np.float32(at)) for axis, at in zip(axes, nodule.centre, strict=True))
    squeeze = rng.uniform(0.72, 1.0, 3)
    squeeze /= squeeze.max()
    distance = np.sqrt((z / squeeze[0]) ** 2 + (y / squeeze[1]) ** 2 + (x / squeeze[2]) ** 2)
    radius = nodule.diameter / 2
    lobes = smooth_field(rng, [z, y, x], max(radius * 0.55, 1.2))
    depth = radius * (1 + (0.05 + 0.025 * nodule.malignancy) * np.clip(lobes, -2, 2)) - distance
    rays = 3 * (nodule.spiculation - 1)
    if rays:
        directions = rng.standard_normal((rays, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        for ray, reach in zip(directions, rng.uniform(0.3, 0.9, rays), strict=True):
            along = z * np.float32(ray[0]) + y * np.float32(ray[1]) + x * np.float32(ray[2])
            off = np.sqrt(np.maximum(z**2 + y**2 + x**2 - along**2, 0))
            # A spicule tapers from 1 mm at the surface to nothing.
            width = 1.0 * np.clip(1 - (along - radius) / (reach * radius), 0, 1)
            depth = np.maximum(depth, np.where(along > 0, width - off, -9e3) - 0.3)
    return depth.astype(np.float32)


def density(nodule: Nodule, depth: np.ndarray, grain: np.ndarray) -> np.ndarray:
    """Return the nodule's own HU at each depth.

    Ground glass is a haze through which vessels show, a part-solid one has a solid heart, a solid
    one is soft tissue, and some benign ones hold lime.
    """
    solid = {1: -610.0, 2: -520.0, 3: -480.0, 4: -90.0, 5: 25.0}[nodule.texture]
    hu = solid + (14 if nodule.texture >= 4 else 45) * grain
    if nodule.texture in (2, 3):
        heart = np.clip((depth - nodule.diameter * 0.22) / (nodule.diameter * 0.08) + 0.5, 0, 1)
        hu = hu + heart * (20 - hu)
    if nodule.calcified:
        lime = np.clip((depth - nodule.diameter * 0.2) / (nodule.diameter * 0.1) + 0.5, 0, 1)
        hu = hu + lime * 380
    # What a reader calls subtle is fainter.
    return hu - (5 - nodule.subtlety) * (25 if nodule.texture >= 4 else 40)
