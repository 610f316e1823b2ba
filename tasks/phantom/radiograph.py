"""A drawn wrist X-rayed in two views: paths through bones, tissue and cast, then the film."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from tasks.phantom.bones import through_bones, through_oval, through_tissue
from tasks.phantom.fields import centred_axes, smooth_field, step
from tasks.phantom.wrist import Wrist

SHAPE = (256, 192)
SPACING = 0.5
"""Rows and columns, and mm of a pixel on the film."""

BITS = 12
VIEWS = {"PA": 0.0, "LL": 90.0}
"""DICOM's view codes and the angle about the limb in degrees."""


@dataclass(frozen=True)
class Film:
    """One view.

    Attributes
    ----------
    image : array of uint16, shape (rows, columns)
        12 bits, bright where dense.
    boxes : array, shape (n, 4)
        Of the fractures: first row, first column, last row, last column, in pixels.
    """

    image: np.ndarray
    boxes: np.ndarray


@dataclass(frozen=True)
class _Pose:
    """Where the limb lies on the film: turn in radians, shift in mm, mirrored or not."""

    turn: float
    down: float
    across: float
    mirror: float

    def limb(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (u, v) of film places in mm."""
        y, x = rows + self.down, columns + self.across
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        return -(y * cos + x * sin), self.mirror * (x * cos - y * sin)

    def film(self, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return film places (down, across) in mm of (u, v)."""
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        y, x = -u, self.mirror * v
        return y * cos - x * sin - self.down, y * sin + x * cos - self.across


def expose(
    wrist: Wrist, view: str, *, shape: tuple[int, int] = SHAPE, spacing: float = SPACING
) -> Film:
    """X-ray a wrist.

    Parameters
    ----------
    wrist : Wrist
    view : str
        A key of :data:`VIEWS`.
    shape : tuple of int
        (rows, columns).
    spacing : float
        mm a pixel.
    """
    rng = np.random.default_rng([wrist.seed, list(VIEWS).index(view)])
    pose = _Pose(
        turn=float(rng.normal(0, 0.10)),
        down=float(rng.normal(-6, 4)),
        across=float(rng.normal(0, 4)),
        mirror=1.0 if wrist.left else -1.0,
    )
    angle = math.radians(VIEWS[view] + rng.normal(0, 6))
    axes = centred_axes(shape, (spacing, spacing))
    u, v = pose.limb(*axes)
    look = math.cos(angle), math.sin(angle)
    grain = smooth_field(rng, axes, (1.0, 0.45))
    tissue = through_tissue(wrist, look, u, v, smooth_field(rng, axes, 12))
    path = 0.021 * tissue
    path += 0.052 * through_bones(rng, wrist, look, u, v, grain, spacing)
    if wrist.cast:
        path += _cast(rng, wrist, look, u, v, axes)
    image = _film(rng, path, _wires(rng, wrist, look, u, v, spacing), axes)
    return Film(image, _boxes(wrist, look, pose, shape, spacing))


def _cast(
    rng: np.random.Generator,
    wrist: Wrist,
    look: tuple[float, float],
    u: np.ndarray,
    v: np.ndarray,
    axes: list[np.ndarray],
) -> np.ndarray:
    """Return the attenuation of a plaster or fibre cast: a shell with a weave, open at its ends."""
    thick = rng.uniform(3, 6)
    half_a, half_b = wrist.tissue[0] * 1.22, wrist.tissue[1] * 1.2
    layer = through_oval(look, half_a + thick, half_b + thick, v) - through_oval(
        look, half_a, half_b, v
    )
    weave = smooth_field(rng, axes, (0.8, 2.5)) + smooth_field(rng, axes, (7, 9))
    ends = step(rng.uniform(30, 70) - u, 1.5)
    return 0.022 * layer * (1 + 0.12 * weave) * ends


def _wires(
    rng: np.random.Generator,
    wrist: Wrist,
    look: tuple[float, float],
    u: np.ndarray,
    v: np.ndarray,
    spacing: float,
) -> np.ndarray:
    """Return the attenuation of two steel wires across the end of the radius, if it has any."""
    total = np.zeros(u.shape)
    if not wrist.metal:
        return total
    middle = wrist.radius.a * look[0]
    for lean in rng.uniform(-0.5, 0.5, 2):
        off = np.abs(v - middle - lean * (u + 14))
        total += 2.2 * step(0.8 - off, spacing) * step(26 - np.abs(u + 12), 1)
    return total


def _film(
    rng: np.random.Generator, path: np.ndarray, metal: np.ndarray, axes: list[np.ndarray]
) -> np.ndarray:
    """Return 12-bit grey: photons, scatter, the detector's logarithm, collimation and marker."""
    exposure = rng.uniform(900, 2600)
    heel = 1 + 0.05 * smooth_field(rng, axes, 90)
    beam = exposure * heel * np.exp(-path - metal)
    beam = gaussian_filter(beam, 0.6) + 0.04 * gaussian_filter(beam, 14)
    counted = np.maximum(rng.poisson(beam), 1.0)
    shown = np.log(exposure / gaussian_filter(counted, 0.4))
    # The detector's processing spreads the limb over the greys; metal saturates.
    low, high = np.percentile(path, (3, 99.7))
    shown = (shown - low) / (high - low)
    shown = 1 / (1 + np.exp(-rng.uniform(5.0, 6.5) * (shown - rng.uniform(0.5, 0.62))))
    rows, columns = axes
    edges = rng.uniform(0, 7, 4)
    field = step(rows - rows.min() - edges[0], 1) * step(rows.max() - edges[1] - rows, 1)
    field = field * step(columns - columns.min() - edges[2], 1)
    field = field * step(columns.max() - edges[3] - columns, 1)
    top = (1 << BITS) - 1
    return np.clip(np.rint(shown * field * top), 0, top).astype(np.uint16)


def _boxes(
    wrist: Wrist,
    look: tuple[float, float],
    pose: _Pose,
    shape: tuple[int, int],
    spacing: float,
) -> np.ndarray:
    boxes = []
    for found in wrist.breaks:
        shaft = getattr(wrist, found.bone)
        s = wrist.size
        near = np.clip((found.place - shaft.end + 30 * s) / (30 * s), 0, 1)
        half_a = shaft.half_a * (1 + shaft.flare * near**1.7)
        half_b = shaft.half_b * (1 + 0.55 * shaft.flare * near**1.7)
        wide = float(np.hypot(half_a * look[0], half_b * look[1])) + 1.5
        long = {"complete": 5.5, "greenstick": 5.5, "torus": 4.5, "plate": 4.0}
        tall = long.get(found.kind, 4.0) * s + abs(found.slant) * wide
        middle = shaft.a * look[0] + shaft.b * look[1]
        if found.kind == "styloid":
            wide, middle = 4.5 * s, middle + 4.5 * s * look[0]
        middle += 0.5 * (found.shift[0] * look[0] + found.shift[1] * look[1])
        u = found.place + tall * np.array([-1, -1, 1, 1])
        v = middle + wide * np.array([-1, 1, -1, 1])
        down, across = pose.film(u, v)
        rows, columns = down / spacing + (shape[0] - 1) / 2, across / spacing + (shape[1] - 1) / 2
        box = [rows.min(), columns.min(), rows.max(), columns.max()]
        limits = [shape[0] - 1, shape[1] - 1] * 2
        box = [float(np.clip(b, 0, top)) for b, top in zip(box, limits, strict=True)]
        if box[2] > box[0] + 2 and box[3] > box[1] + 2:
            boxes.append(box)
    return np.array(boxes).reshape(-1, 4)
