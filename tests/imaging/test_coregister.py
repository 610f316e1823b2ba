import pickle

import numpy as np
import pytest

from tasks.errors import BadCase
from tasks.imaging.coregister import bring_back, coregister
from tasks.imaging.step import Image
from tests.imaging.heads import T1, T2, TUMOUR, centred, labels, scan, turned

T1_GRID = (26, 60, 52), (6.0, 2.8, 2.8)
T2_GRID = (40, 64, 60), (4.0, 2.6, 2.6)
MOVED = turned((0, 3, 4), (4, -3, 2))


@pytest.fixture(scope="module")
def study():
    """A T1, and a T2 after the head moved, with a mask of the tumour drawn on it."""
    t2 = scan(T2_GRID[0], centred(*T2_GRID), MOVED, T2, seed=1)
    tumour = (labels(T2_GRID[0], t2.affine, MOVED) == TUMOUR).astype(np.uint8)
    return {
        "t1": scan(T1_GRID[0], centred(*T1_GRID), greys=T1),
        "t2": Image(t2.array, t2.affine, {"tumour": tumour}, {"modality": "MR"}),
    }


@pytest.fixture(scope="module")
def found(study):
    return coregister(study, "t1")


def dice(first, second):
    return 2 * np.sum((first > 0) & (second > 0)) / (np.sum(first > 0) + np.sum(second > 0))


def test_all_series_come_to_the_grid_of_the_reference(study, found):
    assert list(found.images) == ["t1", "t2"]
    assert found.images["t1"] is study["t1"]
    moved = found.images["t2"]
    assert moved.array.shape == study["t1"].array.shape
    np.testing.assert_array_equal(moved.affine, study["t1"].affine)
    assert (moved.array.dtype, moved.facts) == (np.float32, {"modality": "MR"})
    assert found.registrations.keys() == {"t2"}
    assert found.registrations["t2"].quality > 0.1


def test_the_greys_and_the_mask_stand_where_the_reference_has_that_tissue(study, found):
    truth = labels(T1_GRID[0], study["t1"].affine, np.eye(4))
    moved, seen = found.images["t2"], found.images["t2"].masks["seen"] > 0
    assert seen.mean() > 0.7
    away = np.median(np.abs(moved.array - T2[truth])[seen])
    still = scan(T1_GRID[0], study["t1"].affine, MOVED, T2, seed=2)
    assert away < 0.5 * np.mean(np.abs(still.array - T2[truth])[seen])
    assert dice(moved.masks["tumour"], truth == TUMOUR) > 0.7


def test_what_is_predicted_on_the_common_grid_comes_back_to_each_series(study, found):
    truth = labels(T1_GRID[0], study["t1"].affine, np.eye(4))
    prediction = (truth == TUMOUR).astype(np.uint8) * 2
    back = bring_back(found, "t2", prediction)
    assert (back.shape, back.dtype) == (study["t2"].array.shape, np.uint8)
    assert set(np.unique(back)) == {0, 2}
    assert dice(back, study["t2"].masks["tumour"]) > 0.7
    share = bring_back(found, "t2", prediction / np.float32(2), linear=True)
    assert (share.dtype, share.min() >= 0, share.max() <= 1) == (np.float32, True, True)
    assert bring_back(found, "t1", prediction) is prediction


def test_a_series_that_does_not_fit_is_named_by_its_role(study):
    blank = Image(np.zeros((9, 9, 9)), np.eye(4))
    with pytest.raises(BadCase, match="flair onto t1: all voxels are equal") as caught:
        coregister({"t1": study["t1"], "flair": blank}, "t1")
    assert caught.value.reason == "constant_image"


def test_the_reference_must_be_among_the_images(study):
    with pytest.raises(ValueError, match="reference is 'ct': it must be one of t1, t2"):
        coregister(study, "ct")


def test_the_result_can_be_sent_to_another_process(found):
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.images["t2"].array, found.images["t2"].array)
