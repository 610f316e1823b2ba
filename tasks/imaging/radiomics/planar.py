"""What a slice looks like: oriented gradients (HOG) and local binary patterns (LBP).

IBSI defines neither. HOG follows Dalal and Triggs (2005), LBP the uniform, rotation-invariant
patterns of Ojala et al. (2002), both as scikit-image computes them.  Volumes give the mean (HOG)
or the sum (LBP) over the slices of the region.
"""

import numpy as np

from tasks.errors import BadCase
from tasks.imaging.radiomics.region import Region

ORIENTATIONS = 8
"""Bins of the gradient's direction over 180 degrees."""

NEIGHBOURS = 8
"""Points on a circle of one pixel that a pattern compares with its middle."""

PATTERNS = tuple(f"pattern_{number}" for number in range(NEIGHBOURS + 2))
"""Uniform patterns by their number of brighter points, and at the end all others."""


def hog_names(cells: int) -> tuple[str, ...]:
    """Return the names of `hog`, row by row of the grid of cells."""
    return tuple(
        f"row_{row}_col_{col}_direction_{direction}"
        for row in range(cells)
        for col in range(cells)
        for direction in range(ORIENTATIONS)
    )


def hog(region: Region, cells: int) -> dict[str, float]:
    """Return the gradient directions in a grid of cells over the region's box.

    Parameters
    ----------
    region : Region
        Its box is divided; what the mask leaves out of the box is seen too.
    cells : int
        Cells along rows and along columns.

    Raises
    ------
    BadCase
        ``region_too_small`` when a cell would be smaller than 2 pixels.
    """
    from skimage.feature import hog as gradients

    _, rows, cols = region.array.shape
    height, width = rows // cells, cols // cells
    if min(height, width) < 2:
        detail = f"a box of {rows} x {cols} pixels cannot be cut into {cells} x {cells} cells"
        raise BadCase("region_too_small", detail)
    top, left = (rows - height * cells) // 2, (cols - width * cells) // 2
    window = region.array[:, top : top + height * cells, left : left + width * cells]
    total = np.zeros(cells * cells * ORIENTATIONS)
    for plane in window:
        total += gradients(
            plane.astype(np.float64),
            orientations=ORIENTATIONS,
            pixels_per_cell=(height, width),
            cells_per_block=(1, 1),
        )
    return dict(zip(hog_names(cells), (total / len(window)).tolist(), strict=True))


def lbp(region: Region, levels: np.ndarray) -> dict[str, float]:
    """Return the share of each local binary pattern among the region's pixels.

    Parameters
    ----------
    region : Region
    levels : ndarray (z, y, x), int16
        Grey levels from 1, 0 outside; a pattern at the border of the region sees the outside as
        darker.
    """
    from skimage.feature import local_binary_pattern

    counts = np.zeros(len(PATTERNS))
    for plane, inside in zip(levels, region.counted, strict=True):
        codes = local_binary_pattern(plane, NEIGHBOURS, 1, method="uniform").astype(np.int64)
        counts += np.bincount(codes[inside], minlength=len(PATTERNS))
    return dict(zip(PATTERNS, (counts / counts.sum()).tolist(), strict=True))
