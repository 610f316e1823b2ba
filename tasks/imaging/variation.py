"""Denoising by an equation that keeps edges: total variation and anisotropic diffusion.

Both go plane after plane, so that what is worked on stays in the processor's cache.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from pydantic import Field

from tasks.imaging.filters import each_plane
from tasks.imaging.step import Image, Numbers3, Parameters, Step


class TotalVariationParameters(Parameters):
    """``weight`` in the image's units, about the noise's standard deviation; larger is smoother."""

    weight: float = Field(gt=0)
    tolerance: float = Field(default=2e-4, ge=0, lt=1)
    iterations: int = Field(default=200, ge=1, le=1000)
    dimensions: Literal[2, 3] = 2


def _total_variation(image: Image, params: TotalVariationParameters) -> tuple[Image, dict]:
    given = (params.weight, params.tolerance, params.iterations)
    if params.dimensions == 3 and image.array.shape[0] > 1:
        return Image(total_variation(image.array, *given), image.affine), {}
    done = each_plane(image.array, lambda plane: total_variation(plane[None], *given)[0])
    return Image(done, image.affine), {}


def total_variation(
    array: np.ndarray, weight: float, tolerance: float, iterations: int
) -> np.ndarray:
    """Minimise half the squared change plus ``weight`` times the total variation.

    The model of Rudin, Osher and Fatemi 1992 (Physica D 60) by the dual projection of Chambolle
    2004 (J Math Imaging Vis 20); the same iterates as skimage's ``denoise_tv_chambolle``.

    Parameters
    ----------
    array : ndarray (z, y, x)
        In the volume, or in the plane when there is one slice.
    weight : float
    tolerance : float
        Ends when the energy changes by less than this share of its first value.
    iterations : int
        At most.

    Returns
    -------
    ndarray (z, y, x), float32
    """
    source = np.ascontiguousarray(array, dtype=np.float32)
    axes = 3 if source.shape[0] > 1 else 2
    dual = np.zeros((axes, *source.shape), np.float32)
    # Its last column and row are never written: nothing flows out of the image.
    gradient = np.zeros((axes, *source.shape[1:]), np.float32)
    out = np.empty_like(source)
    first = last = None
    for _ in range(iterations):
        energy = _dual_step(source, dual, out, gradient, weight) / source.size
        if first is None:
            first = energy
        elif abs(last - energy) < tolerance * first:
            break
        last = energy
    return out


def _dual_step(
    source: np.ndarray, dual: np.ndarray, out: np.ndarray, gradient: np.ndarray, weight: float
) -> float:
    """Write the present image into ``out`` and move the dual field once; return the energy.

    OpenCV does in one pass over a plane what numpy needs several for.
    """
    import cv2

    step = 1 / (2 * len(dual))
    depth = len(source)
    energy = _primal(source, dual, out, 0)
    for z, plane in enumerate(out):
        # The next plane's image needs this plane's dual field as it was.
        if z + 1 < depth:
            energy += _primal(source, dual, out, z + 1)
        np.subtract(plane[:, 1:], plane[:, :-1], out=gradient[-1][:, :-1])
        np.subtract(plane[1:], plane[:-1], out=gradient[-2][:-1])
        norm = cv2.magnitude(gradient[-1], gradient[-2])
        if len(dual) == 3:
            gradient[0] = out[z + 1] - plane if z + 1 < depth else 0
            norm = cv2.magnitude(norm, gradient[0])
        energy += weight * cv2.norm(norm, cv2.NORM_L1)
        norm *= np.float32(step / weight)
        norm += 1
        for part, along in zip(gradient, dual, strict=True):
            cv2.scaleAdd(part, -step, along[z], dst=along[z])
            along[z] /= norm
    return energy


def _primal(source: np.ndarray, dual: np.ndarray, out: np.ndarray, z: int) -> float:
    """Write one plane of source plus divergence; return the squared divergence."""
    import cv2

    plane, along_y, along_x = out[z], dual[-2][z], dual[-1][z]
    np.subtract(source[z], along_x, out=plane)
    plane -= along_y
    plane[:, 1:] += along_x[:, :-1]
    plane[1:] += along_y[:-1]
    if len(dual) == 3:
        plane -= dual[0][z]
        if z:
            plane += dual[0][z - 1]
    return cv2.norm(plane, source[z], cv2.NORM_L2SQR)


class DiffusionParameters(Parameters):
    """``kappa``, in the image's units: steps between voxels well above it are kept as edges."""

    kappa: float = Field(gt=0)
    iterations: int = Field(default=5, ge=1, le=500)
    edge: Literal["exponential", "rational"] = "exponential"
    dimensions: Literal[2, 3] = 2


