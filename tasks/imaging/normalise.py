"""Bring intensities to one scale, and choose the type they are stored in."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from tasks.cohort.fingerprint import Fingerprint
from tasks.errors import BadCase
from tasks.hashing import unsaid
from tasks.imaging.step import Image, Parameters, Step, named, named_mask

SMALLEST_SPREAD = 1e-6
"""A standard deviation or range below this is rounding noise: such an image shows nothing."""


LOW, HIGH = 1.0, 99.0
"""Percentiles that method: percentile brings to 0 and 1 unless said."""

CROPPED = 0.75
"""Where voxels that are not 0 fill less of the images than this, the others stay 0 (nnU-Net)."""


class NormaliseParameters(Parameters):
    """How to scale; mean to p995 are filled from the training cases when method is fingerprint.

    ``auto`` becomes one of the others by nnU-Net's rule: fingerprint for CT; else each image by its
    own zscore, or by nonzero_zscore where 0 fills more than a quarter of the training images.
    ``mask`` goes with masked_zscore, ``low`` and ``high`` (percentiles) with percentile.
    """

    method: Literal[
        "zscore", "minmax", "fingerprint", "nonzero_zscore", "masked_zscore", "percentile", "auto"
    ] = "zscore"
    mean: float | None = None
    std: float | None = None
    p005: float | None = None
    p995: float | None = None
    mask: str | None = Field(default=None, exclude_if=unsaid)
    low: float | None = Field(default=None, ge=0, lt=100, exclude_if=unsaid)
    high: float | None = Field(default=None, gt=0, le=100, exclude_if=unsaid)

    @model_validator(mode="after")
    def _belong(self) -> "NormaliseParameters":
        if (self.mask is not None) != (self.method == "masked_zscore"):
            raise ValueError("mask goes with method: masked_zscore, and it needs one")
        if self.method != "percentile" and (self.low, self.high) != (None, None):
            raise ValueError("low and high go with method: percentile only")
        low, high = self.percentiles
        if low >= high:
            raise ValueError(f"low {low:g} must be below high {high:g}")
        return self

    @property
    def percentiles(self) -> tuple[float, float]:
        """``low`` and ``high``, defaults filled in."""
        return LOW if self.low is None else self.low, HIGH if self.high is None else self.high


def _normalise(image: Image, params: NormaliseParameters) -> tuple[Image, dict]:
    array = image.array.astype(np.float32)
    if params.method == "masked_zscore":
        return Image(_masked_zscore(array, named_mask(image, params.mask)), image.affine), {}
    return Image(_METHODS[params.method](array, params), image.affine), {}


def _masked_zscore(array: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Scale the whole image by the mean and deviation of the voxels of a mask."""
    values = array[inside]
    mean, std = values.mean(dtype=np.float64), values.std(dtype=np.float64)
    return (array - np.float32(mean)) / np.float32(_spread(std))


def _percentile(array: np.ndarray, params: NormaliseParameters) -> np.ndarray:
    """Bring two percentiles to 0 and 1; what lies beyond them goes on linearly, nothing is cut."""
    low, high = np.percentile(array, params.percentiles).tolist()
    return (array - np.float32(low)) / np.float32(_spread(high - low))


def _zscore(array: np.ndarray, params: NormaliseParameters) -> np.ndarray:
    # float64 sums: float32 ones drift with the number of voxels.
    mean, std = array.mean(dtype=np.float64), array.std(dtype=np.float64)
    return (array - np.float32(mean)) / np.float32(_spread(std))


def _nonzero_zscore(array: np.ndarray, params: NormaliseParameters) -> np.ndarray:
    """Scale by the voxels that are not 0 and leave the others 0, as nnU-Net does for cropped MR."""
    inside = array != 0
    values = array[inside]
    if values.size == 0:
        raise BadCase("constant_image", "all voxels are 0: there is nothing to normalise")
    mean, std = values.mean(dtype=np.float64), values.std(dtype=np.float64)
    scaled = (array - np.float32(mean)) / np.float32(_spread(std))
    return np.where(inside, scaled, np.float32(0))


def _minmax(array: np.ndarray, params: NormaliseParameters) -> np.ndarray:
    low, high = array.min(), array.max()
    return (array - low) / np.float32(_spread(float(high) - float(low)))


def _fingerprint(array: np.ndarray, params: NormaliseParameters) -> np.ndarray:
    """Clip to the training foreground's 0.5 and 99.5 % and scale by its mean and deviation."""
    clipped = np.clip(array, np.float32(params.p005), np.float32(params.p995))
    return (clipped - np.float32(params.mean)) / np.float32(_spread(params.std))


_METHODS = {
    "zscore": _zscore,
    "minmax": _minmax,
    "fingerprint": _fingerprint,
    "nonzero_zscore": _nonzero_zscore,
    "percentile": _percentile,
}


def _spread(value: float) -> float:
    if value < SMALLEST_SPREAD:
        raise BadCase("constant_image", f"the spread of intensities is {value:g}: shows nothing")
    return float(value)


def _needs_fit(params: NormaliseParameters) -> bool:
    fitted = (params.mean, params.std, params.p005, params.p995)
    if params.method == "auto":
        return True
    return params.method == "fingerprint" and None in fitted


def _fit(params: NormaliseParameters, fingerprint: Fingerprint) -> NormaliseParameters:
    method = _by_rule(fingerprint) if params.method == "auto" else params.method
    if method != "fingerprint":
        return NormaliseParameters(method=method)
    return NormaliseParameters(
        method=method,
        mean=float(fingerprint.mean),
        std=float(fingerprint.std),
        p005=float(fingerprint.p005),
        p995=float(fingerprint.p995),
    )


def _by_rule(fingerprint: Fingerprint) -> str:
    """Return what ``auto`` means for these training cases."""
    if fingerprint.modalities == ("CT",):
        return "fingerprint"
    if {"CT", ""} & set(fingerprint.modalities) or not fingerprint.modalities:
        named = ", ".join(name or "not said" for name in fingerprint.modalities) or "not said"
        raise ValueError(
            f"normalise: auto must know whether the images are CT, and their modality is {named}; "
            "choose one modality in the cohort, or say a method"
        )
    return "zscore" if fingerprint.inside_share >= CROPPED else "nonzero_zscore"


class StoreAsParameters(Parameters):
    """Type of the stored voxels."""

    dtype: Literal["int16", "float16", "float32"]


def _store_as(image: Image, params: StoreAsParameters) -> tuple[Image, dict]:
    dtype = np.dtype(params.dtype)
    limits = np.iinfo(dtype) if dtype.kind == "i" else np.finfo(dtype)
    low, high = float(image.array.min()), float(image.array.max())
    if np.isnan(low) or np.isnan(high):
        # A whole number would take its place, and nothing after this could tell.
        raise BadCase("not_finite", f"some voxels are no number and cannot be stored as {dtype}")
    if low < float(limits.min) or high > float(limits.max):
        detail = f"values {low:g} to {high:g} do not fit {dtype}: clip first or store float32"
        raise BadCase("out_of_range", detail)
    rounded = np.rint(image.array) if dtype.kind == "i" else image.array
    return Image(rounded.astype(dtype), image.affine), {}


NORMALISE = Step(
    version=1,
    parameters=NormaliseParameters,
    apply=_normalise,
    needs_fit=_needs_fit,
    fit=_fit,
    needs=named,
)
STORE_AS = Step(version=1, parameters=StoreAsParameters, apply=_store_as)

STEPS: Mapping[str, Step] = {"normalise": NORMALISE, "store_as": STORE_AS}
