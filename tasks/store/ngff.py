"""OME-NGFF 0.5 beside the voxels, so that any viewer of the format opens a case in millimetres."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tasks.store.schema import CASE, CHANNEL, IMAGE, SPACE

VERSION = "0.5"

MASK_COLOUR = {"label-value": 1, "rgba": [220, 60, 40, 255]}
"""How a viewer first shows a mask; other values get colours of its own."""

ALIGNED_COSINE = 1e-6
"""An index axis runs along a patient axis when its other cosines are below this: half a
micrometre over half a metre, less than any scanner states."""


def multiscale(
    affine: np.ndarray | None, *, packed: bool = False, channels: bool = False
) -> dict[str, Any]:
    """Return the ``ome`` attribute of an image group.

    Parameters
    ----------
    affine : ndarray (4, 4) or None
        Index (z, y, x, 1) to LPS millimetres.  Voxel sizes are always stated; the place of the
        first voxel only where z, y and x run along LPS z, y and x, since NGFF 0.5 knows neither
        turned nor flipped axes.  None where cases of one array differ: sizes are 1 then.
    packed : bool
        The array has a first axis ``case``.
    channels : bool
        The array has an axis of channels before z.
    """
    unit = {} if affine is None else {"unit": "millimeter"}
    axes = [{"name": name, "type": "space", **unit} for name in SPACE]
    scale, translation = _scale_and_translation(affine)
    if channels:
        axes.insert(0, {"name": CHANNEL, "type": "channel"})
        scale.insert(0, 1.0)
        translation = translation and [0.0, *translation]
    if packed:
        axes.insert(0, {"name": CASE, "type": CASE})
        scale.insert(0, 1.0)
        # Cases of one voxel size still lie at places of their own.
        translation = None
    transforms: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    if translation is not None:
        transforms.append({"type": "translation", "translation": translation})
    level = {"path": IMAGE, "coordinateTransformations": transforms}
    return {"version": VERSION, "multiscales": [{"axes": axes, "datasets": [level]}]}


def mask_multiscale(affine: np.ndarray | None, *, packed: bool = False) -> dict[str, Any]:
    """Return the ``ome`` attribute of a mask's group, which NGFF calls a label image."""
    label = {"source": {"image": "../../"}, "colors": [MASK_COLOUR]}
    return {**multiscale(affine, packed=packed), "image-label": label}


def mask_list(names: Sequence[str]) -> dict[str, Any]:
    """Return the ``ome`` attribute of the group that holds the masks."""
    return {"version": VERSION, "labels": list(names)}


def common_affine(affines: Sequence[Sequence[Sequence[float]]]) -> np.ndarray | None:
    """Return an affine with the voxel size of all cases, or None when they differ."""
    if not affines:
        return None
    scales = {tuple(_scale_and_translation(np.array(affine))[0]) for affine in affines}
    return np.array(affines[0], dtype=np.float64) if len(scales) == 1 else None


def _scale_and_translation(affine: np.ndarray | None) -> tuple[list[float], list[float] | None]:
    if affine is None:
        return [1.0, 1.0, 1.0], None
    # Columns are the index axes z, y, x; rows are LPS x, y, z.
    axes = np.asarray(affine, dtype=np.float64)[:3, :3]
    sizes = np.linalg.norm(axes, axis=0)
    cosines = axes[::-1] / sizes
    aligned = np.abs(cosines - np.eye(3)).max() < ALIGNED_COSINE
    origin = np.asarray(affine, dtype=np.float64)[2::-1, 3]
    return sizes.tolist(), origin.tolist() if aligned else None
