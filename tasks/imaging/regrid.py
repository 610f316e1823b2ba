"""Ask an image for its values on another grid, through a transform of the world."""

from typing import TYPE_CHECKING

import numpy as np

from tasks.imaging.step import Image, Shape

if TYPE_CHECKING:
    from SimpleITK import Image as ItkImage


def to_itk(array: np.ndarray, affine: np.ndarray) -> "ItkImage":
    """Return an ITK image of an array (z, y, x) with its affine, or of (y, x) with a 2-D one.

    Parameters
    ----------
    array : ndarray (z, y, x) or (y, x)
    affine : ndarray (4, 4) or (3, 3)
        Maps the index of the array to millimetres (x, y, z) or (x, y).  It may shear.
    """
    import SimpleITK

    n = array.ndim
    # ITK names x first, for indices as for millimetres.
    columns = affine[:n, :n][:, ::-1]
    spacing = np.linalg.norm(columns, axis=0)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((columns / spacing).ravel().tolist())
    image.SetOrigin(affine[:n, n].tolist())
    return image


def resample_onto(
    moving: Image,
    matrix: np.ndarray,
    shape: Shape,
    affine: np.ndarray,
    *,
    linear: bool = True,
    fill: float | None = None,
) -> Image:
    """Return the image as it looks on another grid.

    Parameters
    ----------
    moving : Image
        Its masks go with it, always by the nearest voxel.
    matrix : ndarray (4, 4)
        Takes a place (LPS mm) of the new grid to a place in ``moving``: `Registration.matrix`, or
        its inverse to bring something back.
    shape, affine : tuple of int (z, y, x), ndarray (4, 4)
        The new grid.
    linear : bool
        Trilinear in float32, edges repeated for half a voxel; else the nearest voxel in its own
        type.
    fill : float, optional
        Outside of ``moving``; its lowest value unless said.  Masks get 0.

    Returns
    -------
    Image
        On the new grid, with the facts of ``moving``.
    """
    array = moving.array.astype(np.float32) if linear else moving.array
    outside = float(moving.array.min()) if fill is None else fill
    masks = {
        name: _asked(mask, moving.affine, matrix, shape, affine, linear=False, fill=0)
        for name, mask in moving.masks.items()
    }
    values = _asked(array, moving.affine, matrix, shape, affine, linear=linear, fill=outside)
    return Image(values, np.array(affine, dtype=np.float64), masks, moving.facts)


def _asked(
    array: np.ndarray,
    source: np.ndarray,
    matrix: np.ndarray,
    shape: Shape,
    affine: np.ndarray,
    *,
    linear: bool,
    fill: float,
) -> np.ndarray:
    import SimpleITK

    matrix = np.asarray(matrix, dtype=np.float64)
    resampler = SimpleITK.ResampleImageFilter()
    resampler.SetNumberOfThreads(1)
    resampler.SetReferenceImage(to_itk(np.empty(shape, np.uint8), affine))
    transform = SimpleITK.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    resampler.SetTransform(transform)
    resampler.SetInterpolator(SimpleITK.sitkLinear if linear else SimpleITK.sitkNearestNeighbor)
    resampler.SetDefaultPixelValue(float(fill))
    stored = array.view(np.uint8) if array.dtype == np.bool_ else array
    out = SimpleITK.GetArrayFromImage(resampler.Execute(to_itk(stored, source)))
    return out.astype(array.dtype, copy=False)
