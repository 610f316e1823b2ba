"""The drawn chest without what branches: wall, ribs, spine, heart, great vessels, lung.

Proportions are those of an adult, no person's image went in. Depths are in mm, positive inside.
"""

from dataclasses import dataclass

import numpy as np

from tasks.phantom.fields import centred_axes, mix, smooth_field, step

AIR, FAT, MUSCLE, BLOOD, LUNG, CORTEX, MARROW = -1000, -100, 55, 45, -870, 900, 220
"""CT numbers in HU."""


@dataclass(frozen=True)
class Frame:
    """A grid and this patient's build on it.

    Attributes
    ----------
    axes : list of array
        (z, y, x) in mm about the middle of the grid, ready to broadcast.
    z, y, x : array
        The same in the body: from the middle of the chest, to the head, the back and the left.
    voxel : float
        Width of a soft edge, in mm.
    """

    axes: list[np.ndarray]
    z: np.ndarray
    y: np.ndarray
    x: np.ndarray
    voxel: float


def draw_frame(rng: np.random.Generator, shape: tuple, spacing: tuple) -> Frame:
    """Return where a grid (z, y, x), spacing in mm, lies in a chest of random size."""
    axes = centred_axes(shape, spacing)
    size = rng.uniform(0.9, 1.08, 2)
    bend = [smooth_field(rng, axes, (70, 55, 55)) for _ in range(2)]
    level = np.float32(rng.uniform(-25, 25))
    y = (axes[1] - np.float32(rng.normal(0, 4))) / np.float32(size[0]) + 3 * bend[0]
    x = (axes[2] - np.float32(rng.normal(0, 4))) / np.float32(size[1]) + 3 * bend[1]
    return Frame(axes, axes[0] + level, y, x, float(min(spacing[1:])))


def narrowed(frame: Frame, columns: slice) -> Frame:
    """Return the frame of some columns (x) alone."""
    cut = [frame.axes[0], frame.axes[1], frame.axes[2][..., columns]]
    return Frame(cut, frame.z, frame.y[..., columns], frame.x[..., columns], frame.voxel)


def _oval(y: np.ndarray, x: np.ndarray, half_y: float, half_x: float, power: float = 2.0):
    """Return the depth inside a superellipse in mm, about right near its border."""
    radius = (np.abs(y / half_y) ** power + np.abs(x / half_x) ** power) ** (1 / power)
    return (1 - radius) * min(half_y, half_x)


def draw_cage(frame: Frame, rng: np.random.Generator) -> np.ndarray:
    """Return the depth inside the rib cage, which narrows to the apex."""
    z = frame.z
    taper = 1 - 0.28 * np.clip((z - 10) / 120, 0, 1.4) ** 1.6
    deep = np.float32(rng.uniform(80, 92))
    wide = np.float32(rng.uniform(114, 128))
    return _oval(frame.y / taper, frame.x / taper, deep, wide, 2.25)


def draw_wall(frame: Frame, rng: np.random.Generator, cage: np.ndarray) -> np.ndarray:
    """Return air, table, skin, fat and muscle around the cage."""
    body = np.full(cage.shape, AIR, dtype=np.float32)
    _, y, x = frame.axes
    fat = rng.uniform(5, 16)
    lumps = smooth_field(rng, frame.axes, (60, 40, 40))
    side = np.abs(frame.x)
    muscle = 13 + 2.5 * lumps + 8 * np.exp(-(((side - 88) / 30) ** 2))
    muscle = muscle + 13 * np.exp(-(((side - 26) / 20) ** 2)) * np.clip((frame.y - 20) / 30, 0, 1)
    front = np.clip((-20 - frame.y) / 60, 0, 1) * np.exp(-(((side - 62) / 34) ** 2))
    skin = cage + muscle + fat * (1 + 0.1 * lumps + 0.9 * front)
    bed = y - (118 + fat) + (x / 190) ** 2 * 42
    bent = np.abs(x) < 175
    mix(body, -60, step(2.0 - np.abs(bed), frame.voxel) * 0.8 * bent)
    mix(body, -965, step(16 - np.abs(bed - 18), frame.voxel) * bent)
    grain = smooth_field(rng, frame.axes, 6)
    mix(body, 20, step(skin, frame.voxel))
    mix(body, FAT + 8 * grain, step(skin - 2.5, frame.voxel))
    planes = np.abs(smooth_field(rng, frame.axes, (30, 9, 16)))
    flesh = MUSCLE - 120 * np.clip(1 - planes / 0.16, 0, 1) + 5 * grain
    mix(body, flesh, step(cage + muscle, frame.voxel))
    return body


