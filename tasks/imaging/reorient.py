"""Turn the axes of an image to named directions of the patient, by exchange and flips alone.

No voxel is interpolated: an oblique image stays oblique, with each axis within 45 degrees or so of
the direction it is named for.
"""

from collections.abc import Mapping
from itertools import permutations
from typing import Annotated

import numpy as np
from pydantic import AfterValidator

from tasks.errors import BadCase
from tasks.imaging.step import Bounds, Image, Parameters, Step

DIRECTIONS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}
"""Letter -> axis of LPS millimetres and sign: left, right, posterior, anterior, superior, inferior
of the patient."""


def _one_of_each(code: str) -> str:
    if sorted(DIRECTIONS[letter][0] for letter in code if letter in DIRECTIONS) != [0, 1, 2]:
        raise ValueError(f"{code!r} must be three letters: one of L R, one of P A, one of S I")
    if len(code) != 3:
        raise ValueError(f"{code!r} must be three letters, for z, y and x")
    return code


class ReorientParameters(Parameters):
    """Where the indices z, y and x (in this order) rise to.

    ``SPL`` is the grid of an axial series as DICOM shows it: slices to the head, rows to the back,
    columns to the left; programs that name x first call it LPS.  ``SAR`` is NIfTI's RAS.
    """

    orientation: Annotated[str, AfterValidator(_one_of_each)] = "SPL"


def orientation_of(affine: np.ndarray) -> str:
    """Return the three letters that say where the indices z, y and x rise to.

    Each array axis gets a body axis of its own; of the six ways to deal them out, the one whose
    angles are smallest together (largest sum of absolute cosines) is taken.

    Parameters
    ----------
    affine : ndarray (4, 4)
        Maps index (z, y, x, 1) to LPS mm.
    """
    columns = np.asarray(affine, dtype=np.float64)[:3, :3]
    cosines = columns / np.linalg.norm(columns, axis=0)
    body = max(permutations(range(3)), key=lambda way: sum(abs(cosines[way, range(3)])))
    letters = {place: letter for letter, place in DIRECTIONS.items()}
    return "".join(
        letters[way, 1 if cosines[way, axis] >= 0 else -1] for axis, way in enumerate(body)
    )


def _reorient(image: Image, params: ReorientParameters) -> tuple[Image, dict]:
    if image.facts.get("axis") == "time":
        detail = "the first axis of a cine is time: take reorient out of this recipe"
        raise BadCase("no_patient_axes", detail)
    have = [DIRECTIONS[letter] for letter in orientation_of(image.affine)]
    want = [DIRECTIONS[letter] for letter in params.orientation]
    axes = [[body for body, _ in have].index(body) for body, _ in want]
    flips = [have[axis][1] != sign for axis, (_, sign) in zip(axes, want, strict=True)]
    source = image.array.shape
    trace = {
        "source_shape": list(source),
        "shape": [source[axis] for axis in axes],
        "axes": axes,
        "flips": flips,
    }
    return Image(_replay(image.array, trace), _move(image.affine, trace)), trace


def _replay(array: np.ndarray, trace: dict) -> np.ndarray:
    return np.ascontiguousarray(_flip(array.transpose(trace["axes"]), trace["flips"]))


def _invert(array: np.ndarray, trace: dict, linear: bool) -> np.ndarray:
    back = np.argsort(trace["axes"])
    return np.ascontiguousarray(_flip(array, trace["flips"]).transpose(back))


def _flip(array: np.ndarray, flips: list[bool]) -> np.ndarray:
    return array[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]


def _move(affine: np.ndarray, trace: dict) -> np.ndarray:
    step = np.zeros((4, 4))
    step[3, 3] = 1
    pairs = zip(trace["axes"], trace["flips"], strict=True)
    for new, (old, flip) in enumerate(pairs):
        step[old, new] = -1 if flip else 1
        step[old, 3] = trace["source_shape"][old] - 1 if flip else 0
    return affine @ step


def _bounds(params: ReorientParameters, bounds: Bounds) -> Bounds:
    """Any axis may become any other: the bounds of each are those of all together."""
    low, high = min(low for low, _ in bounds), max(high for _, high in bounds)
    return ((low, high),) * 3


REORIENT = Step(
    version=1,
    parameters=ReorientParameters,
    apply=_reorient,
    replay=_replay,
    invert=_invert,
    move=_move,
    bounds=_bounds,
)

STEPS: Mapping[str, Step] = {"reorient": REORIENT}
