import numpy as np
import pytest
from scipy import ndimage

from tasks.errors import BadCase
from tasks.imaging.masks.grid import voxel_ml
from tasks.imaging.step import Image
from tests.imaging.masks.at_hand import LUNG_LOBES, ct_with_classes, dice, nrrd, run
from tests.imaging.masks.phantoms import chest
from tests.imaging.masks.test_grid import TURNS, turned

GRIDS = {"thin": ((120, 100, 120), (2.0, 3.0, 3.0)), "thick": ((32, 100, 120), (7.5, 3.0, 3.0))}


@pytest.mark.parametrize("grid", GRIDS)
def test_lungs_hold_vessels_and_pleural_nodules_and_no_airways_or_gas(grid):
    image, truth = chest(*GRIDS[grid])
    out = run(image, {"step": "lung"})
    lung = out.masks["lung"] != 0
    assert dice(lung, truth["lung"]) > 0.99
    assert lung[truth["nodule"]].all()
    assert lung[truth["vessel"]].mean() > 0.95
    assert lung[truth["airways"]].mean() < 0.05
    assert not lung[truth["gas"]].any()
    np.testing.assert_array_equal(out.array, image.array)


@pytest.mark.parametrize(("axes", "flips"), TURNS[1:])
def test_the_acquired_plane_does_not_matter(axes, flips):
    image, _ = chest()
    upright = run(image, {"step": "lung"}).masks["lung"]
    other = run(turned(image, axes, flips), {"step": "lung"}).masks["lung"]
    expected = turned(Image(upright, image.affine), axes, flips).array
    assert dice(other, expected) > 0.9999


def test_lungs_that_touch_are_closed_one_by_one():
    image, truth = chest()
    near = np.zeros(image.array.shape, bool)
    near[20:30, 34:44, 40:80] = True
    gap = np.zeros(image.array.shape, bool)
    gap[20:30, 34:44, 58:62] = True
    bridge = np.zeros(image.array.shape, bool)
    bridge[24:26, 37:39, 58:62] = True
    # 12 mm of mediastinum, less than the closing would bridge, with one hole in it.
    image.array[near & (~gap | bridge)] = -800
    lung = run(image, {"step": "lung"}).masks["lung"] != 0
    assert lung[truth["lung"]].mean() > 0.999
    assert lung[near & ~gap].mean() > 0.999
    assert lung[gap & ~bridge].mean() < 0.05


def test_lungs_as_empty_as_gas_are_kept_for_their_size():
    image, truth = chest()
    image.array[truth["lung"] & (image.array < -600)] -= 180
    lung = run(image, {"step": "lung"}).masks["lung"] != 0
    assert np.median(image.array[lung]) < -970
    assert dice(lung, truth["lung"]) > 0.99
    assert not lung[truth["gas"]].any()


def test_one_lung_is_enough():
    image, truth = chest()
    half = truth["lung"].copy()
    half[:, :, 60:] = False
    image.array[half] = 50
    lung = run(image, {"step": "lung"}).masks["lung"] != 0
    assert dice(lung, truth["lung"] & ~half) > 0.99
    # A lung on one side is never cut in two: the vessel runs where its own middle is.
    assert lung[truth["vessel"]].mean() > 0.95


def test_what_holds_no_lung_is_refused_with_its_volume():
    image, truth = chest()
    image.array[truth["lung"]] = 50
    with pytest.raises(BadCase, match="lung_implausible: the lungs found hold 0 mL"):
        run(image, {"step": "lung"})
    with pytest.raises(BadCase, match="wrong_modality"):
        run(Image(image.array, image.affine, {}, {"modality": "MR"}), {"step": "lung"})
    clipped = Image(np.clip(image.array, 0, 1), image.affine)
    with pytest.raises(BadCase, match="lung_implausible"):
        run(clipped, {"step": "lung"})
    empty = Image(np.full((3, 30, 30), -1000, np.int16), np.eye(4))
    with pytest.raises(BadCase, match="lung_implausible"):
        run(empty, {"step": "lung"})


def test_real_lungs_hold_their_nodule_and_all_around_it(shared_data):
    image, nodule = nrrd(shared_data, "lung1", "CT")
    lung = run(image, {"step": "lung"}).masks["lung"] != 0
    assert 2500 < lung.sum() * voxel_ml(image.affine) < 3300
    plane = np.ones((1, 3, 3), bool)
    around = ndimage.binary_dilation(nodule, plane, iterations=5)
    assert lung[nodule].all()
    assert lung[around].mean() > 0.95
    # Left and right: a fifth of the lung on either side of the middle, at the least.
    right, left = lung[:, :, :256].mean(), lung[:, :, 256:].mean()
    assert 0.5 < right / left < 2


def test_real_lung_bases_agree_with_a_network_and_leave_the_bowel_out(shared_data):
    image, classes = ct_with_classes(shared_data, "ct_body_3mm")
    lung = run(image, {"step": "lung"}).masks["lung"]
    lobes = np.isin(classes, LUNG_LOBES)
    print(f"lung: Dice {dice(lung, lobes):.3f} against TotalSegmentator")
    assert dice(lung, lobes) > 0.92
    bowel = np.isin(classes, (6, 18, 19, 20))
    # Closing a gap between diaphragm and ribs takes in a little of the stomach's dome.
    assert lung[bowel].mean() < 0.01


def test_a_real_abdomen_is_refused(shared_data):
    image, _ = ct_with_classes(shared_data, "ct_siemens_body")
    with pytest.raises(BadCase, match="lung_implausible"):
        run(image, {"step": "lung"})
