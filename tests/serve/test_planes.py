"""A mask is shown in three planes, the right way up, however the series was taken."""

import numpy as np
import pytest
from PIL import Image

from tasks.serve.overlays import LONG_SIDE
from tasks.serve.planes import mask_png

AXIAL = np.array([[0, 0, 1.0, 0], [0, 1.0, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])


def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


def head():
    """A volume on the axial grid, slices of 2 mm; the mark lies high up and in front."""
    mask = np.zeros((16, 32, 32), np.uint8)
    mask[12:15, 2:8, 12:20] = 1
    return np.full(mask.shape, 50, np.int16), mask


def marked(panel):
    """Where the colour of the mask is, as shares of height and width."""
    rows, columns = np.nonzero(np.ptp(panel, axis=2) > 20)
    return rows.mean() / len(panel), columns.mean() / panel.shape[1]


def test_three_planes_show_the_head_up_and_the_nose_forward(tmp_path):
    image, mask = head()
    got = read(mask_png(tmp_path / "a.png", image, mask, AXIAL))
    assert got.shape == (LONG_SIDE, 3 * LONG_SIDE, 3)
    axial, coronal, sagittal = np.split(got, 3, axis=1)
    assert marked(axial) == pytest.approx((5 / 32, 0.5), abs=0.02)
    assert marked(coronal) == pytest.approx((2.5 / 16, 0.5), abs=0.02)
    assert marked(sagittal) == pytest.approx((2.5 / 16, 5 / 32), abs=0.02)


def test_a_sagittal_series_gives_the_same_picture(tmp_path):
    image, mask = head()
    one = read(mask_png(tmp_path / "a.png", image, mask, AXIAL))
    # The same voxels, indexed to the left, to the feet and to the back.
    turned = [np.ascontiguousarray(a[::-1].transpose(2, 0, 1)) for a in (image, mask)]
    affine = np.array([[1.0, 0, 0, 0], [0, 0, 1.0, 0], [0, -2.0, 0, 30], [0, 0, 0, 1]])
    np.testing.assert_array_equal(read(mask_png(tmp_path / "b.png", *turned, affine)), one)


def test_the_patients_right_is_at_the_left_and_says_so(tmp_path):
    image, mask = head()
    got = read(mask_png(tmp_path / "a.png", image * 0, mask * 0, AXIAL))
    letters = [panel[:, :24].max() for panel in np.split(got, 3, axis=1)]
    assert letters == [255] * 3
    assert [panel[:, 24:].max() for panel in np.split(got, 3, axis=1)] == [0] * 3
    # Of what lies in no patient nobody knows where the right is.
    flat = read(mask_png(tmp_path / "b.png", image * 0, mask * 0, AXIAL, placed=False))
    assert flat.shape == (LONG_SIDE, LONG_SIDE, 3)
    assert flat.max() == 0


def test_the_slices_are_those_of_the_truth_and_flat_images_have_one(tmp_path):
    image, mask = head()
    nothing = np.zeros_like(mask)
    got = read(mask_png(tmp_path / "a.png", image, mask, AXIAL, like=nothing))
    assert not (np.ptp(got, axis=2) > 20)[:, :LONG_SIDE].any()  # the middle slice has no mark
    flat = read(mask_png(tmp_path / "b.png", image[12:13], mask[12:13], AXIAL))
    assert flat.shape == (LONG_SIDE, LONG_SIDE, 3)
