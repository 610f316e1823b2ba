import numpy as np
import pytest
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

from tasks.errors import BadCase
from tasks.imaging.masks.watershed import split
from tasks.imaging.step import Image
from tests.imaging.masks.at_hand import run
from tests.imaging.masks.phantoms import balls

FILLED = ({"step": "fill", "mask": "balls"}, {"step": "watershed", "mask": "balls"})


def test_two_balls_that_touch_are_split_and_a_third_stays_whole():
    image = balls()
    out = run(image, *FILLED)
    parts, mask = out.masks["parts"], out.masks["balls"]
    assert np.unique(parts).tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(parts != 0, mask != 0)
    # Every ball's middle, at x = -14, 4 and 23 mm, has a number of its own.
    middles = [parts[10, 20, 15], parts[10, 20, 33], parts[10, 28, 52]]
    assert sorted(middles) == [1, 2, 3]
    for number in (1, 2, 3):
        assert ndimage.label(parts == number)[1] == 1
    np.testing.assert_array_equal(out.array, image.array)


def usual_split(mask, spacing, window):
    depth = ndimage.distance_transform_edt(mask, sampling=spacing)
    peaks = peak_local_max(
        depth, footprint=np.ones(window), labels=mask.astype(int), exclude_border=False
    )
    marks = np.zeros(mask.shape, bool)
    marks[tuple(peaks.T)] = True
    return watershed(-depth, ndimage.label(marks)[0], mask=mask)


def test_splitting_equals_the_usual_chain_of_scipy_and_scikit_image():
    mask = ndimage.binary_fill_holes(balls().masks["balls"])
    peer = usual_split(mask, (2.0, 1.0, 1.0), (5, 11, 11))
    mine = split(mask, (2.0, 1.0, 1.0), 5.0)
    pairs = np.unique(np.stack([mine[mask], peer[mask]]), axis=1)
    assert pairs.shape[1] == mine.max() == peer.max() == 3


def test_splitting_equals_the_usual_chain_on_slices_far_apart():
    noise = np.random.default_rng(4).normal(size=(16, 60, 60))
    mask = ndimage.gaussian_filter(noise, (1.0, 3.0, 3.0)) > 0.02
    mask &= np.pad(np.ones((14, 58, 58), bool), 1)
    peer = usual_split(mask, (3.0, 1.0, 1.0), (3, 9, 9))
    mine = split(mask, (3.0, 1.0, 1.0), 4.0)
    table = np.zeros((mine.max() + 1, peer.max() + 1), int)
    np.add.at(table, (mine[mask], peer[mask]), 1)
    assert mine.max() > 20
    # Where distances tie to the last bit, a border may run one voxel beside.
    assert table.max(axis=1).sum() > 0.98 * mask.sum()
    assert table.max(axis=0).sum() > 0.98 * mask.sum()


def test_how_far_middles_are_apart_is_in_millimetres():
    image = balls()
    far = run(image, FILLED[0], {**FILLED[1], "apart_mm": 25})
    assert far.masks["parts"].max() < 3
    mask = ndimage.binary_fill_holes(image.masks["balls"]).astype(np.uint8)
    double = image.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    twice = run(Image(image.array, double, {"balls": mask}), {**FILLED[1], "apart_mm": 10})
    np.testing.assert_array_equal(twice.masks["parts"], run(image, *FILLED).masks["parts"])


def test_an_empty_mask_and_too_many_parts_are_bad_cases():
    image = balls()
    nothing = Image(image.array, image.affine, {"balls": np.zeros(image.array.shape, np.uint8)})
    with pytest.raises(BadCase, match="empty_mask"):
        run(nothing, FILLED[1])
    dots = np.zeros((4, 80, 80), np.uint8)
    dots[::2, ::4, ::4] = 1
    many = Image(dots, np.eye(4), {"balls": dots})
    with pytest.raises(BadCase, match="falls into 800 parts and 255 fit"):
        run(many, {**FILLED[1], "apart_mm": 0.5})
