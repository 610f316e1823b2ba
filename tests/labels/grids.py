"""Grids of several orientations, and balls on them: where they lie is known in mm."""

import numpy as np


def _rotation(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    about_x = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return about_x @ about_z


def _affine(columns: np.ndarray) -> np.ndarray:
    """Return an affine from steps (slice, row, column) as columns, 2.5 x 0.8 x 0.7 mm."""
    affine = np.eye(4)
    affine[:3, :3] = columns * np.array([2.5, 0.8, 0.7])
    affine[:3, 3] = (-60.0, -45.0, 112.5)
    return affine


X, Y, Z = np.eye(3)

ORIENTATIONS = {
    # Steps along slices, rows and columns in LPS, right-handed as DICOM stacks are.
    "axial": _affine(np.stack([Z, Y, X], axis=1)),
    "sagittal": _affine(np.stack([X, -Z, Y], axis=1)),
    "coronal": _affine(np.stack([Y, -Z, X], axis=1)),
    "oblique": _affine(_rotation(25) @ np.stack([Z, Y, X], axis=1)),
}

SHAPE = (9, 30, 34)


def ball(affine: np.ndarray, centre: np.ndarray, radius: float, shape=SHAPE) -> np.ndarray:
    """Return the voxels whose centres are within a radius of a point in LPS mm."""
    index = np.stack([*np.meshgrid(*map(np.arange, shape), indexing="ij"), np.ones(shape)])
    places = np.tensordot(affine, index, axes=1)[:3]
    return np.linalg.norm(places - np.asarray(centre)[:, None, None, None], axis=0) <= radius


def middle(affine: np.ndarray, shape=SHAPE) -> np.ndarray:
    """Return the middle of a grid in LPS mm."""
    return (affine @ [*((np.array(shape) - 1) / 2), 1])[:3]


def centroid(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return the mean place of a mask's voxels in LPS mm."""
    index = np.array(np.nonzero(mask)).mean(axis=1)
    return (affine @ [*index, 1])[:3]