def _anisotropic_diffusion(image: Image, params: DiffusionParameters) -> tuple[Image, dict]:
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    used = spacing if params.dimensions == 3 else spacing[1:]
    nearness = tuple((used.min() / spacing).tolist())
    if params.dimensions == 2:
        nearness = (0.0, *nearness[1:])
    done = anisotropic_diffusion(
        image.array, params.kappa, params.iterations, params.edge, nearness
    )
    return Image(done, image.affine), {}


def anisotropic_diffusion(
    array: np.ndarray,
    kappa: float,
    iterations: int,
    edge: Literal["exponential", "rational"],
    nearness: Numbers3 = (0.0, 1.0, 1.0),
) -> np.ndarray:
    """Let intensities flow between neighbours, less where they differ much.

    Perona and Malik 1990 (IEEE PAMI 12), equations 7 to 10: explicit steps, the largest stable
    one (1/4 in a plane, 1/6 in a volume).  Along an axis of larger spacing, a difference counts
    less by the ratio of spacings, as a slope in mm does.

    Parameters
    ----------
    array : ndarray (z, y, x)
    kappa : float
        In the image's units, between voxels of the smallest spacing.
    iterations : int
    edge : {"exponential", "rational"}
        exp(-(d/kappa)^2) favours strong edges, 1 / (1 + (d/kappa)^2) wide regions.
    nearness : three floats
        Smallest spacing over that of z, y and x; 0 along z for single slices.

    Returns
    -------
    ndarray (z, y, x), float32
    """
    flux = {"exponential": _exponential, "rational": _rational}[edge]
    out = array.astype(np.float32)
    step = 1 / (6 if nearness[0] and out.shape[0] > 1 else 4)
    for _ in range(iterations):
        _diffuse(out, flux, np.float32(kappa), nearness, step)
    return out


def _diffuse(
    out: np.ndarray, flux: Callable, kappa: np.float32, nearness: Numbers3, step: float
) -> None:
    """Move once, in place: each flux leaves one voxel and enters its neighbour."""
    above = np.zeros_like(out[0])
    for z, plane in enumerate(out):
        change, above = above, np.zeros_like(above)
        for axis in (0, 1):
            flow = flux(np.diff(plane, axis=axis), kappa, nearness[axis + 1], step)
            ahead = (slice(1, None), slice(None)) if axis == 0 else (slice(None), slice(1, None))
            behind = (slice(-1), slice(None)) if axis == 0 else (slice(None), slice(-1))
            change[behind] += flow
            change[ahead] -= flow
        if nearness[0] and z + 1 < len(out):
            flow = flux(out[z + 1] - plane, kappa, nearness[0], step)
            change += flow
            above -= flow
        plane += change


def _exponential(difference: np.ndarray, kappa: np.float32, near: float, step: float) -> np.ndarray:
    conduction = difference * np.float32(near / kappa)
    conduction *= -conduction
    np.exp(conduction, out=conduction)
    conduction *= np.float32(step * near**2)
    conduction *= difference
    return conduction


def _rational(difference: np.ndarray, kappa: np.float32, near: float, step: float) -> np.ndarray:
    resistance = difference * np.float32(near / kappa)
    resistance *= resistance
    resistance += 1
    difference *= np.float32(step * near**2)
    difference /= resistance
    return difference


def _variation_ns(params: TotalVariationParameters) -> int:
    # Hardly any image needs more than a quarter of the default's 200.
    return 5 * min(params.iterations, 50)


def _diffusion_ns(params: DiffusionParameters) -> int:
    return 6 * params.iterations


TOTAL_VARIATION = Step(
    version=1,
    parameters=TotalVariationParameters,
    apply=_total_variation,
    voxel_ns=_variation_ns,
    copies=3,
)
ANISOTROPIC_DIFFUSION = Step(
    version=1,
    parameters=DiffusionParameters,
    apply=_anisotropic_diffusion,
    voxel_ns=_diffusion_ns,
)

STEPS: Mapping[str, Step] = {
    "total_variation": TOTAL_VARIATION,
    "anisotropic_diffusion": ANISOTROPIC_DIFFUSION,
}
