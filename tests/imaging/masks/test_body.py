import numpy as np
import pytest

from tasks.errors import BadCase
from tasks.imaging.step import Image
from tests.imaging.masks.at_hand import ct_with_classes, dice, nrrd, run
from tests.imaging.masks.phantoms import chest, head


@pytest.mark.parametrize("spacing", [(5.0, 3.0, 3.0), (7.0, 2.0, 2.5)])
def test_the_body_is_found_without_its_table_and_with_its_lungs(spacing):
    shape = (34, 150, 144) if spacing[0] == 7 else (48, 100, 120)
    image, truth = chest(shape, spacing)
    out = run(image, {"step": "body"})
    assert dice(out.masks["body"], truth["body"]) > 0.99
    assert not out.masks["body"][truth["table"]].any()
    assert out.masks["body"][truth["lung"]].all()
    assert out.masks["body"].dtype == np.uint8
    np.testing.assert_array_equal(out.array, image.array)


def test_mr_is_parted_from_air_by_its_own_grey_values():
    image, truth = head()
    out = run(image, {"step": "body", "name": "patient"})
    assert out.masks["patient"][truth["brain"]].all()
    assert 0.2 < out.masks["patient"].mean() < 0.6
    assert not out.masks["patient"][:, :4].any()


def test_an_image_without_a_body_is_a_bad_case():
    air = np.full((4, 40, 40), -1000, np.int16)
    air[2, 20, 20] = 100
    with pytest.raises(BadCase, match="body_implausible"):
        run(Image(air, np.eye(4), {}, {"modality": "CT"}), {"step": "body"})


@pytest.mark.parametrize(("name", "least"), [("ct_body_3mm", 0.999), ("ct_siemens_body", 0.98)])
def test_real_bodies_hold_their_organs_and_not_their_table(shared_data, name, least):
    image, classes = ct_with_classes(shared_data, name)
    body = run(image, {"step": "body"}).masks["body"]
    # Arms beside the trunk are parts of their own: the rest of the Siemens classes.
    assert body[classes > 0].mean() > least
    # Where the tables lie, seen in the images: behind row 425, and before row 5 of the flipped one.
    beyond = body[:, :5] if name == "ct_body_3mm" else body[:, 425:]
    assert beyond.mean() < 0.001


def test_a_real_head_is_parted_from_air(shared_data):
    image, tumour = nrrd(shared_data, "brain1", "MR")
    body = run(image, {"step": "body"}).masks["body"]
    assert body[tumour].all()
    assert 0.55 < body.mean() < 0.62
