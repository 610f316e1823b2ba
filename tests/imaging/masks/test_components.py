import numpy as np
import pytest
from pydantic import ValidationError
from scipy import ndimage

from tasks.errors import BadCase
from tasks.imaging.masks import components
from tasks.imaging.step import Image
from tasks.imaging.steps import parse_steps
from tests.imaging.masks.at_hand import run
from tests.imaging.masks.phantoms import balls


def noise(seed=0, shape=(12, 30, 40)):
    return np.random.default_rng(seed).random(shape) < 0.35


def test_components_and_their_sizes_equal_scipy():
    mask = noise()
    labels, sizes = components.label(mask)
    peer, count = ndimage.label(mask)
    assert sizes.size == count + 1
    np.testing.assert_array_equal(np.sort(sizes[1:]), np.sort(np.bincount(peer.ravel())[1:]))
    # The same parts, whatever their numbers.
    assert len(np.unique(labels[mask].astype(np.int64) * (count + 1) + peer[mask])) == count


@pytest.mark.parametrize("count", [1, 2, 5, 250])
def test_the_largest_components_equal_those_of_scipy(count):
    mask = noise(1)
    peer, found = ndimage.label(mask)
    sizes = np.bincount(peer.ravel())
    sizes[0] = 0
    # Equal sizes are taken in the order of the scan, as scipy numbers them.
    keep = np.argsort(-sizes, kind="stable")[: min(count, found)]
    np.testing.assert_array_equal(components.largest(mask, count), np.isin(peer, keep))


def test_an_empty_mask_has_no_largest_component():
    assert not components.largest(np.zeros((2, 3, 4), bool)).any()
    assert not components.largest(np.zeros((2, 3, 4), bool), 3).any()


@pytest.mark.parametrize("seed", range(20))
def test_filling_in_three_dimensions_equals_scipy(seed):
    mask = np.random.default_rng(seed).random((12, 30, 40)) < 0.8
    before = mask.copy()
    filled = components.fill(mask)
    np.testing.assert_array_equal(filled, ndimage.binary_fill_holes(mask))
    assert filled.sum() > mask.sum()
    np.testing.assert_array_equal(mask, before)


def test_the_fill_step_closes_a_cavity_and_leaves_the_voxels_alone():
    image = balls()
    out = run(image, {"step": "fill", "mask": "balls"})
    cavity = (out.masks["balls"] == 1) & (image.masks["balls"] == 0)
    assert cavity.any()
    assert image.masks["balls"][10, 20, 15] == 0
    assert out.masks["balls"][10, 20, 15] == 1
    np.testing.assert_array_equal(out.array, image.array)
    by_slice = run(image, {"step": "fill", "mask": "balls", "by": "slice", "name": "other"})
    assert by_slice.masks.keys() == {"balls", "other"}


def test_parts_are_chosen_from_a_mask_or_by_a_threshold():
    image = balls()
    one = run(image, {"step": "largest_components", "mask": "balls"}).masks["largest"]
    two = run(image, {"step": "largest_components", "threshold": 100, "count": 2}).masks["largest"]
    np.testing.assert_array_equal(two, image.masks["balls"])
    assert 0 < one.sum() < two.sum()
    with pytest.raises(BadCase, match="empty_mask"):
        run(image, {"step": "largest_components", "threshold": 1000})
    for wrong in ({}, {"mask": "balls", "threshold": 1.0}):
        with pytest.raises(ValidationError, match="give either mask or threshold"):
            parse_steps([{"step": "largest_components", **wrong}])


def test_a_mask_that_nobody_made_is_a_bad_case_and_a_strange_name_is_refused():
    with pytest.raises(BadCase, match="no_such_mask"):
        run(Image(np.zeros((1, 4, 4)), np.eye(4)), {"step": "fill", "mask": "lung"})
    with pytest.raises(ValidationError, match="pattern"):
        parse_steps([{"step": "fill", "mask": "../lung"}])
