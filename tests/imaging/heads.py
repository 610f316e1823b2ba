"""A head of ellipsoids whose tissue is known at any place, scanned on any grid after any motion."""

import numpy as np

from tasks.imaging.step import Image

T1 = np.array([0, 180, 20, 40, 110, 160, 60], dtype=np.float32)
T2 = np.array([0, 90, 15, 220, 120, 80, 190], dtype=np.float32)
"""Greys of air, skin, skull, fluid, grey matter, white matter and a tumour in two contrasts."""

TUMOUR = 6

_PARTS = (
    (1, (0, 0, 0), (61, 76, 68)),
    (2, (0, 0, 0), (56, 71, 63)),
    (3, (0, 0, 0), (53, 68, 59)),
    (4, (0, 2, 2), (48, 63, 54)),
    (5, (-20, 4, 7), (22, 44, 34)),
    (5, (20, 4, 7), (22, 44, 34)),
    (3, (-8, 0, 8), (5, 19, 12)),
    (3, (8, -2, 8), (5, 17, 11)),
    (TUMOUR, (24, -26, 17), (9, 12, 10)),
)


def tissue(places: np.ndarray) -> np.ndarray:
    """Return the tissue (int8) at places (..., 3) in LPS mm."""
    found = np.zeros(places.shape[:-1], np.int8)
    for kind, centre, radii in _PARTS:
        found[(((places - centre) / radii) ** 2).sum(axis=-1) < 1] = kind
    return found


def centred(shape, spacing) -> np.ndarray:
    """Return the affine of an axial grid about the origin."""
    affine = np.diag([*spacing, 1.0])[[2, 1, 0, 3]]
    affine[:3, 3] = -(affine[:3, :3] @ (np.array(shape) - 1)) / 2
    return affine


def labels(shape, affine, motion) -> np.ndarray:
    """Return the tissue of each voxel of a head that has moved: fixed place -> motion @ place."""
    index = np.moveaxis(np.indices(shape), 0, -1)
    back = np.linalg.inv(motion) @ affine
    return tissue(index @ back[:3, :3].T + back[:3, 3])


def scan(shape, affine, motion=None, greys=T1, seed=0, noise=5.0) -> Image:
    """Return a noisy image of the head."""
    kinds = labels(shape, affine, np.eye(4) if motion is None else motion)
    clean = greys[kinds]
    return Image(clean + np.random.default_rng(seed).normal(0, noise, shape).astype("f4"), affine)


def turned(degrees, shift, scale=(1.0, 1.0, 1.0)) -> np.ndarray:
    """Return a motion: stretched, turned about x, then y, then z of the origin, then shifted."""
    motion = np.diag([*scale, 1.0])
    for axis, angle in enumerate(np.radians(degrees)):
        first, second = [other for other in range(3) if other != axis]
        turn = np.eye(4)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        motion = turn @ motion
    motion[:3, 3] = shift
    return motion


def largest_error_mm(found: np.ndarray, truth: np.ndarray) -> float:
    """Return how far two motions differ at most within a ball of 60 mm about the origin."""
    ends = np.vstack([np.zeros(3), 60 * np.eye(3), -60 * np.eye(3)])
    apart = (found - truth)[:3] @ np.vstack([ends.T, np.ones(7)])
    return float(np.linalg.norm(apart, axis=0).max())
