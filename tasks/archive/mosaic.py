"""Siemens mosaics: the slices of a volume laid out as tiles of one picture.

The private CSA header says how many tiles hold slices and which way they run; Image Position is
that of a picture as large as the mosaic round the same centre, so it is moved to the tile's own
corner. The arithmetic is that of nibabel's documentation (doc/theory, "Siemens mosaic").
"""

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from pydicom import Dataset

from tasks.archive.frames import Frame, Planes, image_type, number, numbers, pixel_spacing, varying
from tasks.errors import BadCase

MAX_TILES = 1024
"""More slices than this in one mosaic is a damaged header: 32 x 32 tiles of 64 px are 2048 px."""

NORMAL_TOLERANCE = 1e-3
"""The CSA slice normal must be row x column or its opposite: cosine within this of one."""


def mosaic_frames(dataset: Dataset, name: str = "") -> list[Frame]:
    """Return the slices of a mosaic, each with its own position.

    Raises
    ------
    BadCase
        ``mosaic_header`` when the CSA header was removed, or does not fit the picture.
    """
    csa = _csa(dataset)
    count = int(_first(csa, "NumberOfImagesInMosaic") or 0)
    if not 1 <= count <= MAX_TILES:
        raise BadCase("mosaic_header", f"a mosaic of {count} slices; 1 to {MAX_TILES} can be read")
    tiles = math.isqrt(count - 1) + 1
    whole = (int(dataset.Rows), int(dataset.Columns))
    if whole[0] % tiles or whole[1] % tiles:
        raise BadCase(
            "mosaic_header", f"a picture of {whole} pixels is not {tiles} x {tiles} tiles"
        )
    shape = (whole[0] // tiles, whole[1] // tiles)
    spacing, fact = pixel_spacing(dataset)
    corner, step = _place(dataset, csa, whole, shape, spacing)
    plain = Frame(
        source=Planes(dataset, name, tiles),
        index=0,
        position=tuple(corner),
        orientation=numbers(dataset.ImageOrientationPatient),
        spacing=spacing,
        spacing_fact=fact,
        shape=shape,
        image_type=image_type(dataset),
        varies=_varying(dataset, csa),
    )
    return [
        replace(plain, index=k, position=tuple(float(v) for v in corner + k * step))
        for k in range(count)
    ]


def _csa(dataset: Dataset) -> dict[str, Any]:
    with warnings.catch_warnings():
        # nibabel calls its reader of vendors' headers experimental at import.
        warnings.simplefilter("ignore")
        from nibabel.nicom import csareader

        try:
            found = csareader.get_csa_header(dataset, "image")
        except Exception as error:  # damaged private bytes fail in many ways
            raise BadCase(
                "mosaic_header", f"its CSA header cannot be read ({type(error).__name__})"
            ) from None
    if found is None:
        raise BadCase(
            "mosaic_header",
            "the private header (0029,1010) that places the tiles was removed: keep it in transfer",
        )
    return found["tags"]


def _first(csa: dict[str, Any], name: str) -> Any:
    items = csa.get(name, {}).get("items") or [None]
    return items[0]


def _place(
    dataset: Dataset,
    csa: dict[str, Any],
    whole: tuple[int, int],
    shape: tuple[int, int],
    spacing: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the position of the first slice and the step to the next, LPS mm."""
    position = np.array(numbers(dataset.get("ImagePositionPatient")))
    cosines = np.array(numbers(dataset.get("ImageOrientationPatient")))
    between = number(dataset.get("SpacingBetweenSlices"))
    normal = np.array(numbers(csa.get("SliceNormalVector", {}).get("items")))
    if len(position) != 3 or len(cosines) != 6 or len(normal) != 3:
        raise BadCase("missing_position", "a mosaic without position, orientation or slice normal")
    if not between or between <= 0:
        # Slice thickness would be a guess: it leaves out the gap between slices.
        raise BadCase("mosaic_header", "a mosaic without Spacing Between Slices")
    row, column = cosines[:3], cosines[3:]
    if abs(abs(normal @ np.cross(row, column)) - 1) > NORMAL_TOLERANCE:
        raise BadCase("mosaic_header", "its slice normal is not square to its rows and columns")
    down, right = ((whole[k] - shape[k]) / 2 * spacing[k] for k in (0, 1))
    return position + right * row + down * column, between * normal


def _varying(dataset: Dataset, csa: dict[str, Any]) -> dict[str, Any]:
    found = varying(dataset)
    if found.get("b") is None:
        found["b"] = number(_first(csa, "B_value"))
        way = numbers(csa.get("DiffusionGradientDirection", {}).get("items"))
        found["direction"] = tuple(round(v, 4) for v in way) or None
    return found
