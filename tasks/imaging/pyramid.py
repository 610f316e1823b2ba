"""Search for the transform that explains most, from coarse to fine.

Mattes mutual information (IEEE Trans. Med. Imaging 22, 2003) of seeded samples under ITK's regular
step gradient descent, all on one thread: the same images give the same bytes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np

from tasks.errors import BadCase
from tasks.imaging.information import bins_for

if TYPE_CHECKING:
    from SimpleITK import Image as ItkImage
    from SimpleITK import ImageRegistrationMethod, Transform

Kind = Literal["rigid", "affine"]

LEVELS = (8.0, 4.0, 2.0, 1.0)
"""Voxel size of each level of the pyramid, in finest voxels of the fixed image."""

LEAST_VOXELS = 2_000
"""A level with fewer voxels has too few to fill a joint histogram: the next finer one begins."""

SAMPLES = 40_000
"""Places at which a level compares the images: 25 for each cell of the joint histogram."""

SEED = 20_030_120
"""Of the places that are compared; part of what a result depends on, so it is fixed."""

ITERATIONS = 300
"""Most steps of the optimiser a level; it comes to rest after 60 to 100."""

FIRST_STEP, LAST_STEP = 1.0, 1e-3
"""Length of the optimiser's steps at first and at rest, in voxels of the level: far below the half
voxel that a resampled image could show."""

AFFINE_STEP, AFFINE_LEVELS = 0.1, 2
"""The first step once stretching is free, and how many of the finest levels it has: it begins near
the goal, and coarse levels or whole voxels lead twelve parameters astray."""

RELAXATION = 0.9
"""A step that turns back is this much shorter.  With ITK's 0.5 the shifts came to rest before the
turn had: 2 degrees off on the brain slices of ITK's own examples, 0.1 with 0.8 or more; heads of
2.6 mm voxels were 1.2 mm off with 0.8 and 0.6 mm with 0.9."""


def search(fixed: "ItkImage", moving: "ItkImage", kind: Kind) -> tuple[np.ndarray, int]:
    """Find the transform from places in one image to places of the same tissue in another.

    A rigid one first, whatever the kind: stretching is only asked for what turning leaves over,
    and where it explains no more the rigid one stays.

    Parameters
    ----------
    fixed, moving : SimpleITK.Image
        Of float32 and one dimension, 2 or 3.
    kind : {"rigid", "affine"}

    Returns
    -------
    matrix : ndarray (4, 4) or (3, 3)
        On places (x, y, z, 1) or (x, y, 1) in mm.
    steps : int
        Of the optimiser.

    Raises
    ------
    BadCase
        ``registration_failed`` when the images have no place in common.
    """
    finest = min(fixed.GetSpacing())
    sizes = [size for size in LEVELS if _voxels_at(fixed, size * finest) >= LEAST_VOXELS]
    sizes = sizes or [LEVELS[-1]]
    try:
        with _one_thread():
            transform = _begin(fixed, moving, sizes[0])
            steps = _descend(fixed, moving, transform, sizes, FIRST_STEP)
            if kind == "affine":
                stretched, finer = _affine_from(transform), sizes[-AFFINE_LEVELS:]
                steps += _descend(fixed, moving, stretched, finer, AFFINE_STEP)
                transform = min(stretched, transform, key=lambda one: _cost(fixed, moving, one))
    except RuntimeError:
        # ITK's message quotes its own source; what it means here is always this.
        detail = "the images drifted apart while they were matched"
        raise BadCase("registration_failed", detail) from None
    return _as_matrix(transform), steps


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let ITK use one thread: sums over several differ from run to run in their last digits.

    The registration's own SetNumberOfThreads does not reach its metric (SimpleITK 2.5).
    """
    import SimpleITK

    before = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _descend(
    fixed: "ItkImage",
    moving: "ItkImage",
    transform: "Transform",
    sizes: Sequence[float],
    first_step: float,
) -> int:
    """Improve the transform in place, level after level; return the steps it took."""
    steps = 0
    for size in sizes:
        level_mm = size * min(fixed.GetSpacing())
        method = _method(fixed, size, first_step)
        method.SetInitialTransform(transform, inPlace=True)
        method.Execute(_thinned(fixed, level_mm), _softened(moving, level_mm))
        steps += method.GetOptimizerIteration()
    return steps


def _cost(fixed: "ItkImage", moving: "ItkImage", transform: "Transform") -> float:
    """Return the negative mutual information at all voxels of the fixed image."""
    method = _method(fixed, LEVELS[-1], FIRST_STEP)
    method.SetInitialTransform(transform)
    return method.MetricEvaluate(fixed, moving)


