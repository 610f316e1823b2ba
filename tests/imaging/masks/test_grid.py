import numpy as np
import pytest

from tasks.errors import BadCase
from tasks.imaging.masks.grid import (
    axial_spacing,
    box_of,
    from_axial,
    need_modality,
    side_axis,
    spacing_mm,
    to_axial,
    voxel_ml,
)
from tasks.imaging.step import Image, need_mask
from tests.imaging.masks.phantoms import axial_affine, chest


def turned(image: Image, axes: tuple[int, int, int], flips: tuple[int, int, int]) -> Image:
    """Return the same body as if it had been acquired along other axes."""
    slices = tuple(slice(None, None, flip) for flip in flips)
    array = np.ascontiguousarray(image.array.transpose(axes)[slices])
    step = np.zeros((4, 4))
    step[3, 3] = 1
    for new, (old, flip) in enumerate(zip(axes, flips, strict=True)):
        step[old, new] = flip
        step[old, 3] = array.shape[new] - 1 if flip < 0 else 0
    return Image(array, image.affine @ step, image.masks, image.facts)


TURNS = [
    ((0, 1, 2), (1, 1, 1)),
    ((0, 1, 2), (-1, 1, -1)),
    ((1, 0, 2), (1, -1, 1)),
    ((2, 0, 1), (1, -1, 1)),
]


@pytest.mark.parametrize(("axes", "flips"), TURNS)
def test_the_axial_view_runs_from_head_to_feet_whatever_plane_was_acquired(axes, flips):
    image = chest(shape=(12, 20, 30))[0]
    other = turned(image, axes, flips)
    view = to_axial(other.array, other.affine)
    assert view.shape[0] == 12
    assert axial_spacing(other.affine)[0] == pytest.approx(5)
    # The phantom's bowel gas and table lie where they lay.
    heights = np.sort(np.linspace(0, 1, 12))[::-1]
    marked = turned(
        Image(np.zeros((12, 20, 30)) + np.linspace(0, 1, 12)[:, None, None], image.affine),
        axes,
        flips,
    )
    np.testing.assert_allclose(to_axial(marked.array, marked.affine).mean(axis=(1, 2)), heights)
    np.testing.assert_array_equal(from_axial(view, other.affine), other.array)


def test_sizes_come_from_the_affine():
    affine = axial_affine((5.0, 0.7, 0.6))
    assert spacing_mm(affine) == pytest.approx((5, 0.7, 0.6))
    assert voxel_ml(affine) == pytest.approx(0.0021)
    assert side_axis(affine) == 2
    assert side_axis(affine[:, [0, 2, 1, 3]]) == 1


def test_a_box_holds_the_mask_and_stops_at_the_edge():
    mask = np.zeros((5, 6, 7), bool)
    assert box_of(mask) is None
    mask[1:3, 2, 4:6] = True
    assert box_of(mask) == (slice(1, 3), slice(2, 3), slice(4, 6))
    assert box_of(mask, (2, 1, 3)) == (slice(0, 5), slice(1, 4), slice(1, 7))


def test_another_modality_and_a_missing_mask_are_bad_cases():
    image = Image(
        np.zeros((1, 2, 2)), np.eye(4), {"lung": np.zeros((1, 2, 2), np.uint8)}, {"modality": "MR"}
    )
    with pytest.raises(
        BadCase, match="wrong_modality: step bone is made for CT and the image is MR"
    ):
        need_modality(image, "bone", "CT")
    need_modality(Image(image.array, image.affine), "bone", "CT")
    with pytest.raises(BadCase, match="made a mask 'lungs'; there are: lung"):
        need_mask(image, "lungs")
