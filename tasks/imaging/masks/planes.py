"""Binary morphology in the planes of a stack, with discs whose radius is in millimetres.

Plane by plane, because slices of a hospital are 1 to 7 mm apart: a ball of 3 mm would be a disc in
one study and a sphere in the next.
"""

import numpy as np


def disc(radius_mm: float, spacing: tuple[float, float]) -> np.ndarray:
    """Return the pixels whose centres lie within a radius of the middle one.

    Parameters
    ----------
    radius_mm : float
    spacing : tuple of float
        Of the plane, (y, x) in mm; pixels need not be square.

    Returns
    -------
    ndarray (odd, odd), uint8
    """
    reach = [int(radius_mm / step) for step in spacing]
    y, x = (np.arange(-n, n + 1) * step for n, step in zip(reach, spacing, strict=True))
    # A hair over the radius, so that 3 pixels of 0.7 mm count as 2.1 mm.
    return (y[:, None] ** 2 + x[None] ** 2 <= (radius_mm * (1 + 1e-9)) ** 2).astype(np.uint8)


def erode(mask: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Erode every plane; what lies beyond the edge of the image does not count."""
    import cv2

    return _each(mask, lambda plane: cv2.erode(plane, kernel), kernel)


def dilate(mask: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Dilate every plane."""
    import cv2

    return _each(mask, lambda plane: cv2.dilate(plane, kernel), kernel)


def close(mask: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Close every plane: gaps narrower than the disc are filled, and nothing is taken away."""
    return erode(dilate(mask, kernel), kernel)


def _each(mask: np.ndarray, change, kernel: np.ndarray) -> np.ndarray:
    if kernel.size == 1:
        return mask
    out = np.zeros(mask.shape, np.uint8)
    for index, plane in enumerate(mask):
        if plane.any():
            out[index] = change(np.ascontiguousarray(plane))
    return out


def fill(mask: np.ndarray) -> np.ndarray:
    """Fill, in every plane, background that no path of 4-neighbours joins to the plane's edge.

    Equal to `scipy.ndimage.binary_fill_holes` of each plane; one flood from outside is faster.
    """
    import cv2

    _, rows, columns = mask.shape
    out = np.zeros(mask.shape, np.uint8)
    # A frame of background lets one flood reach every edge.
    framed = np.zeros((rows + 2, columns + 2), np.uint8)
    for index, plane in enumerate(mask):
        if plane.any():
            framed[:] = 0
            framed[1:-1, 1:-1] = plane
            cv2.floodFill(framed, None, (0, 0), 2)
            np.not_equal(framed[1:-1, 1:-1], 2, out=out[index].view(bool))
    return out


def fill_small(mask: np.ndarray, largest_mm2: float, spacing: tuple[float, float]) -> np.ndarray:
    """Fill only holes of at most this area: marrow, and not the brain in its skull."""
    import cv2

    holes = fill(mask) - mask
    most = largest_mm2 / (spacing[0] * spacing[1])
    out = mask.copy()
    for index, plane in enumerate(holes):
        if plane.any():
            _, labels, stats, _ = cv2.connectedComponentsWithStats(plane, connectivity=4)
            small = stats[:, cv2.CC_STAT_AREA] <= most
            small[0] = False
            out[index] |= small[labels].view(np.uint8)
    return out
