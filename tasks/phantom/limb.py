"""A drawn forearm in X-rays: soft tissue, radius and ulna with cortex, with or without a fracture.

Nothing here is anatomy to learn from: it is a small task with a known truth. What is random is
drawn in `draw_anatomy` and `draw_shot`; `render` only computes, so each picture can be made again.

Limb coordinates are pixels: u along the limb (0 at the middle, positive to the hand), v across.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

ROWS, COLUMNS = 256, 192
"""Matrix of every picture, portrait as a forearm is."""

BITS = 12
"""Stored bits; grey values run from 0 to 4095."""

ADULT_BONE_AGE = 16
"""From this age on the growth plates are closed and not drawn."""


@dataclass(frozen=True)
class Bone:
    """One shaft; lengths in pixels."""

    offset: float
    radius: float
    cortex: float
    bow: float
    flare: float
    wrist: float
    density: float


@dataclass(frozen=True)
class Anatomy:
    """What stays with a patient from one examination to the next."""

    bones: tuple[Bone, Bone]
    tissue: float
    taper: float
    age: int
    plate: float


@dataclass(frozen=True)
class Fracture:
    """A break of one shaft: place along the limb, slant, gap, shift and bend of the far part."""

    bone: int
    place: float
    slant: float
    gap: float
    shift: float
    bend: float
    teeth: float


@dataclass(frozen=True)
class Shot:
    """What differs from picture to picture."""

    angle: float
    centre: tuple[float, float]
    scale: float
    lateral: bool
    exposure: float
    gain: float
    level: float
    field: tuple[float, float, float, float]
    left: bool
    marker: tuple[float, float]
    folds: tuple[tuple[float, float, float], ...]
    fracture: Fracture | None
    noise_seed: int


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw one patient's forearm."""
    size = rng.uniform(0.85, 1.15)
    radius = Bone(
        offset=-17 * size,
        radius=rng.uniform(8.5, 10.5) * size,
        cortex=rng.uniform(0.26, 0.36),
        bow=rng.uniform(-3, 9) * 1e-4,
        flare=rng.uniform(0.5, 0.8),
        wrist=rng.uniform(72, 84),
        density=rng.uniform(0.16, 0.28),
    )
    ulna = Bone(
        offset=17 * size,
        radius=rng.uniform(6.5, 8.5) * size,
        cortex=rng.uniform(0.30, 0.42),
        bow=rng.uniform(-6, 3) * 1e-4,
        flare=rng.uniform(0.1, 0.3),
        wrist=radius.wrist - rng.uniform(3, 9),
        density=rng.uniform(0.16, 0.28),
    )
    return Anatomy(
        bones=(radius, ulna),
        tissue=rng.uniform(42, 55) * size,
        taper=rng.uniform(0.08, 0.2),
        age=int(rng.integers(5, 80)),
        plate=rng.uniform(16, 22),
    )


def draw_shot(rng: np.random.Generator, fractured: bool) -> Shot:
    """Draw pose, exposure, collimation, marker and, when asked, a fracture."""
    margin = rng.uniform(2, 16, size=4)
    corner = (rng.choice([0.10, 0.82]), rng.choice([0.09, 0.86]))
    return Shot(
        angle=float(rng.normal(0, 7)),
        centre=(float(rng.normal(0, 8)), float(rng.normal(0, 6))),
        scale=float(rng.uniform(0.9, 1.12)),
        lateral=bool(rng.random() < 0.4),
        exposure=float(rng.uniform(700, 2600)),
        gain=float(rng.uniform(0.8, 1.2)),
        level=float(rng.uniform(-0.12, 0.12)),
        field=tuple(float(m) for m in margin),
        left=bool(rng.random() < 0.5),
        marker=(float(corner[0]), float(corner[1])),
        folds=tuple(
            (float(rng.uniform(-90, 90)), float(rng.uniform(-0.4, 0.4)), float(rng.uniform(1, 3)))
            for _ in range(rng.integers(0, 3))
        ),
        fracture=_draw_fracture(rng) if fractured else None,
        noise_seed=int(rng.integers(2**32)),
    )


