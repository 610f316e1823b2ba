"""One case ready to be stored, and what it must be before it is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tasks.archive.geometry import FARTHEST_MM
from tasks.errors import BadCase
from tasks.store.schema import MASK_DTYPE

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Prepared:
    """One case ready to be stored.

    Parameters
    ----------
    array : ndarray (z, y, x) or (c, z, y, x)
    affine : ndarray (4, 4)
        Maps index (z, y, x, 1) to LPS millimetres.
    traces : tuple of dict
        What the recipe did, for replay and invert.
    certificate, facts : dict
        JSON-able, without identifiers.
    masks : mapping of name to ndarray (z, y, x), uint8
        On the image's grid.
    present : tuple of bool
        Which channels the case has; those it has not are zeros.
    """

    array: np.ndarray
    affine: np.ndarray
    traces: tuple[dict, ...]
    certificate: dict
    facts: dict
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    present: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Expected:
    """What every image of a part must be."""

    dtype: np.dtype
    fixed_shape: tuple[int, int, int] | None
    """(z, y, x) of a packed part."""
    channels: int
    """Length of the axis of channels; 0 where images have none."""


def check_prepared(prepared: Prepared, expected: Expected) -> None:
    """Refuse a case that its part cannot hold.  Raises BadCase."""
    array, dtype, fixed = prepared.array, expected.dtype, expected.fixed_shape
    axes = "(c, z, y, x)" if expected.channels else "(z, y, x)"
    if array.ndim != 3 + bool(expected.channels) or 0 in array.shape:
        raise BadCase("wrong_shape", f"shape {array.shape} is not {axes} with voxels on it")
    if fixed is not None and array.shape[-3:] != tuple(fixed):
        detail = f"shape {array.shape} where the recipe ends in {tuple(fixed)}"
        raise BadCase("wrong_shape", detail)
    if expected.channels and not len(array) == len(prepared.present) == expected.channels:
        detail = f"{len(array)} channels where the part holds {expected.channels}"
        raise BadCase("wrong_shape", detail)
    if array.dtype != dtype:
        raise BadCase("wrong_dtype", f"voxels are {array.dtype} where the part holds {dtype}")
    if not (np.abs(prepared.affine) < FARTHEST_MM).all():
        # Also true of what is no number; a part's metadata could not say it.
        raise BadCase("invalid_geometry", f"its affine is not within {FARTHEST_MM:.0e} mm")
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise BadCase("not_finite", "some voxels are not finite after the recipe")
    for name, mask in prepared.masks.items():
        if not ID.fullmatch(name):
            raise BadCase("wrong_mask", f"{name!r} is no name: letters, digits, - and _ only")
        if mask.shape != array.shape[-3:] or mask.dtype != MASK_DTYPE:
            detail = f"mask {name} is {mask.dtype} {mask.shape} where the image is {array.shape}"
            raise BadCase("wrong_mask", detail)
