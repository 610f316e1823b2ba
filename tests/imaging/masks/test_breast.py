import numpy as np
import pytest

from tasks.errors import BadCase
from tasks.imaging.step import Image
from tests.imaging.masks.at_hand import dice, run
from tests.imaging.masks.phantoms import mammogram


def test_the_breast_is_found_and_the_label_beside_it_is_not():
    image, truth = mammogram()
    out = run(image, {"step": "breast"})
    assert dice(out.masks["breast"][0], truth) > 0.99
    assert not out.masks["breast"][0, 20:32, 140:165].any()
    np.testing.assert_array_equal(out.array, image.array)


def test_a_label_joined_by_a_scratch_is_cut_off():
    image, _ = mammogram()
    image.array[0, 26:28, 40:150] = 3000
    image.array[0, 26:60, 60:62] = 3000
    assert not run(image, {"step": "breast"}).masks["breast"][0, 20:32, 140:165].any()
    kept = run(image, {"step": "breast", "open_mm": 0})
    assert kept.masks["breast"][0, 20:32, 140:165].all()


def test_every_view_of_a_stack_is_segmented_on_its_own():
    image, truth = mammogram()
    stack = np.concatenate([image.array, image.array[:, :, ::-1]])
    out = run(Image(stack, image.affine, {}, image.facts), {"step": "breast"})
    assert dice(out.masks["breast"][1], truth[:, ::-1]) > 0.99


def test_an_inverted_view_and_another_modality_are_refused():
    image, _ = mammogram()
    bare = np.full_like(image.array, 100)
    bare[0, 100:110, 100:110] = np.random.default_rng(0).integers(2000, 3000, (10, 10))
    with pytest.raises(BadCase, match="breast_implausible: the breast found fills 0% of a view"):
        run(Image(bare, image.affine, {}, image.facts), {"step": "breast"})
    full = 3100 - bare
    with pytest.raises(BadCase, match="breast found fills 100%"):
        run(Image(full, image.affine, {}, image.facts), {"step": "breast"})
    with pytest.raises(BadCase, match="wrong_modality"):
        run(Image(image.array, image.affine, {}, {"modality": "CT"}), {"step": "breast"})