def _draw_fracture(rng: np.random.Generator) -> Fracture:
    sign = rng.choice([-1.0, 1.0])
    return Fracture(
        bone=int(rng.integers(2)),
        place=float(rng.uniform(-66, 50)),
        slant=float(rng.uniform(-0.9, 0.9)),
        gap=float(rng.uniform(2.4, 5.5)),
        shift=float(sign * rng.uniform(1.0, 8.0)),
        bend=float(np.radians(sign * rng.uniform(2.0, 16.0))),
        teeth=float(rng.uniform(0.4, 1.8)),
    )


def render(anatomy: Anatomy, shot: Shot) -> np.ndarray:
    """Render one radiograph.

    Returns
    -------
    array of uint16, shape (ROWS, COLUMNS)
        Grey values of BITS bits, bright where the limb is dense (MONOCHROME2).
    """
    rng = np.random.default_rng(shot.noise_seed)
    u, v = _limb_coordinates(shot)
    tissue = _tissue(anatomy, shot, u, v)
    path = 0.0105 * tissue
    for index in range(len(anatomy.bones)):
        path = path + 0.062 * _bone(anatomy, shot, index, u, v, rng)
    path = path + 0.045 * _carpals(anatomy, shot, u, v, rng)
    for place, slope, depth in shot.folds:
        line = np.exp(-(((u - place - slope * v) / 2.2) ** 2))
        path = path + 0.012 * depth * line * (tissue > 0)
    # Beer-Lambert, photon noise, then the logarithm a digital detector shows.
    photons = gaussian_filter(shot.exposure * np.exp(-path), 0.75)
    counted = np.maximum(rng.poisson(photons), 1.0)
    shown = np.log(shot.exposure / gaussian_filter(counted, 0.5)) * 0.40 * shot.gain
    shown = 0.16 + shot.level + shown
    shown = 1 / (1 + np.exp(-4.2 * (shown - 0.5)))
    shown = np.maximum(shown, _marker(shot) * 0.97) * _collimation(shot)
    top = (1 << BITS) - 1
    return np.clip(np.rint(shown * top), 0, top).astype(np.uint16)


def _limb_coordinates(shot: Shot) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[:ROWS, :COLUMNS].astype(np.float64)
    down = (rows - (ROWS - 1) / 2 - shot.centre[0]) / shot.scale
    across = (columns - (COLUMNS - 1) / 2 - shot.centre[1]) / shot.scale
    turn = np.radians(shot.angle)
    u = down * np.cos(turn) + across * np.sin(turn)
    v = -down * np.sin(turn) + across * np.cos(turn)
    return u, v if shot.left else -v


