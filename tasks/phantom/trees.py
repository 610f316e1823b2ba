"""Branching trees through a region, as vessels and airways are, and their drawing as tubes."""

from dataclasses import dataclass

import numpy as np

PATH_WEIGHT = 0.25
"""Price of a long way to the root beside that of new tube; Cuntz's balancing factor."""


@dataclass(frozen=True)
class Tree:
    """Nodes in mm and their parents; node 0 is the root, its own parent.

    Attributes
    ----------
    nodes : array, shape (n, 3)
        (z, y, x) in mm.
    parents : array of int, shape (n,)
    radii : array, shape (n,)
        Of the tube from the parent to the node, in mm.
    """

    nodes: np.ndarray
    parents: np.ndarray
    radii: np.ndarray


def grow_tree(points: np.ndarray, root: np.ndarray, tip_radius: float) -> Tree:
    """Connect points to a root with little tube and short ways.

    Greedy, after Cuntz et al., One rule to grow them all, PLoS Comput Biol 2010: the next node is
    the one with the smallest distance to the tree plus weighted path to the root. Radii follow
    Murray's law: the cube of a radius is the sum of its branches' cubes.

    Parameters
    ----------
    points : array, shape (n, 3)
        Places to reach, (z, y, x) in mm.
    root : array, shape (3,)
    tip_radius : float
        Radius of the last branches, in mm.
    """
    nodes = np.concatenate([root[None], points])
    n = len(nodes)
    apart = np.sqrt(((nodes[:, None] - nodes[None]) ** 2).sum(-1))
    path, parents = np.zeros(n), np.zeros(n, dtype=int)
    best = apart[0].copy()
    best[0] = np.inf
    order = []
    for _ in range(n - 1):
        new = int(np.argmin(best))
        order.append(new)
        path[new] = path[parents[new]] + apart[parents[new], new]
        best[new] = np.inf
        offer = apart[new] + PATH_WEIGHT * path[new]
        better = (offer < best) & np.isfinite(best)
        best[better], parents[better] = offer[better], new
    cubes = np.zeros(n)
    has_child = np.zeros(n, dtype=bool)
    for node in reversed(order):
        if not has_child[node]:
            cubes[node] = 1.0
        cubes[parents[node]] += cubes[node]
        has_child[parents[node]] = True
    return Tree(nodes, parents, tip_radius * np.cbrt(np.maximum(cubes, 1.0)))


def draw_tubes(
    axes: list[np.ndarray],
    starts: np.ndarray,
    ends: np.ndarray,
    radii: np.ndarray,
    softness: float,
) -> np.ndarray:
    """Return the share of each voxel inside any of the tubes.

    Parameters
    ----------
    axes : list of array
        As from :func:`tasks.phantom.fields.centred_axes`.
    starts, ends : array, shape (n, 3)
        (z, y, x) in mm.
    radii : array, shape (n,)
        In mm. A tube thinner than a voxel fills a share of it by area.
    softness : float
        Width of the soft edge, in mm: a voxel.
    """
    lines = [axis.ravel() for axis in axes]
    share = np.zeros([line.size for line in lines], dtype=np.float32)
    margin = radii + softness
    low, high = (
        np.minimum(starts, ends) - margin[:, None],
        np.maximum(starts, ends) + margin[:, None],
    )
    first = np.stack([np.searchsorted(line, low[:, i]) for i, line in enumerate(lines)], axis=1)
    last = np.stack([np.searchsorted(line, high[:, i]) for i, line in enumerate(lines)], axis=1)
    # A tube that one voxel swallows would reach full share at its middle line without this.
    strength = np.minimum(1.0, (2 * radii / softness) ** 2)
    for i in np.flatnonzero((last > first).all(axis=1)):
        box = tuple(slice(a, b) for a, b in zip(first[i], last[i], strict=True))
        z, y, x = (line[s] for line, s in zip(lines, box, strict=True))
        along = ends[i] - starts[i]
        length = float(along @ along) + 1e-6
        dz = (z - np.float32(starts[i, 0]))[:, None, None]
        dy = (y - np.float32(starts[i, 1]))[None, :, None]
        dx = (x - np.float32(starts[i, 2]))[None, None, :]
        t = dz * np.float32(along[0]) + dy * np.float32(along[1]) + dx * np.float32(along[2])
        t = np.clip(t / np.float32(length), 0, 1)
        square = (dz - t * np.float32(along[0])) ** 2
        square = square + (dy - t * np.float32(along[1])) ** 2
        square += (dx - t * np.float32(along[2])) ** 2
        inside = np.clip(
            (np.float32(radii[i]) - np.sqrt(square)) / np.float32(softness) + 0.5, 0, 1
        )
        inside *= np.float32(strength[i])
        np.maximum(share[box], inside, out=share[box])
    return share
