"""A drawn chest in CT numbers: wall, ribs, spine, heart, great vessels, lungs, airways, vessels.

Synthetic: proportions are those of an adult, no person's image went in. Coordinates are mm about
the middle of the grid, (z, y, x) = (to the head, to the back, to the left).
"""

from dataclasses import dataclass, replace

import numpy as np

from tasks.phantom.fields import check_difficulty, mix, smooth_field, step
from tasks.phantom.nodules import (
    PLACE_SHARES,
    PLACES,
    Nodule,
    density,
    depth_below_surface,
    draw_count,
    draw_nodule,
)
from tasks.phantom.thorax import (
    AIR,
    Frame,
    draw_cage,
    draw_content,
    draw_frame,
    draw_middle,
    draw_ribs,
    draw_spine,
    draw_wall,
    level,
    narrowed,
)
from tasks.phantom.trees import draw_tubes, grow_tree

SHAPE = (40, 128, 128)
SPACING = (2.5, 2.5, 2.5)
"""Default matrix and spacing in mm, (z, y, x): a slab of the chest that a CPU can learn from."""

VESSEL_TIPS = {"easy": 35, "standard": 95, "hard": 140}
"""Ends of each vessel tree, two trees a lung."""


@dataclass(frozen=True)
class Chest:
    """A drawn chest.

    Attributes
    ----------
    body : array of float32, shape (z, y, x)
        HU before any scanner.
    nodules : tuple of Nodule
    labels : array of uint8, shape (z, y, x)
        0, or the number from 1 of the nodule that fills more than half the voxel.
    lungs : array of bool, shape (z, y, x)
        Lung with its vessels and nodules.
    spacing : tuple of float
        (z, y, x) in mm.
    """

    body: np.ndarray
    nodules: tuple[Nodule, ...]
    labels: np.ndarray
    lungs: np.ndarray
    spacing: tuple[float, float, float]


def draw_chest(
    seed: int,
    *,
    shape: tuple[int, int, int] = SHAPE,
    spacing: tuple[float, float, float] = SPACING,
    difficulty: str = "standard",
    nodules: int | None = None,
) -> Chest:
    """Draw one chest.

    Parameters
    ----------
    seed : int
        Same seed, same chest.
    shape : tuple of int
        (z, y, x).
    spacing : tuple of float
        (z, y, x) in mm.
    difficulty : str
        One of :data:`tasks.phantom.fields.DIFFICULTIES`.
    nodules : int, optional
        How many; drawn from the table's counts when not given.

    Raises
    ------
    ValueError
        For an unknown difficulty.
    """
    check_difficulty(difficulty)
    rng = np.random.default_rng([seed, 11])
    frame = draw_frame(rng, shape, spacing)
    cage = draw_cage(frame, rng)
    body = draw_wall(frame, rng, cage)
    draw_ribs(frame, rng, body, cage)
    depth = draw_content(frame, rng, body, cage)
    lungs = step(depth, frame.voxel)
    # What lies in the middle is drawn in the middle alone: half the work.
    middle = np.abs(frame.axes[2].ravel()) < 90
    narrow = slice(*np.flatnonzero(middle)[[0, -1]] + [0, 1])
    near = narrowed(frame, narrow)
    draw_spine(near, rng, body[..., narrow])
    draw_middle(near, rng, body[..., narrow], lungs[..., narrow])
    _airways(frame, rng, body, depth)
    nodes = _vessels(frame, rng, body, depth, VESSEL_TIPS[difficulty])
    inside = lungs > 0.5
    wanted = draw_count(rng) if nodules is None else nodules
    if difficulty == "easy" and nodules is None:
        wanted = max(wanted, 1)
    placed = _place(rng, frame, depth, nodes, wanted, difficulty)
    labels = _nodules(frame, rng, body, lungs, placed)
    return Chest(body, placed, labels, inside | (labels > 0), spacing)


def _airways(frame: Frame, rng: np.random.Generator, body: np.ndarray, depth: np.ndarray) -> None:
    """Draw trachea, main bronchi and their tree: a wall of tissue about air."""
    split = np.array([22.0 - level(frame), 12.0, 0.0])
    starts, ends, radii = [split + np.array([150.0, -14.0, 0.0])], [split], [8.5]
    for sign in (-1, 1):
        hilum = split + np.array([-24.0, 2.0, sign * 36.0])
        starts.append(split)
        ends.append(hilum)
        radii.append(6.0)
        points = _points(rng, frame, depth, sign, 22)
        tree = grow_tree(hilum + 0.72 * (points - hilum), hilum, 1.1)
        starts += list(tree.nodes[tree.parents[1:]])
        ends += list(tree.nodes[1:])
        radii += list(np.minimum(tree.radii[1:], 4.5))
    tubes = np.array(starts), np.array(ends), np.array(radii)
    wall = draw_tubes(frame.axes, tubes[0], tubes[1], tubes[2] * 1.12 + 0.6, frame.voxel)
    mix(body, 10, wall)
    mix(body, AIR + 15, draw_tubes(frame.axes, *tubes, frame.voxel))


