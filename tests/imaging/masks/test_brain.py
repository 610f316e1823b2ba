import numpy as np
import pytest

from tasks.errors import BadCase
from tasks.imaging.masks.brain import without_neck
from tasks.imaging.masks.grid import voxel_ml
from tasks.imaging.standard import standard
from tasks.imaging.step import Image
from tests.imaging.masks.at_hand import dice, nrrd, run
from tests.imaging.masks.phantoms import head
from tests.imaging.masks.test_grid import TURNS, turned


def test_the_brain_is_parted_from_scalp_and_neck_with_its_ventricle_and_tumour():
    image, truth = head()
    out = run(image, {"step": "brain"})
    assert dice(out.masks["brain"], truth["brain"]) > 0.98
    assert out.masks["brain"][truth["tumour"]].mean() > 0.75
    np.testing.assert_array_equal(out.array, image.array)


@pytest.mark.parametrize(("axes", "flips"), TURNS[1:])
def test_the_acquired_plane_does_not_matter(axes, flips):
    image, truth = head()
    other = run(turned(image, axes, flips), {"step": "brain"}).masks["brain"]
    expected = turned(Image(truth["brain"], image.affine), axes, flips).array
    assert dice(other, expected) > 0.98


def test_grey_values_have_no_unit():
    image, _ = head()
    scaled = Image(image.array * np.float32(0.013), image.affine, {}, image.facts)
    first, second = (run(one, {"step": "brain"}).masks["brain"] for one in (image, scaled))
    assert dice(first, second) > 0.9999


def test_what_is_no_whole_head_is_refused_with_its_volume():
    image, _ = head()
    crop = Image(image.array[18:28, 24:48, 20:44], image.affine, {}, image.facts)
    with pytest.raises(BadCase, match="brain_implausible: the brain found holds"):
        run(crop, {"step": "brain"})
    blank = Image(np.zeros((5, 20, 20), np.int16), image.affine, {}, image.facts)
    with pytest.raises(BadCase, match="constant_image"):
        run(blank, {"step": "brain"})
    hollow = np.zeros((20, 40, 40), np.int16)
    hollow[:, ::13, ::13] = 1
    shell = np.zeros((20, 40, 40), np.int16)
    shell[:, :2] = shell[:, -2:] = 900
    for odd in (hollow, shell, shell // 900):
        with pytest.raises(BadCase, match=r"brain_implausible|constant_image"):
            run(Image(odd, image.affine, {}, image.facts), {"step": "brain"})
    with pytest.raises(BadCase, match="wrong_modality"):
        run(Image(image.array, image.affine, {}, {"modality": "CT"}), {"step": "brain"})


def test_a_real_brain_has_a_brains_volume_and_holds_its_tumour(shared_data):
    image, tumour = nrrd(shared_data, "brain1", "MR")
    brain = run(image, {"step": "brain"}).masks["brain"] != 0
    assert 1300 < brain.sum() * voxel_ml(image.affine) < 1800
    assert brain[tumour].mean() > 0.97
    # Scalp's fat is the brightest of this T1: hardly any of it may be in.
    assert (image.array[brain] > 1200).mean() < 0.02
    # The lowest two slices show neck, the topmost scalp.
    assert not brain[:2].any()
    assert not brain[-1].any()


def widths(*sides):
    """Return slices from head to feet, each a square of a side."""
    mask = np.zeros((len(sides), 40, 40), np.uint8)
    for plane, side in zip(mask, sides, strict=True):
        plane[:side, :side] = 1
    return mask


def test_what_widens_again_below_the_brain_is_neck_and_is_cut_off():
    brain = (8, 20, 34, 40, 36, 24, 15, 12)
    cut = without_neck(widths(*brain, 13, 20, 26))
    np.testing.assert_array_equal(cut, widths(*brain, 0, 0, 0))
    # Neither noise in thin slices nor a waist above the cerebellum is a neck.
    for whole in ((*brain, 13, 12, 13, 5, 0), (30, 40, 28, 22, 30, 25, 10, 0), (0, 0, 0)):
        np.testing.assert_array_equal(without_neck(widths(*whole)), widths(*whole))


@pytest.mark.slow
def test_the_standard_recipe_for_brains_finds_no_neck_in_a_real_one(shared_data):
    """Once its bias is corrected the muscles of this neck are as bright as its brain."""
    image, tumour = nrrd(shared_data, "brain1", "MR")
    steps = [step for step in standard("mr-brain") if step["step"] in ("bias_correction", "brain")]
    brain = run(image, *steps).masks["brain"] != 0
    assert 1300 < brain.sum() * voxel_ml(image.affine) < 1850
    assert brain[tumour].mean() > 0.97
    assert not brain[:2].any()