def draw_ribs(frame: Frame, rng: np.random.Generator, body: np.ndarray, cage: np.ndarray) -> None:
    """Draw ribs, which run down from back to front, their cartilage and the shoulder blades."""
    z, y, x = frame.z, frame.y, frame.x
    grain = smooth_field(rng, frame.axes, 3)
    angle = np.arctan2(np.abs(x), y + 18)
    fall = 42 * (1 - np.cos(angle)) + rng.uniform(0, 26)
    high = np.mod(z + fall, 27) - 13.5
    bone = 6.0 - np.sqrt((high * 0.85) ** 2 + ((cage + 5.5) * 1.45) ** 2)
    _bone(body, np.where((angle < 2.55) & (angle > 0.2), bone, -9), 1.4, grain, frame.voxel)
    mix(body, 110, step(np.where(angle >= 2.55, 5 - np.abs(cage + 5.5), -9), frame.voxel) * 0.8)
    side = np.abs(np.abs(x) - 84)
    blade = np.minimum(3.4 - np.abs(cage + 21 - 0.06 * side), np.minimum(28 - side, z - 2))
    _bone(body, np.where(y > 20, blade, -9), 1.3, grain, frame.voxel)


def draw_spine(frame: Frame, rng: np.random.Generator, body: np.ndarray) -> None:
    """Draw vertebrae with discs, canal and processes, and the sternum."""
    z, y, x = frame.z, frame.y, frame.x
    grain = smooth_field(rng, frame.axes, 3)
    _bone(body, _oval(y + 88, x, 6, 18, 2.6), 1.5, grain, frame.voxel)
    back = y - 62
    disc = np.abs(np.mod(z, 24) - 12)
    oval = _oval(back, x, 15, 19)
    mix(body, 85, step(oval, frame.voxel))
    _bone(body, np.minimum(oval, 3 * (disc - 2.6)), 1.6, grain, frame.voxel)
    arch = 4.5 - np.abs(np.sqrt((back - 22) ** 2 + x**2) - 11)
    spike = np.minimum(3.2 - np.abs(x), 14 - np.abs(back - 40))
    side = np.minimum(4.2 - np.abs(back - 24 - 0.12 * np.abs(x)), 34 - np.abs(x))
    rear = np.maximum(np.maximum(arch, spike), np.minimum(side, disc - 3))
    _bone(body, rear, 1.5, grain, frame.voxel)
    mix(body, 30, step(_oval(back - 22, x, 7.5, 8.5), frame.voxel))


def _bone(
    body: np.ndarray, depth: np.ndarray, wall: float, grain: np.ndarray, voxel: float
) -> None:
    mix(body, CORTEX, step(depth, voxel))
    mix(body, MARROW + 60 * grain, step(depth - wall, voxel))


