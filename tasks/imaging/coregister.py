"""Bring the series of one study onto one grid: T1, T2, FLAIR of a head, each voxel one place."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tasks.errors import BadCase
from tasks.imaging.pyramid import Kind
from tasks.imaging.register import Registration, register
from tasks.imaging.regrid import resample_onto
from tasks.imaging.step import Image


@dataclass(frozen=True)
class Coregistered:
    """Images of one study on the grid of one of them.

    Parameters
    ----------
    reference : str
        Role of the image whose grid all have.
    images : mapping of role to Image
        Equal in shape and affine, the reference untouched.
    registrations : mapping of role to Registration
        How each of the others was found to lie, with its quality.
    sources : mapping of role to (shape, affine)
        The grids the others came from, to bring predictions back.
    """

    reference: str
    images: Mapping[str, Image]
    registrations: Mapping[str, Registration]
    sources: Mapping[str, tuple[tuple[int, int, int], np.ndarray]]


def coregister(images: Mapping[str, Image], reference: str, kind: Kind = "rigid") -> Coregistered:
    """Register every image onto the reference and resample it there.

    Parameters
    ----------
    images : mapping of role to Image
        Of one patient and study; masks go with their image.
    reference : str
        Role of the image whose grid the others get: the one with the labels or the finest voxels.
    kind : {"rigid", "affine"}

    Returns
    -------
    Coregistered
        Each of the others in float32; what lies outside of it gets its lowest value, and its mask
        ``seen`` is 1 where it does not.

    Raises
    ------
    BadCase
        ``registration_failed`` or ``constant_image``, with the role.
    ValueError
        When there is no image of that role.
    """
    if reference not in images:
        known = ", ".join(sorted(images))
        raise ValueError(f"reference is {reference!r}: it must be one of {known}")
    fixed = images[reference]
    moved, found, sources = {reference: fixed}, {}, {}
    for role, moving in images.items():
        if role == reference:
            continue
        try:
            found[role] = register(fixed, moving, kind)
        except BadCase as bad:
            raise BadCase(bad.reason, f"{role} onto {reference}: {bad.detail}") from None
        seen = np.ones(moving.array.shape, np.uint8)
        asked = Image(moving.array, moving.affine, {**moving.masks, "seen": seen}, moving.facts)
        moved[role] = resample_onto(asked, found[role].matrix, fixed.array.shape, fixed.affine)
        sources[role] = (moving.array.shape, moving.affine)
    return Coregistered(reference, {role: moved[role] for role in images}, found, sources)


def bring_back(
    found: Coregistered, role: str, array: np.ndarray, *, linear: bool = False
) -> np.ndarray:
    """Return what was predicted on the common grid on the grid of one of the series.

    Parameters
    ----------
    found : Coregistered
    role : str
    array : ndarray (z, y, x)
        On the common grid.
    linear : bool
        Probabilities are brought back linearly in float32, labels by the nearest voxel.

    Returns
    -------
    ndarray (z, y, x)
        On the source grid of the role; 0 outside of the common grid.
    """
    if role == found.reference:
        return array
    shape, affine = found.sources[role]
    back = np.linalg.inv(found.registrations[role].matrix)
    image = Image(array, found.images[found.reference].affine)
    return resample_onto(image, back, shape, affine, linear=linear, fill=0).array
