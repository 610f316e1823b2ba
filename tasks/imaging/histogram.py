"""Bring intensities that have no unit, as MR's, to the histogram that training patients share."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from tasks.errors import BadCase
from tasks.imaging.step import Image, Parameters, Step, named, named_mask

LANDMARKS = (1.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.0)
"""Percentiles that are brought together; the outer two leave out what is rare (Nyul 2000)."""

SCALE = 100.0
"""The standard histogram runs from 0 at the first landmark to this at the last."""

SMALLEST_RANGE = 1e-6
"""An image whose landmarks all lie this close together shows nothing."""


class HistogramParameters(Parameters):
    """Foreground by a named mask, else above the mean; ``standard`` is learnt in training."""

    mask: str | None = None
    standard: tuple[float, ...] | None = Field(
        default=None, min_length=len(LANDMARKS), max_length=len(LANDMARKS)
    )

    @model_validator(mode="after")
    def _rising(self) -> "HistogramParameters":
        if self.standard is not None and (np.diff(self.standard) < 0).any():
            raise ValueError("the landmarks of standard must rise")
        return self


def landmarks_of(image: Image, mask: str | None) -> np.ndarray:
    """Return the intensities at `LANDMARKS` of the foreground, float64.

    Raises
    ------
    BadCase
        ``constant_image`` when they are all the same.
    """
    array = image.array
    inside = array > array.mean(dtype=np.float64) if mask is None else named_mask(image, mask)
    found = np.percentile(array[inside], LANDMARKS) if inside.any() else np.zeros(len(LANDMARKS))
    if found[-1] - found[0] < SMALLEST_RANGE:
        raise BadCase("constant_image", "the foreground has one intensity: no histogram to match")
    return found.astype(np.float64)


def _measure(image: Image, params: HistogramParameters) -> dict[str, Any]:
    return {"landmarks": landmarks_of(image, params.mask).tolist()}


def _learn(
    params: HistogramParameters, measured: Sequence[Mapping[str, Any]]
) -> HistogramParameters:
    """Average the landmarks of the cases, each case first brought to one range."""
    found = np.array([case["landmarks"] for case in measured], np.float64)
    low, high = found[:, :1], found[:, -1:]
    standard = ((found - low) / (high - low) * SCALE).mean(axis=0)
    return HistogramParameters(mask=params.mask, standard=tuple(standard.tolist()))


def _histogram_standard(image: Image, params: HistogramParameters) -> tuple[Image, dict]:
    """Map the image's landmarks on the standard ones, linearly between and beyond them.

    Nyul and Udupa 1999 (Magn Reson Med 42), with the percentiles of Nyul, Udupa and Zhang 2000
    (IEEE TMI 19).
    """
    own = landmarks_of(image, params.mask)
    mapped = map_landmarks(image.array, own, np.array(params.standard))
    return Image(mapped, image.affine), {}


def map_landmarks(array: np.ndarray, own: np.ndarray, standard: np.ndarray) -> np.ndarray:
    """Map an array piecewise linearly, ``own`` to ``standard``; the end pieces go on beyond.

    Parameters
    ----------
    array : ndarray (z, y, x)
    own, standard : ndarray (n,)
        Rising; landmarks of one intensity become one, in the middle of their standards.

    Returns
    -------
    ndarray (z, y, x), float32
    """
    knots, place = np.unique(own, return_inverse=True)
    targets = np.bincount(place, standard) / np.bincount(place)
    slopes = np.diff(targets) / np.diff(knots)
    out = np.interp(array, knots, targets)
    out += np.minimum(array - knots[0], 0) * slopes[0]
    out += np.maximum(array - knots[-1], 0) * slopes[-1]
    return out.astype(np.float32)


HISTOGRAM_STANDARD = Step(
    version=1,
    parameters=HistogramParameters,
    apply=_histogram_standard,
    needs_fit=lambda params: params.standard is None,
    measure=_measure,
    learn=_learn,
    needs=named,
    voxel_ns=lambda params: 60,
    copies=6,
)

STEPS: Mapping[str, Step] = {"histogram_standard": HISTOGRAM_STANDARD}
