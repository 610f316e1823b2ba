"""Bias correction: take out the slow change of brightness that the coils of MR make."""

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import Field

from tasks.errors import BadCase
from tasks.imaging.step import Image, Parameters, Step, named_mask

OTSU_BINS = 200
"""Bins of the histogram that Otsu's threshold is sought in."""

FEWEST_VOXELS = 4
"""N4 fits a spline of 4 control points along each axis: shrunken axes keep as many voxels."""

Iterations = Annotated[int, Field(ge=1, le=1000)]


class BiasParameters(Parameters):
    """N4 on a grid ``shrink`` times as coarse, over all that Otsu or a named mask calls tissue."""

    mask: str = "otsu"
    shrink: int = Field(default=4, ge=1, le=16)
    iterations: tuple[Iterations, ...] = Field(default=(50, 50, 50, 50), min_length=1, max_length=6)
    tolerance: float = Field(default=0.001, gt=0, lt=1)


def _bias_correction(image: Image, params: BiasParameters) -> tuple[Image, dict]:
    array = image.array.astype(np.float32, copy=False)
    inside = otsu_mask(array) if params.mask == "otsu" else named_mask(image, params.mask)
    # The logarithm of what is not above 0 says nothing of a field that multiplies.
    inside = inside & (array > 0)
    if not inside.any():
        raise BadCase("no_bias_field", "no voxel of the mask is above 0: N4 takes logarithms")
    field = log_bias_field(array, inside, params.shrink, params.iterations, params.tolerance)
    return Image(array / np.exp(field), image.affine), {}


def otsu_mask(array: np.ndarray) -> np.ndarray:
    """Return where an image lies above Otsu's threshold (1979, IEEE SMC 9), bool (z, y, x)."""
    import SimpleITK

    otsu = SimpleITK.OtsuThresholdImageFilter()
    otsu.SetNumberOfThreads(1)
    otsu.SetNumberOfHistogramBins(OTSU_BINS)
    # Of the two classes, ITK marks the darker.
    return SimpleITK.GetArrayFromImage(otsu.Execute(SimpleITK.GetImageFromArray(array))) == 0


def log_bias_field(
    array: np.ndarray,
    inside: np.ndarray,
    shrink: int,
    iterations: tuple[int, ...],
    tolerance: float,
) -> np.ndarray:
    """Return the logarithm of the bias field on the image's own grid.

    N4 (Tustison et al. 2010, IEEE TMI 29) as SimpleITK has it, on one thread.  The field is so
    smooth that a grid four times as coarse finds the same one for a fraction of the time.

    Parameters
    ----------
    array : ndarray (z, y, x), float32
    inside : ndarray (z, y, x), bool
        Tissue; its voxels are above 0.
    shrink : int
        Less along short axes.
    iterations : tuple of int
        At most, at each level; every level has twice the control points of the one before.
    tolerance : float
        A level ends when the field changes by less.

    Returns
    -------
    ndarray (z, y, x), float32

    Raises
    ------
    BadCase
        ``no_bias_field`` when N4 finds none.
    """
    import SimpleITK

    # ITK's splines need more than one voxel along an axis: a single slice is a plane to it.
    seen = (slice(None),) if array.shape[0] > 1 else (0,)
    image = SimpleITK.GetImageFromArray(array[seen])
    mask = SimpleITK.GetImageFromArray(inside[seen].astype(np.uint8))
    factors = [max(1, min(shrink, size // FEWEST_VOXELS)) for size in image.GetSize()]
    n4 = SimpleITK.N4BiasFieldCorrectionImageFilter()
    n4.SetNumberOfThreads(1)
    n4.SetMaximumNumberOfIterations(iterations)
    n4.SetConvergenceThreshold(tolerance)
    try:
        n4.Execute(SimpleITK.Shrink(image, factors), SimpleITK.Shrink(mask, factors))
        field = SimpleITK.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image))
    except RuntimeError:
        # ITK's messages name its source files; the cause is nearly always a mask without spread.
        raise BadCase("no_bias_field", "N4 found no field: too few voxels, or all alike") from None
    if not np.isfinite(field).all():
        raise BadCase("no_bias_field", "the field that N4 found is not finite")
    return field.astype(np.float32, copy=False).reshape(array.shape)


BIAS_CORRECTION = Step(
    version=1,
    parameters=BiasParameters,
    apply=_bias_correction,
    needs=lambda params: () if params.mask == "otsu" else (params.mask,),
    # Measured: the field on the whole grid, and a full iteration on the coarse one.
    voxel_ns=lambda params: 500 + 1350 * sum(params.iterations) // params.shrink**3,
    copies=4,
)

STEPS: Mapping[str, Step] = {"bias_correction": BIAS_CORRECTION}