def draw_content(
    frame: Frame, rng: np.random.Generator, body: np.ndarray, cage: np.ndarray
) -> np.ndarray:
    """Draw liver and stomach below the domes, fat in the middle, lung elsewhere.

    Returns
    -------
    array of float32
        Depth inside the lung in mm, negative outside.
    """
    z, y, x = frame.z, frame.y, frame.x
    grain = smooth_field(rng, frame.axes, 5)
    side = np.abs(x)
    middle = np.where(x > 0, 24 + 30 * np.exp(-(((y + 34) / 34) ** 2) - ((z + 30) / 42) ** 2), 25)
    # The lungs meet in front of the heart and reach back beside the spine.
    middle = middle - 16 * np.exp(-(((y + 76) / 16) ** 2)) + 2.5 * smooth_field(rng, frame.axes, 22)
    dome = -62 + np.where(x < 0, 10, 0) + rng.normal(0, 6)
    dome = dome - 0.010 * (side - 58) ** 2 - 0.006 * (y + 10) ** 2
    inside = step(cage, frame.voxel)
    mix(body, np.where(side < 66, FAT, MUSCLE) + 10 * grain, inside)
    mix(body, np.where(x < 0, 62, 48) + 6 * grain, inside * step(dome - z, frame.voxel))
    bubble = _oval(y + 30, x - 66, 26, 30) + np.minimum(0, dome - z - 16)
    mix(body, AIR + 60, inside * step(bubble, frame.voxel))
    lung = np.minimum(np.minimum(cage - 2, side - middle), z - dome)
    patches = smooth_field(rng, frame.axes, (24, 20, 20))
    # Blood sinks: the back of a lying patient is denser.
    parenchyma = LUNG + 0.45 * (y + 20) + 18 * grain + 45 * np.clip(patches - 1.3, 0, 1)
    fissure = np.abs(y - 12 + 0.75 * (z + 10) + 5 * patches)
    parenchyma = parenchyma + 150 * np.clip(1 - fissure / 1.6, 0, 1)
    mix(body, parenchyma, step(lung, frame.voxel))
    return lung


def draw_middle(
    frame: Frame, rng: np.random.Generator, body: np.ndarray, lungs: np.ndarray
) -> None:
    """Draw heart, great vessels and gullet, with or without contrast medium."""
    z, y, x = frame.z, frame.y, frame.x
    contrast = float(rng.choice([0.0, rng.uniform(90, 220)]))
    blood = BLOOD + contrast + 4 * smooth_field(rng, frame.axes, 6)
    heart = np.sqrt(((z + 38) / 40) ** 2 + ((y + 34) / 40) ** 2 + ((x - 16) / 52) ** 2)
    heart = (1 - heart) * 40 + 5 * smooth_field(rng, frame.axes, 26)
    free = 1 - lungs
    mix(body, 70, free * step(heart, frame.voxel))
    for at_y, at_x, half in ((-44, -8, 21), (-34, 34, 19), (-10, 6, 17)):
        room = ((z + 36) / 30) ** 2 + ((y - at_y) / half) ** 2 + ((x - at_x) / half) ** 2
        mix(body, blood, free * step((1 - np.sqrt(room)) * half, frame.voxel))
    above = np.clip((z + 6) / 8, 0, 1)
    mix(body, blood, step(12 - np.sqrt((y - 46) ** 2 + (x - 27) ** 2), frame.voxel))
    for at_y, at_x, half in ((-36, -12, 15.5), (-28, -34, 9.5)):
        tube = step(half - np.sqrt((y - at_y) ** 2 + (x - at_x) ** 2), frame.voxel)
        mix(body, blood, free * tube * above)
    trunk = 13 - np.sqrt((z - 8) ** 2 + (y + 14 - 0.2 * np.abs(x)) ** 2)
    mix(body, blood, free * step(np.minimum(trunk, 44 - np.abs(x)), frame.voxel))
    arch = 13 - np.sqrt((z - 52) ** 2 + (x - 8 - 0.35 * (y + 20)) ** 2)
    mix(body, blood, free * step(np.minimum(arch, 46 - np.abs(y - 4)), frame.voxel))
    gullet = np.sqrt((y - 34) ** 2 + ((x - 4) * 0.8) ** 2)
    mix(body, 40, free * step(7 - gullet, frame.voxel))
    if rng.random() < 0.5:
        mix(body, -750, free * step(2.5 - gullet, frame.voxel))


def level(frame: Frame) -> float:
    """Return how much higher than the grid says a place of the body lies, in mm."""
    return float(frame.z.ravel()[0] - frame.axes[0].ravel()[0])
