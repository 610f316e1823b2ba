"""What a display shutter hides is black; the rest keeps its grey."""

import numpy as np
import pytest
from pydicom import Dataset

from tasks.archive.grey import shown_grey
from tasks.archive.shutter import shutter_mask
from tasks.errors import BadCase
from tests.archive.made_images import image


def shutter(**elements):
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


RECTANGLE = {
    "ShutterShape": "RECTANGULAR",
    "ShutterLeftVerticalEdge": 3,
    "ShutterRightVerticalEdge": 8,
    "ShutterUpperHorizontalEdge": 2,
    "ShutterLowerHorizontalEdge": 9,
}


def test_a_rectangle_counts_from_one_and_keeps_its_edges():
    hidden = shutter_mask(shutter(**RECTANGLE), (12, 10))
    assert (~hidden).sum() == 8 * 6
    assert not hidden[1:9, 2:8].any()


def test_a_circle_hides_what_lies_beyond_its_radius():
    dataset = shutter(
        ShutterShape="CIRCULAR", CenterOfCircularShutter=[6, 5], RadiusOfCircularShutter=3
    )
    hidden = shutter_mask(dataset, (12, 10))
    assert not hidden[5, 4]
    assert not hidden[2, 4]
    assert hidden[1, 4]
    assert hidden[8, 7]


def test_a_polygon_and_a_rectangle_hide_what_either_hides():
    both = {**RECTANGLE, "ShutterShape": ["RECTANGULAR", "POLYGONAL"]}
    dataset = shutter(**both, VerticesOfThePolygonalShutter=[1, 1, 1, 10, 12, 1])
    hidden = shutter_mask(dataset, (12, 10))
    assert hidden[8, 7]  # beyond the diagonal, inside the rectangle
    assert hidden[0, 0]  # inside the triangle, outside the rectangle
    assert not hidden[2, 3]


def test_without_a_known_shape_nothing_is_hidden():
    assert shutter_mask(shutter(), (4, 4)) is None
    assert shutter_mask(shutter(ShutterShape="BITMAP"), (4, 4)) is None


def test_a_shape_without_numbers_is_refused():
    with pytest.raises(BadCase, match="RECTANGULAR shutter without its numbers"):
        shutter_mask(shutter(ShutterShape="RECTANGULAR"), (4, 4))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_the_shuttered_border_of_a_radiograph_is_black(photometric):
    array = np.full((12, 10), 500, dtype=np.uint16)
    array[5, 5] = 900
    dataset = image(array, bits_stored=12, PhotometricInterpretation=photometric, **RECTANGLE)
    shown, _ = shown_grey(dataset)
    assert (shown[0] == shown[1:9, 2:8].min()).all()


def test_an_inverse_presentation_shape_inverts_once():
    array = np.arange(120, dtype=np.uint16).reshape(12, 10)
    plain, _ = shown_grey(image(array, bits_stored=12))
    inverse, _ = shown_grey(image(array, bits_stored=12, PresentationLUTShape="INVERSE"))
    both = image(
        array,
        bits_stored=12,
        PresentationLUTShape="INVERSE",
        PhotometricInterpretation="MONOCHROME1",
    )
    np.testing.assert_array_equal(inverse, 4095 - plain)
    np.testing.assert_array_equal(shown_grey(both)[0], inverse)