def _begin(fixed: "ItkImage", moving: "ItkImage", size: float) -> "Transform":
    """Return the better of two starts: as the headers say, or brightness upon brightness."""
    import SimpleITK

    level_mm = size * min(fixed.GetSpacing())
    coarse = _thinned(fixed, level_mm), _softened(moving, level_mm)
    make = SimpleITK.Euler2DTransform if fixed.GetDimension() == 2 else SimpleITK.Euler3DTransform
    middle = fixed.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in fixed.GetSize()])
    apart = np.subtract(_brightest(moving), _brightest(fixed))
    found = []
    for shift in (np.zeros_like(apart), apart):
        transform = make()
        transform.SetCenter(middle)
        transform.SetTranslation(shift.tolist())
        method = _method(fixed, size, FIRST_STEP)
        method.SetInitialTransform(transform, inPlace=True)
        try:
            found.append((method.MetricEvaluate(*coarse), transform))
        except RuntimeError:
            # Nothing in common from here; the other start may have.
            continue
    if not found:
        raise RuntimeError("no start has an overlap")
    return min(found, key=lambda pair: pair[0])[1]


def _brightest(image: "ItkImage") -> tuple[float, ...]:
    """Return the centre of brightness above the darkest value, in mm."""
    import SimpleITK

    weights = SimpleITK.GetArrayFromImage(image).astype(np.float64)
    weights -= weights.min()
    total = weights.sum()
    centre = []
    for axis in reversed(range(weights.ndim)):
        line = weights.sum(axis=tuple(i for i in range(weights.ndim) if i != axis))
        centre.append(float(line @ np.arange(line.size) / total))
    return image.TransformContinuousIndexToPhysicalPoint(centre)


def _affine_from(rigid: "Transform") -> "Transform":
    import SimpleITK

    affine = SimpleITK.AffineTransform(rigid.GetDimension())
    affine.SetCenter(rigid.GetCenter())
    affine.SetMatrix(rigid.GetMatrix())
    affine.SetTranslation(rigid.GetTranslation())
    return affine


def _as_matrix(transform: "Transform") -> np.ndarray:
    n = transform.GetDimension()
    centre, matrix = np.array(transform.GetCenter()), np.eye(n + 1)
    matrix[:n, :n] = np.reshape(transform.GetMatrix(), (n, n))
    matrix[:n, n] = centre + transform.GetTranslation() - matrix[:n, :n] @ centre
    return matrix


def _voxels_at(image: "ItkImage", level_mm: float) -> float:
    return float(np.prod(np.divide(image.GetSize(), _factors(image, level_mm))))


def _factors(image: "ItkImage", level_mm: float) -> list[int]:
    """Return by how much each axis can shrink to voxels of about the level's size."""
    return [max(1, round(level_mm / size)) for size in image.GetSpacing()]


def _thinned(image: "ItkImage", level_mm: float) -> "ItkImage":
    """Bring the fixed image to voxels of about the level, smoothed by half of one before."""
    import SimpleITK

    factors = _factors(image, level_mm)
    pairs = zip(image.GetSpacing(), factors, strict=True)
    sigma = [size * factor / 2 if factor > 1 else 0.0 for size, factor in pairs]
    return SimpleITK.Shrink(_smoothed(image, sigma), factors)


def _softened(image: "ItkImage", level_mm: float) -> "ItkImage":
    """Smooth the moving image by half a voxel of the level, or one of its own.

    The optimiser follows its slopes, and those between two voxels of a sharp edge lead astray: on
    a head of known motion stretching drifted by 8 % without this and by 0.4 % with it.
    """
    return _smoothed(image, [max(level_mm / 2, size) for size in image.GetSpacing()])


def _smoothed(image: "ItkImage", sigma_mm: list[float]) -> "ItkImage":
    import SimpleITK

    smooth = SimpleITK.DiscreteGaussianImageFilter()
    smooth.SetVariance([sigma**2 for sigma in sigma_mm])
    return smooth.Execute(image)


def _method(fixed: "ItkImage", size: float, first_step: float) -> "ImageRegistrationMethod":
    import SimpleITK

    method = SimpleITK.ImageRegistrationMethod()
    level_mm = size * min(fixed.GetSpacing())
    voxels = _voxels_at(fixed, level_mm)
    method.SetMetricAsMattesMutualInformation(bins_for(min(voxels, SAMPLES)))
    if voxels > SAMPLES:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(SAMPLES / voxels, SEED)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=first_step * level_mm,
        minStep=LAST_STEP * level_mm,
        numberOfIterations=ITERATIONS,
        relaxationFactor=RELAXATION,
        gradientMagnitudeTolerance=1e-8,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    return method
