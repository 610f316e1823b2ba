"""Pictures of masks in volumes: the axial, coronal and sagittal slice with the most of them."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.imaging.reorient import REORIENT
from tasks.imaging.step import Image
from tasks.learn.dataset import spacing_of
from tasks.serve.overlays import most_of, overlay, overlay_png

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SHOWN_AS = "IPL"
"""Where rows and columns rise to: down to the feet, back, and to the patient's left, so that the
patient is seen from the feet, from the front and from the left, as radiologists are used to."""

AT_THE_LEFT = ("R", "R", "A")
"""What lies at the left of the axial, coronal and sagittal plane: the patient's right, or front."""

LETTER = 16
"""Pixels of these letters."""

LEAST_SIDE = 8
"""Voxels of the shortest axis from which a volume is worth looking at from three sides."""


def mask_png(
    path: str | Path,
    image: np.ndarray,
    mask: np.ndarray,
    affine: np.ndarray,
    like: np.ndarray | None = None,
    *,
    placed: bool = True,
) -> Path:
    """Write a picture of a mask over its image: three planes, of a flat image its one slice.

    Parameters
    ----------
    path : path
    image : array (z, y, x)
    mask : integer array (z, y, x)
    affine : array (4, 4)
        Index (z, y, x) to LPS mm.
    like : integer array (z, y, x), optional
        Mask whose fullest slices are shown; by default the one that is drawn.
    placed : bool
        Whether the image lies in the patient: else nobody knows what its planes would be.
    """
    like = mask if like is None else like
    if min(image.shape) < LEAST_SIDE or not placed:
        at = most_of(like)
        return overlay_png(path, image[at], mask=mask[at])
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    side_by_side(_planes(image, mask, affine, like)).save(path)
    return path


def _planes(
    image: np.ndarray, mask: np.ndarray, affine: np.ndarray, like: np.ndarray
) -> list["Picture"]:
    how = REORIENT.parameters(orientation=SHOWN_AS)
    turned = [REORIENT.apply(Image(one, affine), how)[0] for one in (image, mask, like)]
    grey, drawn, place = (one.array for one in turned)
    spacing = spacing_of(turned[0].affine)
    pictures = []
    for axis in range(3):
        at = most_of(np.moveaxis(place, axis, 0))
        sides = [mm for other, mm in enumerate(spacing) if other != axis]
        one = overlay(grey.take(at, axis), mask=drawn.take(at, axis), spacing=sides)
        pictures.append(lettered(one, axis))
    return pictures


def lettered(picture: "Picture", axis: int) -> "Picture":
    """Write at the left of a plane what lies there; axis 0 is axial, 1 coronal, 2 sagittal."""
    from PIL import ImageDraw, ImageFont

    ImageDraw.Draw(picture).text(
        (4, picture.height / 2),
        AT_THE_LEFT[axis],
        fill=(255, 255, 255),
        font=ImageFont.load_default(LETTER),
        anchor="lm",
        stroke_width=1,
        stroke_fill=(0, 0, 0),
    )
    return picture


def side_by_side(pictures: list["Picture"]) -> "Picture":
    """Return pictures in a row on black, their middles on one height."""
    from PIL import Image as Pictures

    height = max(one.height for one in pictures)
    whole = Pictures.new("RGB", (sum(one.width for one in pictures), height))
    left = 0
    for one in pictures:
        whole.paste(one, (left, (height - one.height) // 2))
        left += one.width
    return whole


def stacked(pictures: list["Picture"]) -> "Picture":
    """Return pictures one below the other on black, at the left."""
    from PIL import Image as Pictures

    width = max(one.width for one in pictures)
    whole = Pictures.new("RGB", (width, sum(one.height for one in pictures)))
    top = 0
    for one in pictures:
        whole.paste(one, (0, top))
        top += one.height
    return whole
