"""Put a leaning or uneven stack upright on an even grid; the first step of a recipe or none."""

from collections.abc import Mapping

import numpy as np

from tasks.archive.geometry import TILT_TOLERANCE_DEG
from tasks.archive.straighten import (
    SLICE_POSITIONS,
    from_upright,
    grid_of,
    to_upright,
    to_upright_nearest,
    upright_affine,
)
from tasks.imaging.step import UNBOUNDED, Bounds, Image, Parameters, Step

STRAIGHTEN = "straighten"
"""Name of the step: where a recipe begins with it, readers give crooked stacks as they stand."""


class StraightenParameters(Parameters):
    """There are none: what a stack needs its positions say."""


def _straighten(image: Image, params: StraightenParameters) -> tuple[Image, dict]:
    """Straighten what leans or is uneven; an upright even image passes as it is.

    CT is filled with air where no slice reaches, others with their least value.
    """
    from tasks.archive.grey import AIR_HU  # brings pydicom, and scenarios must stay light

    shape = [int(size) for size in image.array.shape]
    positions = _positions(image)
    if positions is None:
        return image, {"source_shape": shape, "shape": shape, "at": None}
    grid = grid_of(image.array.shape, positions, image.affine)
    fill = AIR_HU if image.facts.get("modality") == "CT" else float(image.array.min())
    array = to_upright(image.array, grid.at, grid.shape, fill)
    trace = {
        "source_shape": shape,
        "shape": list(grid.shape),
        "at": grid.at.tolist(),
        "step": grid.step,
    }
    return Image(array, _move(image.affine, trace)), trace


def _positions(image: Image) -> np.ndarray | None:
    """Return where each slice lies (LPS mm), None when the stack is upright and even."""
    if SLICE_POSITIONS in image.facts:
        return np.array(image.facts[SLICE_POSITIONS], dtype=np.float64)
    step, column, row = image.affine[:3, :3].T
    normal = np.cross(row, column)
    lean = np.degrees(np.arctan2(np.linalg.norm(np.cross(step, normal)), abs(step @ normal)))
    if len(image.array) == 1 or lean <= TILT_TOLERANCE_DEG:
        return None
    return image.affine[:3, 3] + np.arange(len(image.array))[:, None] * step


def _move(affine: np.ndarray, trace: dict) -> np.ndarray:
    if trace["at"] is None:
        return affine
    return upright_affine(affine, np.array(trace["at"]), trace["step"])


def _replay(label: np.ndarray, trace: dict) -> np.ndarray:
    if trace["at"] is None:
        return label
    return to_upright_nearest(label, np.array(trace["at"]), tuple(trace["shape"]))


def _invert(array: np.ndarray, trace: dict, linear: bool) -> np.ndarray:
    if trace["at"] is None:
        return array.astype(np.float32) if linear else array
    shape = tuple(trace["source_shape"])
    return from_upright(array, np.array(trace["at"]), shape, linear=linear)


def _any_shape(params: StraightenParameters, bounds: Bounds) -> Bounds:
    return ((1, UNBOUNDED),) * 3


STEPS: Mapping[str, Step] = {
    STRAIGHTEN: Step(
        version=1,
        parameters=StraightenParameters,
        apply=_straighten,
        replay=_replay,
        invert=_invert,
        move=_move,
        bounds=_any_shape,
    )
}
