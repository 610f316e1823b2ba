"""The region that features describe: a box of the image, its mask, and which intensities count."""

from dataclasses import dataclass

import numpy as np

from tasks.errors import BadCase
from tasks.imaging.step import Image


@dataclass(frozen=True, eq=False)
class Region:
    """The smallest box around a mask.

    IBSI tells two masks apart: the morphological one gives the shape; the intensity one leaves out
    what re-segmentation took away, and gives everything else.

    Parameters
    ----------
    array : ndarray (z, y, x)
        Intensities in the image's own units.
    mask : ndarray (z, y, x), bool
        The morphological mask.
    counted : ndarray (z, y, x), bool
        The intensity mask, within the morphological one.
    spacing : ndarray (3,)
        Millimetres along z, y, x.
    """

    array: np.ndarray
    mask: np.ndarray
    counted: np.ndarray
    spacing: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """Intensities that count, (n,) in the image's own type, in the order of the voxels."""
        return self.array[self.counted]


def region_of(
    image: Image,
    mask: str | None = None,
    label: int | None = None,
    resegment: tuple[float, float] | None = None,
) -> Region:
    """Cut the region out of an image.

    Parameters
    ----------
    image : Image
    mask : str, optional
        Name of a mask that travels with the image; the whole image without one.
    label : int, optional
        Value of the mask that is the region; every value but 0 without one.
    resegment : (low, high), optional
        Only intensities in this closed range count (IBSI: range re-segmentation).

    Raises
    ------
    BadCase
        ``no_region`` when the mask was not made or is empty, or no intensity counts.
    """
    inside = _inside(image, mask, label)
    box = _box(inside, mask)
    array, inside = image.array[box], inside[box]
    counted = inside
    if resegment is not None:
        counted = inside & (array >= resegment[0]) & (array <= resegment[1])
        if not counted.any():
            low, high = resegment
            detail = f"no voxel of the region lies in {low:g} to {high:g}: widen resegment"
            raise BadCase("no_region", detail)
    spacing = np.linalg.norm(np.asarray(image.affine, dtype=np.float64)[:3, :3], axis=0)
    return Region(array, inside, counted, spacing)


def _inside(image: Image, mask: str | None, label: int | None) -> np.ndarray:
    if mask is None:
        return np.ones(image.array.shape, dtype=bool)
    if mask not in image.masks:
        made = ", ".join(sorted(image.masks)) or "none"
        detail = f"no step before made a mask named {mask!r} (made are: {made})"
        raise BadCase("no_region", detail)
    found = image.masks[mask]
    return found != 0 if label is None else found == label


def _box(inside: np.ndarray, mask: str | None) -> tuple[slice, slice, slice]:
    slices = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        hit = np.flatnonzero(inside.any(axis=others))
        if hit.size == 0:
            raise BadCase("no_region", f"the mask {mask!r} marks no voxel of this image")
        slices.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(slices)
