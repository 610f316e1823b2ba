"""What a display shutter hides of a radiograph (PS3.3 C.7.6.11): the collimated border."""

import numpy as np
from pydicom import Dataset

from tasks.errors import BadCase

MAX_VERTICES = 10_000
"""Corners of a polygonal shutter; a hostile one would be tested for minutes."""


def shutter_mask(dataset: Dataset, shape: tuple[int, int]) -> np.ndarray | None:
    """Return where the image is hidden, None without a shutter.

    Parameters
    ----------
    dataset : pydicom.Dataset
    shape : tuple of int
        Rows and columns.

    Returns
    -------
    array of bool, shape (rows, columns), or None
        A shutter of several shapes hides what any of them hides.

    Raises
    ------
    BadCase
        ``invalid_shutter`` when a shape lacks its numbers.

    Notes
    -----
    Rows and columns of a shutter count from 1, and its edges belong to the hidden part only
    beyond them. A BITMAP shutter is an overlay and is not applied.
    """
    value = dataset.get("ShutterShape") or ()
    shapes = {str(v).upper() for v in ([value] if isinstance(value, str) else value)}
    known = [shape for shape in _SHAPES if shape in shapes]
    if not known:
        return None
    rows, columns = np.ogrid[1 : shape[0] + 1, 1 : shape[1] + 1]
    hidden = np.zeros(shape, dtype=bool)
    for name in known:
        try:
            hidden |= _SHAPES[name](dataset, rows, columns)
        except (TypeError, ValueError, AttributeError) as error:
            raise BadCase(
                "invalid_shutter", f"{name} shutter without its numbers ({type(error).__name__})"
            ) from None
    return hidden


def _rectangular(dataset: Dataset, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    left, right = int(dataset.ShutterLeftVerticalEdge), int(dataset.ShutterRightVerticalEdge)
    top, bottom = int(dataset.ShutterUpperHorizontalEdge), int(dataset.ShutterLowerHorizontalEdge)
    return (rows < top) | (rows > bottom) | (columns < left) | (columns > right)


def _circular(dataset: Dataset, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    row, column = (int(v) for v in dataset.CenterOfCircularShutter)
    return (rows - row) ** 2 + (columns - column) ** 2 > int(dataset.RadiusOfCircularShutter) ** 2


def _polygonal(dataset: Dataset, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    from skimage.draw import polygon2mask

    corners = np.array([int(v) for v in dataset.VerticesOfThePolygonalShutter]).reshape(-1, 2)
    if not 3 <= len(corners) <= MAX_VERTICES:
        raise ValueError("a polygon needs three corners")
    return ~polygon2mask((rows.shape[0], columns.shape[1]), corners - 1)


_SHAPES = {"RECTANGULAR": _rectangular, "CIRCULAR": _circular, "POLYGONAL": _polygonal}
