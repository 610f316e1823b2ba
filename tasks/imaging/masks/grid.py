"""Where an image lies in the body: millimetres, millilitres, and slices from head to feet."""

import numpy as np

from tasks.errors import BadCase
from tasks.imaging.step import Image

MM3_PER_ML = 1000.0

Spacing = tuple[float, float, float]
"""Distance of neighbouring voxels along the three axes of an array, in mm."""


def spacing_mm(affine: np.ndarray) -> Spacing:
    """Return the distance of neighbouring voxels along (z, y, x) in mm."""
    z, y, x = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    return z, y, x


def voxel_ml(affine: np.ndarray) -> float:
    """Return the volume of one voxel in mL."""
    return float(abs(np.linalg.det(affine[:3, :3]))) / MM3_PER_ML


def _head_to_feet(affine: np.ndarray) -> tuple[int, bool]:
    """Return the axis that lies nearest to the patient's long one, and whether it runs upwards."""
    upwards = affine[2, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    axis = int(np.argmax(np.abs(upwards)))
    return axis, bool(upwards[axis] > 0)


def to_axial(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return a view whose first axis runs from head to feet, whatever plane was acquired.

    Parameters
    ----------
    array : ndarray (z, y, x)
    affine : ndarray (4, 4)
        Index (z, y, x, 1) to LPS mm.

    Returns
    -------
    ndarray
        A view; `from_axial` turns an array of its shape back.
    """
    axis, upwards = _head_to_feet(affine)
    view = np.moveaxis(array, axis, 0)
    return view[::-1] if upwards else view


def from_axial(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Turn what stands as `to_axial` made it back to (z, y, x) of the image, contiguous."""
    axis, upwards = _head_to_feet(affine)
    return np.ascontiguousarray(np.moveaxis(array[::-1] if upwards else array, 0, axis))


def axial_spacing(affine: np.ndarray) -> Spacing:
    """Return the spacing in mm along the axes of `to_axial`."""
    spacing = list(spacing_mm(affine))
    first = spacing.pop(_head_to_feet(affine)[0])
    return (first, *spacing)


def side_axis(affine: np.ndarray) -> int:
    """Return which axis of `to_axial`, 1 or 2, lies nearest to the line from right to left."""
    sideways = np.abs(affine[0, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    left = np.delete(sideways, _head_to_feet(affine)[0])
    return 1 + int(np.argmax(left))


def need_modality(image: Image, step: str, *known: str) -> None:
    """Refuse an image that is known to be of another modality than a step is made for.

    Raises
    ------
    BadCase
        ``wrong_modality``; an image whose modality is not known passes.
    """
    modality = image.facts.get("modality")
    if modality and modality not in known:
        detail = f"step {step} is made for {' or '.join(known)} and the image is {modality}"
        raise BadCase("wrong_modality", detail)


def box_of(mask: np.ndarray, margin: tuple[int, int, int] = (0, 0, 0)) -> tuple[slice, ...] | None:
    """Return the smallest box that holds a mask, grown by voxels on each side and cut to the array.

    None when the mask is empty.
    """
    box = []
    for axis, grow in enumerate(margin):
        others = tuple(other for other in range(3) if other != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        if hit.size == 0:
            return None
        box.append(
            slice(max(0, int(hit[0]) - grow), min(mask.shape[axis], int(hit[-1]) + 1 + grow))
        )
    return tuple(box)
