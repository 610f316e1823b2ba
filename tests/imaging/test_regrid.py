import numpy as np
import pytest
from scipy.ndimage import affine_transform

from tasks.imaging.regrid import resample_onto
from tasks.imaging.step import Image
from tests.imaging.heads import centred, turned

FLOAT32_SUMS = 1e-4
"""Largest difference for values below 100: ITK keeps places in float64 and values in float32."""

SHEARED = np.eye(4)
SHEARED[1, 2] = 0.2


def source(affine=None):
    array = np.random.default_rng(0).uniform(0, 100, (11, 14, 13)).astype(np.float32)
    return Image(array, centred((11, 14, 13), (2.5, 1.2, 1.4)) if affine is None else affine)


@pytest.mark.parametrize("affine", [None, SHEARED @ centred((11, 14, 13), (2.5, 1.2, 1.4))])
@pytest.mark.parametrize(("linear", "order"), [(True, 1), (False, 0)])
def test_values_are_those_of_scipy_on_any_grid_even_a_sheared_one(affine, linear, order):
    image, motion = source(affine), turned((10, -20, 30), (1.5, -2.0, 0.7))
    shape, grid = (15, 12, 10), turned((3, 4, 5), (0, 0, 1)) @ centred((15, 12, 10), (1, 1, 1.1))
    out = resample_onto(image, motion, shape, grid, linear=linear, fill=-1)
    index = np.linalg.inv(image.affine) @ motion @ grid
    peer = affine_transform(
        image.array, index[:3, :3], index[:3, 3], shape, order=order, mode="nearest"
    )
    places = np.moveaxis(np.indices(shape), 0, -1) @ index[:3, :3].T + index[:3, 3]
    inside = ((places > -0.5) & (places < np.array(image.array.shape) - 0.5)).all(axis=-1)
    assert 0.3 < inside.mean() <= 1
    np.testing.assert_allclose(out.array[inside], peer[inside], rtol=0, atol=FLOAT32_SUMS)
    assert (out.array[~inside] == -1).all()
    np.testing.assert_array_equal(out.affine, grid)


def test_the_same_grid_gives_the_same_voxels_and_types():
    image = source()
    counts = Image(image.array.astype(np.int16), image.affine, facts={"modality": "MR"})
    for linear, dtype in ((True, np.float32), (False, np.int16)):
        out = resample_onto(counts, np.eye(4), counts.array.shape, counts.affine, linear=linear)
        assert out.array.dtype == dtype
        np.testing.assert_allclose(out.array, counts.array, rtol=0, atol=FLOAT32_SUMS)
        assert out.facts == {"modality": "MR"}


def test_masks_stay_masks_and_outside_is_the_lowest_value_unless_said():
    image = source()
    mask = (image.array > 50).astype(np.uint8) * 3
    marked = Image(image.array, image.affine, {"lesion": mask})
    far = turned((0, 0, 0), (1000, 0, 0))
    out = resample_onto(marked, far, (2, 3, 4), image.affine)
    assert (out.array == image.array.min()).all()
    assert not out.masks["lesion"].any()
    near = resample_onto(marked, turned((0, 0, 9), (0, 0, 0)), (9, 9, 9), image.affine)
    assert set(np.unique(near.masks["lesion"])) == {0, 3}


def test_a_single_slice_and_a_boolean_mask_can_be_asked():
    image = Image(np.eye(6, dtype=bool)[None], centred((1, 6, 6), (1, 2, 2)))
    out = resample_onto(image, np.eye(4), (1, 6, 6), image.affine, linear=False)
    assert out.array.dtype == bool
    np.testing.assert_array_equal(out.array, image.array)