def _tissue(anatomy: Anatomy, shot: Shot, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the path length through soft tissue, a tapered cylinder that widens to the hand."""
    half = anatomy.tissue * (1 - anatomy.taper * u / ROWS * 2)
    half = half * (0.8 if shot.lateral else 1.0) + 7 * _step(u - 84, 10)
    return 1.25 * np.sqrt(np.maximum(half**2 - v**2, 0))


def _bone(
    anatomy: Anatomy,
    shot: Shot,
    index: int,
    u: np.ndarray,
    v: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the path length through one bone: a hollow cylinder filled with trabeculae."""
    bone = anatomy.bones[index]
    spread = 0.45 if shot.lateral else 1.0
    grain = gaussian_filter(rng.standard_normal(u.shape), 1.1)
    grain = np.clip(1 + 0.28 * grain / grain.std(), 0.2, 2)
    teeth = gaussian_filter1d(rng.standard_normal(512), 2.0)
    parts = [(u, v, np.ones_like(u))]
    fracture = shot.fracture
    if fracture is not None and fracture.bone == index:
        parts = _broken(fracture, bone, spread, u, v, teeth / teeth.std())
    path = np.zeros_like(u)
    for along, across, weight in parts:
        path += weight * _shaft(anatomy, bone, along, across - spread * bone.offset, grain)
    return path


_CARPALS = (
    (12, -21, 8),
    (13, -6, 9),
    (13, 9, 8),
    (14, 22, 6),
    (28, -19, 8),
    (29, -4, 9),
    (29, 13, 8),
)
"""Wrist bones as spheres: distance beyond the radius, place across, radius, in pixels."""


def _carpals(
    anatomy: Anatomy, shot: Shot, u: np.ndarray, v: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    grain = gaussian_filter(rng.standard_normal(u.shape), 1.0)
    grain = 1 + 0.18 * grain / grain.std()
    path = np.zeros_like(u)
    for beyond, across, radius in _CARPALS:
        du = u - anatomy.bones[0].wrist - beyond
        dv = v - across * (0.45 if shot.lateral else 1.0)
        distance = du**2 + dv**2
        shell = 2 * np.sqrt(np.maximum(radius**2 - distance, 0))
        core = 2 * np.sqrt(np.maximum((0.82 * radius) ** 2 - distance, 0))
        path += (shell - 0.5 * core) * grain
    return path


def _broken(
    fracture: Fracture,
    bone: Bone,
    spread: float,
    u: np.ndarray,
    v: np.ndarray,
    teeth: np.ndarray,
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Split a shaft into its near part and its far part, moved and bent about the break."""
    local = v - spread * bone.offset
    jagged = fracture.teeth * np.interp(local, np.linspace(-64, 64, teeth.size), teeth)
    line = fracture.place + fracture.slant * local + jagged
    near = _step(line - fracture.gap / 2 - u, 0.45)
    du, dv = u - fracture.place, local - fracture.shift
    cos, sin = np.cos(fracture.bend), np.sin(fracture.bend)
    far_u, far_v = du * cos + dv * sin, dv * cos - du * sin
    far_line = fracture.slant * far_v + fracture.teeth * np.interp(
        far_v, np.linspace(-64, 64, teeth.size), teeth
    )
    far = _step(far_u - far_line - fracture.gap / 2, 0.45)
    return [(u, v, near), (far_u + fracture.place, far_v + spread * bone.offset, far)]


def _shaft(
    anatomy: Anatomy, bone: Bone, u: np.ndarray, v: np.ndarray, grain: np.ndarray
) -> np.ndarray:
    near_wrist = np.clip((u - (bone.wrist - 46)) / 46, 0, 1)
    outer = bone.radius * (1 + bone.flare * near_wrist**1.6)
    v = v - bone.bow * u**2
    # The cortex thins and the marrow space fills with trabeculae where the shaft widens.
    wall = bone.cortex * (1 - 0.72 * near_wrist)
    inner = outer * (1 - wall)
    solid = 2 * np.sqrt(np.maximum(outer**2 - v**2, 0))
    marrow = 2 * np.sqrt(np.maximum(inner**2 - v**2, 0))
    path = solid - marrow * (1 - (bone.density + 0.30 * near_wrist) * grain)
    path = path * _step(bone.wrist - u - 0.012 * v**2, 1.0)
    if anatomy.age < ADULT_BONE_AGE:
        # A growth plate is a lucent band near the wrist in every child, broken or not.
        wave = bone.wrist - anatomy.plate + 0.8 * np.sin(v / 3)
        path = path * (1 - 0.75 * np.exp(-(((u - wave) / 1.5) ** 2)))
    return path


_LETTERS = {
    True: ("10000", "10000", "10000", "10000", "10000", "10000", "11111"),
    False: ("11110", "10001", "10001", "11110", "10100", "10010", "10001"),
}
"""The side marker: L for a left limb, R for a right one."""

_LETTER_SCALE = 2


def _marker(shot: Shot) -> np.ndarray:
    letter = np.array([[float(dot) for dot in line] for line in _LETTERS[shot.left]])
    letter = np.kron(letter, np.ones((_LETTER_SCALE, _LETTER_SCALE)))
    canvas = np.zeros((ROWS, COLUMNS))
    top, left = int(shot.marker[0] * ROWS), int(shot.marker[1] * COLUMNS)
    canvas[top : top + letter.shape[0], left : left + letter.shape[1]] = letter
    return np.clip(gaussian_filter(canvas, 0.5), 0, 1)


def _collimation(shot: Shot) -> np.ndarray:
    rows, columns = np.mgrid[:ROWS, :COLUMNS].astype(np.float64)
    top, bottom, left, right = shot.field
    inside = _step(rows - top, 0.8) * _step(ROWS - 1 - bottom - rows, 0.8)
    return inside * _step(columns - left, 0.8) * _step(COLUMNS - 1 - right - columns, 0.8)


def _step(distance: np.ndarray, softness: float) -> np.ndarray:
    """Return 0 well below zero and 1 well above it, smooth over the softness in pixels."""
    return 1 / (1 + np.exp(-np.clip(distance / softness, -40, 40)))
