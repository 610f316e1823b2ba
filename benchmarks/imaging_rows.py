"""The rows of `bench_imaging`: each imaging step, the usual way to the same result, and the bar."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import SimpleITK
from scipy import ndimage, signal
from skimage import exposure, filters, restoration

from tasks.imaging.recipe import Image, apply, fit
from tasks.imaging.steps import parse_steps

ROWS, COLUMNS = 512, 512
SPACING = (2.5, 0.8, 0.8)
SIGMA = 20.0
"""Noise of the volume, in HU."""


@dataclass(frozen=True)
class Row:
    """One comparison.

    Parameters
    ----------
    name : str
    ours : callable () -> ndarray
    peer_name : str
    peer : callable () -> ndarray
    bar : float
        Peer's core seconds over ours, at least.
    tolerance : float or None
        Largest difference of the two results; None where the methods differ by design, and
        ``note`` says how.
    note : str
    voxels : int
        Of the volume that is worked on; 0 for the whole.
    """

    name: str
    ours: Callable[[], np.ndarray]
    peer_name: str
    peer: Callable[[], np.ndarray]
    bar: float
    tolerance: float | None = 1e-2
    note: str = ""
    voxels: int = 0


def step(array: np.ndarray, name: str, **params: object) -> Callable[[], np.ndarray]:
    """Return a call of one recipe step on a volume, as a worker makes it."""
    affine = np.diag([*SPACING, 1.0])[[2, 1, 0, 3]]
    recipe = fit(parse_steps([{"step": name, **params}]), None)
    image = Image(array, affine)
    return lambda: apply(recipe, image)[0].array


def planes(array: np.ndarray, function: Callable) -> Callable[[], np.ndarray]:
    """Return a call of a function on every slice, as scripts do it."""
    return lambda: np.stack([function(plane) for plane in array])


def itk(array: np.ndarray, function: Callable) -> Callable[[], np.ndarray]:
    """Return a call of a SimpleITK function on a volume."""
    return lambda: SimpleITK.GetArrayFromImage(function(SimpleITK.GetImageFromArray(array)))


def denoise_rows(array: np.ndarray) -> list[Row]:
    """Return the rows of `tasks.imaging.denoise`."""
    real, few = array.astype(np.float32), array[:4].astype(np.float32)
    return [
        Row(
            "median 3x3",
            step(array, "median"),
            "scipy median_filter",
            lambda: ndimage.median_filter(array, (1, 3, 3), mode="nearest"),
            bar=20,
            tolerance=0,
        ),
        Row(
            "median 3x3x3",
            step(array, "median", dimensions=3),
            "scipy median_filter",
            lambda: ndimage.median_filter(array, 3, mode="nearest"),
            bar=5,
            tolerance=0,
        ),
        Row(
            "median 3x3x3",
            step(array, "median", dimensions=3),
            "SimpleITK Median",
            itk(array, lambda image: SimpleITK.Median(image, (1, 1, 1))),
            bar=4,
            tolerance=0,
        ),
        Row(
            "gaussian 2-D",
            step(array, "gaussian", sigma=1.5, unit="voxels"),
            "scipy gaussian_filter",
            lambda: ndimage.gaussian_filter(real, (0, 1.5, 1.5), mode="nearest"),
            bar=3,
        ),
        Row(
            "gaussian 3-D",
            step(array, "gaussian", sigma=1.2, dimensions=3),
            "scipy gaussian_filter",
            lambda: ndimage.gaussian_filter(real, [1.2 / mm for mm in SPACING], mode="nearest"),
            bar=2.5,
        ),
        Row(
            "bilateral 2-D",
            step(few, "bilateral", sigma=1.5, sigma_value=60),
            "skimage denoise_bilateral",
            planes(
                few,
                lambda plane: restoration.denoise_bilateral(
                    plane, 7, sigma_color=60, sigma_spatial=1.5, mode="edge"
                ),
            ),
            bar=5,
            tolerance=None,
            note="square window there, circle here",
            voxels=few.size,
        ),
        Row(
            "bilateral 3-D",
            step(few, "bilateral", sigma=1.0, sigma_value=60, dimensions=3),
            "SimpleITK Bilateral",
            itk(few, lambda image: SimpleITK.Bilateral(image, 1.0, 60.0)),
            bar=10,
            tolerance=None,
            note="ITK looks farther",
            voxels=few.size,
        ),
    ]


def edge_keeping_rows(array: np.ndarray) -> list[Row]:
    """Return the rows of `tasks.imaging.variation` and `nonlocal_means`."""
    few = array[:4].astype(np.float32)
    tv = {"weight": SIGMA, "tolerance": 0, "iterations": 20}
    return [
        Row(
            "total variation 2-D",
            step(few, "total_variation", **tv),
            "skimage denoise_tv_chambolle",
            planes(
                few,
                lambda plane: restoration.denoise_tv_chambolle(plane, SIGMA, 0, 20),
            ),
            bar=1.3,
            voxels=few.size,
        ),
        Row(
            "total variation 3-D",
            step(few, "total_variation", dimensions=3, **tv),
            "skimage denoise_tv_chambolle",
            lambda: restoration.denoise_tv_chambolle(few, SIGMA, 0, 20),
            bar=1.3,
            voxels=few.size,
        ),
        Row(
            "anisotropic diffusion",
            step(few, "anisotropic_diffusion", kappa=60, iterations=5),
            "SimpleITK GradientAnisotropicDiffusion",
            itk(few, lambda image: SimpleITK.GradientAnisotropicDiffusion(image, 0.0625, 1, 1, 5)),
            bar=20,
            tolerance=None,
            note="ITK scales kappa by the image's mean gradient",
            voxels=few.size,
        ),
        Row(
            "non-local means 2-D",
            step(few, "non_local_means", sigma=SIGMA),
            "skimage denoise_nl_means (fast)",
            planes(
                few,
                lambda plane: restoration.denoise_nl_means(plane, 5, 6, 0.8 * SIGMA, sigma=SIGMA),
            ),
            bar=2,
            tolerance=None,
            note="skimage's patch lacks a row and a column",
            voxels=few.size,
        ),
        Row(
            "lee, additive",
            step(few, "lee", kind="additive", noise=SIGMA),
            "scipy wiener",
            planes(few, lambda plane: signal.wiener(plane, 7, noise=SIGMA**2)),
            bar=1.3,
            tolerance=None,
            note="equal but at the border, where scipy sees zeros",
            voxels=few.size,
        ),
    ]


def enhance_rows(array: np.ndarray) -> list[Row]:
    """Return the rows of `tasks.imaging.window`, `enhance`, `bias` and `histogram`."""
    few = array[:4].astype(np.float32)
    positive = np.maximum(array[:16], 1).astype(np.float32)
    positive *= np.linspace(0.7, 1.4, COLUMNS, dtype=np.float32)
    low, high = float(few.min()), float(few.max())

    def n4(image: SimpleITK.Image) -> SimpleITK.Image:
        mask = SimpleITK.OtsuThreshold(image, 0, 1, 200)
        return SimpleITK.N4BiasFieldCorrection(
            SimpleITK.Shrink(image, (2, 2, 1)), SimpleITK.Shrink(mask, (2, 2, 1)), 0.001, [10] * 4
        )

    return [
        Row(
            "window",
            step(array, "window", level=40, width=400),
            "skimage rescale_intensity",
            lambda: exposure.rescale_intensity(
                array.astype(np.float32), (-160.0, 240.0), (0.0, 1.0)
            ),
            bar=0.8,
            tolerance=1e-5,
        ),
        Row(
            "clahe",
            step(few, "clahe"),
            "skimage equalize_adapthist",
            planes(
                few,
                lambda plane: exposure.equalize_adapthist((plane - low) / (high - low), 64),
            ),
            bar=4,
            tolerance=None,
            note="other clip limit, 256 levels both",
            voxels=few.size,
        ),
        Row(
            "unsharp",
            step(few, "unsharp", sigma=1.5),
            "skimage unsharp_mask",
            planes(few, lambda plane: filters.unsharp_mask(plane, 1.5, 1.0, preserve_range=True)),
            bar=3,
            tolerance=None,
            note="equal but at the border",
            voxels=few.size,
        ),
        Row(
            "bias correction",
            step(positive, "bias_correction", iterations=[10] * 4),
            "SimpleITK N4, shrink 2",
            itk(positive, n4),
            bar=3,
            tolerance=None,
            note="shrink 4 here",
            voxels=positive.size,
        ),
    ]


TABLES = (denoise_rows, edge_keeping_rows, enhance_rows)
