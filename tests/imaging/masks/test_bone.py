import numpy as np
import pytest
from pydantic import ValidationError

from tasks.errors import BadCase
from tasks.imaging.step import Image
from tasks.imaging.steps import parse_steps
from tests.imaging.masks.at_hand import BONES, ct_with_classes, dice, run
from tests.imaging.masks.phantoms import chest


def test_bone_holds_its_marrow_and_no_table():
    image, truth = chest()
    image.array[truth["table"]] = 900
    out = run(image, {"step": "bone"})
    assert dice(out.masks["bone"], truth["bone"]) > 0.99
    assert not out.masks["bone"][truth["table"]].any()
    np.testing.assert_array_equal(out.array, image.array)


def test_what_is_less_dense_is_taken_only_where_it_touches_a_dense_seed():
    image, truth = chest()
    around = np.zeros(image.array.shape, bool)
    around[:, 60:90, 30:90] = True
    around &= ~truth["bone"] & truth["body"] & ~truth["lung"] & ~truth["airways"]
    image.array[around] = 220
    far = np.zeros(image.array.shape, bool)
    far[5:8, 20:30, 50:70] = True
    image.array[far] = 220
    bone = run(image, {"step": "bone"}).masks["bone"] != 0
    assert bone[around].mean() > 0.95
    assert not bone[far].any()


def test_a_small_dense_part_is_left_out_by_its_volume():
    image, _ = chest()
    image.array[10:12, 20:22, 60:62] = 900
    assert run(image, {"step": "bone"}).masks["bone"][10, 20, 60] == 0
    assert run(image, {"step": "bone", "smallest_ml": 0.1}).masks["bone"][10, 20, 60] == 1


def test_an_image_without_bone_and_wrong_limits_are_refused():
    image, truth = chest()
    image.array[truth["bone"]] = 50
    with pytest.raises(BadCase, match="bone_implausible"):
        run(image, {"step": "bone"})
    with pytest.raises(BadCase, match="wrong_modality"):
        run(Image(image.array, image.affine, {}, {"modality": "DX"}), {"step": "bone"})
    with pytest.raises(ValidationError, match="low 500 must not be above high 300"):
        parse_steps([{"step": "bone", "low": 500, "high": 300}])


@pytest.mark.parametrize("name", ["ct_body_3mm", "ct_siemens_body"])
def test_real_bone_agrees_with_a_network_and_leaves_organs_out(shared_data, name):
    image, classes = ct_with_classes(shared_data, name)
    out = run(
        image, {"step": "body"}, {"step": "bone"}, {"step": "bone", "low": 110, "name": "soft"}
    )
    reference = np.isin(classes, BONES) & (out.masks["body"] != 0)
    bone = out.masks["bone"] != 0
    print(f"bone: Dice {dice(bone, reference):.3f} against TotalSegmentator ({name})")
    # At 3 mm thin cortex and spongy bone blur; in the other image the network leaves bone out.
    assert dice(bone, reference) > 0.65
    # Liver, spleen, kidneys, stomach, pancreas, muscles of the back.
    organs = np.isin(classes, (1, 2, 3, 5, 6, 7, 86, 87))
    assert bone[organs].mean() < 0.01
    if name == "ct_body_3mm":
        assert dice(out.masks["soft"], reference) > 0.8