def _points(
    rng: np.random.Generator, frame: Frame, depth: np.ndarray, sign: int, count: int
) -> np.ndarray:
    """Return random places of one side's lung in mm, none when there is none in the slab."""
    flat = np.flatnonzero((depth > frame.voxel) & (frame.axes[2] * sign > 0))
    if not flat.size:
        return np.empty((0, 3))
    chosen = np.stack(np.unravel_index(rng.choice(flat, count), depth.shape), axis=1)
    lines = [axis.ravel() for axis in frame.axes]
    return np.stack([line[chosen[:, i]] for i, line in enumerate(lines)], axis=1).astype(float)


def _vessels(
    frame: Frame, rng: np.random.Generator, body: np.ndarray, depth: np.ndarray, tips: int
) -> np.ndarray:
    """Draw arteries and veins of both lungs; return their nodes and radii, shape (n, 4)."""
    starts, ends, radii = [], [], []
    for sign in (1, -1):
        for lower in (0, 16):
            root = np.array([4.0 - lower - level(frame), 4.0 + lower / 2, sign * 34.0])
            tree = grow_tree(_points(rng, frame, depth, sign, tips), root, 0.85)
            starts.append(tree.nodes[tree.parents[1:]])
            ends.append(tree.nodes[1:])
            radii.append(np.minimum(tree.radii[1:], 6.5))
    tubes = np.concatenate(starts), np.concatenate(ends), np.concatenate(radii)
    mix(body, 45, draw_tubes(frame.axes, *tubes, frame.voxel) * (depth > -frame.voxel))
    return np.column_stack([tubes[1], tubes[2]])


def _place(
    rng: np.random.Generator,
    frame: Frame,
    depth: np.ndarray,
    nodes: np.ndarray,
    wanted: int,
    difficulty: str,
) -> tuple[Nodule, ...]:
    """Choose places in the lung for nodules, none nearer to another than they are large."""
    lines = [axis.ravel() for axis in frame.axes]
    ends = np.array([(line[0], line[-1]) for line in lines])
    near = nodes[nodes[:, 3] < 2.5] if len(nodes) else nodes
    placed: list[Nodule] = []
    for _ in range(20 * wanted):
        if len(placed) == wanted:
            break
        place = str(rng.choice(PLACES, p=PLACE_SHARES))
        nodule = draw_nodule(rng, place, difficulty)
        radius = nodule.diameter / 2
        if place == "vessel" and len(near):
            spot = near[rng.integers(len(near)), :3] + rng.normal(0, 0.35 * radius, 3)
        else:
            low, high = (0.5 * radius, radius + 1) if place == "pleura" else (radius + 2, 99)
            flat = np.flatnonzero((depth >= low) & (depth <= high))
            if not flat.size:
                continue
            index = np.unravel_index(rng.choice(flat), depth.shape)
            spot = np.array([line[i] for line, i in zip(lines, index, strict=True)], dtype=float)
            spot += rng.uniform(-0.5, 0.5, 3) * frame.voxel
        cut = (np.abs(ends - spot[:, None]).min(axis=1) < 0.7 * radius).any()
        crowded = any(
            np.linalg.norm(spot - p.centre) < 1.3 * (radius + p.diameter / 2) + 5 for p in placed
        )
        if not cut and not crowded:
            placed.append(replace(nodule, centre=tuple(float(v) for v in spot)))
    return tuple(placed)


def _nodules(
    frame: Frame,
    rng: np.random.Generator,
    body: np.ndarray,
    lungs: np.ndarray,
    placed: tuple[Nodule, ...],
) -> np.ndarray:
    labels = np.zeros(body.shape, dtype=np.uint8)
    lines = [axis.ravel() for axis in frame.axes]
    for number, nodule in enumerate(placed, start=1):
        reach = nodule.diameter * 1.1 + 2 * frame.voxel
        box = tuple(
            slice(*np.searchsorted(line, [at - reach, at + reach]))
            for line, at in zip(lines, nodule.centre, strict=True)
        )
        near = [
            line[s].reshape([-1 if i == j else 1 for j in range(3)])
            for i, (line, s) in enumerate(zip(lines, box, strict=True))
        ]
        depth = depth_below_surface(nodule, near)
        share = step(depth, frame.voxel)
        grain = smooth_field(rng, near, 3)
        here = body[box]
        own = density(nodule, depth, grain)
        # Haze never thins what it lies over: vessels and wall shine through.
        mix(here, np.maximum(own, here), share)
        labels[box][(share > 0.5) & (lungs[box] > 0.25)] = number
    return labels
