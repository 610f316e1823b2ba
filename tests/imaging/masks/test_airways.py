import numpy as np

from tasks.imaging.masks.airways import airways
from tasks.imaging.masks.body import body_planes
from tasks.imaging.masks.grid import axial_spacing, to_axial, voxel_ml
from tests.imaging.masks.at_hand import ct_with_classes, nrrd
from tests.imaging.masks.phantoms import chest


def found(image):
    hu, spacing = to_axial(image.array, image.affine), axial_spacing(image.affine)
    air = body_planes(hu, spacing) & (hu < -320).view(np.uint8)
    return airways(air, hu, spacing)


def test_the_trachea_is_followed_into_both_bronchi_and_not_into_a_lung():
    image, truth = chest()
    tubes = found(image) != 0
    expected = to_axial(truth["airways"], image.affine)
    lung = to_axial(truth["lung"], image.affine)
    assert tubes[expected].mean() > 0.9
    assert tubes[lung].mean() < 0.001


def test_without_a_trachea_nothing_is_followed():
    image, truth = chest()
    image.array[truth["airways"] & ~truth["lung"]] = 50
    assert not found(image).any()


def test_a_real_trachea_has_a_real_volume(shared_data):
    image, _ = nrrd(shared_data, "lung1", "CT")
    tubes = found(image)
    # Adult trachea and main bronchi hold 20 to 60 mL.
    assert 20 < tubes.sum() * voxel_ml(image.affine) < 60
    body, _ = ct_with_classes(shared_data, "ct_body_3mm")
    assert found(body).sum() * voxel_ml(body.affine) < 10
