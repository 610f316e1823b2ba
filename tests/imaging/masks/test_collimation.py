import numpy as np
import pytest

from tasks.archive.volume import read_volume
from tasks.errors import BadCase
from tasks.imaging.masks.collimation import field
from tasks.imaging.step import Image
from tests.imaging.masks.at_hand import dice, refs, run
from tests.imaging.masks.phantoms import framed


@pytest.mark.parametrize("outside", [0.0, 255.0])
@pytest.mark.parametrize("tilt", [0.0, 2.0, -3.5])
def test_the_field_is_found_between_dark_and_bright_shutters_upright_and_tilted(outside, tilt):
    image, truth = framed(tilt_deg=tilt, outside=outside)
    out = run(image, {"step": "collimation"})
    assert dice(out.masks["field"][0], truth) > 0.98
    np.testing.assert_array_equal(out.array, image.array)


def test_an_upright_field_is_found_to_the_pixel_and_cropped():
    image, truth = framed()
    out = run(image, {"step": "collimation"}, {"step": "crop_to_mask", "mask": "field"})
    np.testing.assert_array_equal(run(image, {"step": "collimation"}).masks["field"][0], truth)
    assert out.array.shape == (1, 98, 95)
    np.testing.assert_array_equal(out.array[0], image.array[0, 20:118, 15:110])


def test_the_penumbra_is_left_out_inside_the_edges_found_and_nowhere_else():
    image, _ = framed(field=(20, 150, 0, 110))
    mask = run(image, {"step": "collimation", "inside_mm": 4}).masks["field"][0]
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (24, 149, 0, 105)


def test_without_a_shutter_and_in_tiny_views_everything_is_the_field():
    image, _ = framed(field=(0, 150, 0, 130))
    assert run(image, {"step": "collimation"}).masks["field"].all()
    assert field(np.arange(12.0).reshape(3, 4), (1.0, 1.0)).all()
    assert field(np.zeros((80, 90)), (1.0, 1.0)).all()


def test_a_cross_section_is_refused():
    image, _ = framed()
    with pytest.raises(BadCase, match="wrong_modality"):
        run(Image(image.array, image.affine, {}, {"modality": "CT"}), {"step": "collimation"})


def test_real_radiographs_keep_their_anatomy_and_lose_a_shutter(shared_data):
    paths = sorted((shared_data / "chest-xray").glob("*/*/*/*.dcm"))[::90]
    assert len(paths) == 10
    for path in paths:
        image = read_volume("dicom", refs(path))
        view, spacing = image.array[0], (1.4, 1.4)
        inside = field(view, spacing) != 0
        # What a straight shutter-like side of the trunk cuts off is air: the darkest of the image.
        assert inside.mean() > 0.65
        assert inside.all() or view[~inside].mean() < np.percentile(view, 25)
        white = np.full((300, 290), 255.0)
        white[40:264, 30:254] = view
        found = field(white, spacing) != 0
        truth = np.zeros(white.shape, bool)
        truth[40:264, 30:254] = True
        assert dice(found, truth) > 0.97
