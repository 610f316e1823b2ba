import numpy as np
import pytest
from skimage.filters import threshold_multiotsu, threshold_otsu

from tasks.errors import BadCase
from tasks.imaging.masks.otsu import multi_otsu_thresholds, otsu_threshold
from tasks.imaging.step import Image
from tests.imaging.masks.at_hand import run
from tests.imaging.masks.phantoms import chest

IMAGES = {
    "int16": lambda: chest(shape=(10, 40, 50))[0].array,
    "uint8": lambda: np.random.default_rng(0).integers(0, 256, (3, 40, 50)).astype(np.uint8),
    "float32": lambda: np.random.default_rng(1).gamma(2, 3, (3, 40, 50)).astype(np.float32),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_the_threshold_is_that_of_scikit_image(kind):
    array = IMAGES[kind]()
    assert otsu_threshold(array) == pytest.approx(float(threshold_otsu(array)), abs=1e-5)


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("kind", IMAGES)
def test_several_thresholds_are_those_of_scikit_image(kind, classes):
    array = IMAGES[kind]()
    # Of integers scikit-image takes every value for a bin: slow beyond 256 of them.
    wide = array.dtype == np.int16
    peer = threshold_multiotsu(array.astype(np.float64) if wide else array, classes)
    assert multi_otsu_thresholds(array, classes) == pytest.approx(peer.tolist(), abs=1e-4)


def test_the_steps_part_the_image_at_their_thresholds():
    image = Image(IMAGES["uint8"](), np.eye(4))
    bright = run(image, {"step": "otsu"}).masks["otsu"]
    dark = run(image, {"step": "otsu", "dark": True}).masks["otsu"]
    np.testing.assert_array_equal(bright, image.array > otsu_threshold(image.array))
    np.testing.assert_array_equal(bright + dark, np.ones_like(bright))
    classes = run(image, {"step": "multi_otsu", "classes": 4}).masks["classes"]
    cuts = multi_otsu_thresholds(image.array, 4)
    np.testing.assert_array_equal(classes, np.digitize(image.array, cuts, right=True))
    assert classes.dtype == np.uint8


def test_too_few_grey_values_are_a_bad_case():
    flat = Image(np.full((1, 5, 5), 7, np.int16), np.eye(4))
    two = Image(np.arange(2, dtype=np.int16).repeat(8).reshape(1, 4, 4), np.eye(4))
    with pytest.raises(BadCase, match="constant_image: all voxels are 7"):
        run(flat, {"step": "otsu"})
    with pytest.raises(BadCase, match="2 grey values"):
        run(two, {"step": "multi_otsu", "classes": 3})
