import numpy as np
import pytest

from tasks.errors import BadCase
from tasks.imaging.radiomics.discretise import MOST_LEVELS, Binning, discretise
from tasks.imaging.radiomics.region import region_of
from tasks.imaging.step import Image


def ramp(mask=None):
    array = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    masks = {} if mask is None else {"roi": mask}
    return Image(array, np.diag([5.0, 0.5, 0.7, 1.0])[[2, 1, 0, 3]], masks)


def test_without_a_mask_the_whole_image_is_the_region():
    region = region_of(ramp())
    assert region.mask.all()
    assert region.array.shape == (2, 3, 4)
    np.testing.assert_allclose(region.spacing, (5.0, 0.5, 0.7))


def test_the_box_is_the_smallest_around_the_label():
    mask = np.zeros((2, 3, 4), np.uint8)
    mask[1, 1, 2], mask[1, 2, 3], mask[0, 0, 0] = 2, 2, 1
    region = region_of(ramp(mask), "roi", label=2)
    assert region.array.tolist() == [[[18, 19], [22, 23]]]
    assert region.values.tolist() == [18, 23]
    assert region_of(ramp(mask), "roi").array.shape == (2, 3, 4)


def test_re_segmentation_takes_intensities_and_leaves_the_shape():
    region = region_of(ramp(), resegment=(3, 6))
    assert region.values.tolist() == [3, 4, 5, 6]
    assert region.mask.all()


@pytest.mark.parametrize(
    ("mask", "label", "resegment", "says"),
    [
        ("lung", None, None, "no step before made a mask named 'lung' .made are: roi"),
        ("roi", 7, None, "marks no voxel"),
        (None, None, (100.0, 200.0), "no voxel of the region lies in 100 to 200"),
    ],
)
def test_a_region_that_is_not_there_is_a_bad_case(mask, label, resegment, says):
    image = ramp(np.ones((2, 3, 4), np.uint8))
    with pytest.raises(BadCase, match=says) as problem:
        region_of(image, mask, label, resegment)
    assert problem.value.reason == "no_region"


def test_bins_of_a_fixed_number_span_the_regions_own_range():
    levels, count = discretise(region_of(ramp(), resegment=(4, 12)), Binning(number=4))
    assert count == 4
    assert levels.ravel()[4:13].tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 4]
    assert not levels.ravel()[:4].any()
    assert not levels.ravel()[13:].any()


def test_bins_of_a_fixed_size_begin_where_they_are_told_and_count_to_the_highest():
    region = region_of(ramp(), resegment=(4, 12))
    levels, count = discretise(region, Binning(width=2.0, start=0.0))
    assert levels.ravel()[4:13].tolist() == [3, 3, 4, 4, 5, 5, 6, 6, 7]
    assert count == 7
    assert discretise(region, Binning(width=2.0))[0].max() == 5


def test_a_region_of_one_intensity_is_one_level():
    image = Image(np.full((1, 3, 3), 7.5, np.float32), np.eye(4))
    levels, count = discretise(region_of(image), Binning(number=16))
    assert (count, levels.min(), levels.max()) == (16, 1, 1)


def test_bins_too_narrow_for_the_range_are_a_bad_case():
    image = Image(np.array([[[0.0, float(MOST_LEVELS)]]], np.float32), np.eye(4))
    with pytest.raises(BadCase, match=f"make {MOST_LEVELS + 1} grey levels, over {MOST_LEVELS}"):
        discretise(region_of(image), Binning(width=1.0, start=0.0))
    levels, _ = discretise(region_of(image), Binning(width=1.01, start=0.0))
    assert levels.max() <= MOST_LEVELS
