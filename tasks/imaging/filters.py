"""Linear filters that several steps build on: separable, in float32, edges repeated.

Edges are repeated (scipy's ``nearest``, OpenCV's ``BORDER_REPLICATE``), so that nothing from
outside the image enters it.  OpenCV filters plane after plane, and along z on the volume seen as
one plane of z rows: equal to scipy's separable filters, and several times as fast.
"""

from collections.abc import Callable

import numpy as np

from tasks.imaging.step import Image, Numbers3

GAUSSIAN_REACH = 4.0
"""A Gaussian is cut off at this many standard deviations, as scipy does: 6e-5 of it is lost."""


def lengths_in_voxels(image: Image, length: float, unit: str, dimensions: int) -> Numbers3:
    """Return a length along (z, y, x) in voxels, 0 along z for a filter of single slices.

    Parameters
    ----------
    image : Image
    length : float
    unit : {"mm", "voxels"}
    dimensions : {2, 3}
    """
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0) if unit == "mm" else np.ones(3)
    z, y, x = (length / spacing).tolist()
    return (z if dimensions == 3 else 0.0, y, x)


def each_plane(array: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Put every plane (y, x) of an array (z, y, x) through a function, in float32."""
    out = np.empty(array.shape, np.float32)
    for index, plane in enumerate(array):
        out[index] = function(np.ascontiguousarray(plane, dtype=np.float32))
    return out


def separable(array: np.ndarray, kernels: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """Correlate with a kernel along each of z, y, x; a kernel of one 1 leaves its axis alone.

    Parameters
    ----------
    array : ndarray (z, y, x)
    kernels : three ndarrays of odd length
        For z, y and x.

    Returns
    -------
    ndarray (z, y, x), float32
    """
    import cv2

    along_z, along_y, along_x = kernels
    edge = cv2.BORDER_REPLICATE
    out = each_plane(
        array, lambda plane: cv2.sepFilter2D(plane, -1, along_x, along_y, borderType=edge)
    )
    if along_z.size > 1:
        flat, one = out.reshape(out.shape[0], -1), np.ones(1)
        out = cv2.sepFilter2D(flat, -1, one, along_z, borderType=edge).reshape(out.shape)
    return out


def gaussian_kernel(sigma: float) -> np.ndarray:
    """Return a sampled Gaussian whose sum is 1, of 2 round(4 sigma) + 1 samples as scipy's."""
    reach = int(GAUSSIAN_REACH * sigma + 0.5)
    if reach == 0:
        return np.ones(1)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return weights / weights.sum()


def gaussian_blur(array: np.ndarray, sigma: Numbers3) -> np.ndarray:
    """Smooth with a Gaussian; equal to scipy's ``gaussian_filter(mode="nearest")``.

    Parameters
    ----------
    array : ndarray (z, y, x)
    sigma : three floats
        Standard deviations along z, y and x in voxels; 0 leaves an axis alone.

    Returns
    -------
    ndarray (z, y, x), float32
    """
    return separable(array, tuple(gaussian_kernel(one) for one in sigma))


def box_mean(array: np.ndarray, size: int, dimensions: int) -> np.ndarray:
    """Return the mean over a box of ``size`` voxels a side, float64 (z, y, x)."""
    import cv2

    edge = cv2.BORDER_REPLICATE
    # float64, since a variance is the small difference of two such means.
    out = np.stack(
        [
            cv2.boxFilter(
                np.ascontiguousarray(plane, np.float64), -1, (size, size), borderType=edge
            )
            for plane in array
        ]
    )
    if dimensions == 3 and out.shape[0] > 1:
        flat = out.reshape(out.shape[0], -1)
        out = cv2.boxFilter(flat, -1, (1, size), borderType=edge).reshape(out.shape)
    return out


def noise_sigma(array: np.ndarray) -> float:
    """Estimate the standard deviation of white noise in an image (z, y, x).

    Immerkaer 1996, Computer Vision and Image Understanding 64: the mean absolute answer to a mask
    that is blind to flat and sloping regions.  Edges raise it a little; flat air at the bottom of
    a CT's range, where noise was cut off, lowers it.
    """
    import cv2

    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    if min(array.shape[1:]) < 3:
        return 0.0
    means = []
    for plane in array:
        found = cv2.filter2D(np.ascontiguousarray(plane, np.float32), cv2.CV_32F, mask)
        means.append(np.abs(found[1:-1, 1:-1]).mean(dtype=np.float64))
    return float(np.sqrt(np.pi / 2) / 6 * np.mean(means))
