"""Boxes come off the augmented mask, and one that a patch cuts off is not asked for there."""

import numpy as np
import pytest
import torch

from tasks.learn.augment import draw_params, parse_augment
from tasks.learn.augment_batch import apply
from tasks.learn.box_targets import (
    box_of_index,
    box_of_network,
    instances_of,
    targets_of,
    zoom_of,
)
from tasks.learn.boxes import boxes_of_instances

ROWS = ((1.0, *[0.0] * 12, 0.0), (0.0, *[0.0] * 12, 1.0), (2.0, *[0.0] * 12, 0.0))


@pytest.fixture
def mask():
    out = np.zeros((12, 16, 20), np.uint16)
    out[2:6, 3:9, 4:12] = 1
    out[8:11, 1:3, 1:3] = 2
    out[7:10, 10:15, 13:19] = 3
    return out


def test_classes_and_boxes_are_those_of_the_mask(mask):
    (target,) = targets_of(torch.from_numpy(mask)[None], [instances_of("c", mask, ROWS)], [{}], 3)
    assert target.label.tolist() == [1, 2]
    assert target.box.tolist() == [[2, 3, 4, 6, 9, 12], [7, 10, 13, 10, 15, 19]]
    assert target.ignored.tolist() == [[8, 1, 1, 11, 3, 3]]
    assert [int(m.sum()) for m in target.mask] == [4 * 6 * 8, 3 * 5 * 6]


def test_a_patch_wants_what_it_holds_half_of_and_ignores_the_rest(mask):
    whole = instances_of("c", mask, ROWS)
    for end, wanted in ((8, [1]), (7, [])):  # columns 4..11 of the first: half of them, or fewer
        cut = torch.from_numpy(mask[:, :, :end].astype(np.int32))[None]
        (target,) = targets_of(cut, [whole], [{}], 3)
        assert target.label.tolist() == wanted
        assert len(target.ignored) == 2 - len(wanted)


def test_a_zoomed_instance_is_held_against_its_zoomed_size():
    # Twice as small: an eighth of the voxels is all of it.
    mask = np.zeros((1, 16, 16, 16), np.int32)
    mask[0, 4:12, 4:12, 4:12] = 1
    whole = instances_of("c", mask[0], ROWS[:1])
    params = [{"affine": np.column_stack([np.eye(3) * 2, np.zeros(3)]).tolist()}]
    assert zoom_of(params[0]) == pytest.approx(1 / 8)
    image = torch.zeros(1, 1, 16, 16, 16)
    _, small = apply(params, image, torch.from_numpy(mask))
    (target,) = targets_of(small, [whole], params, 3)
    assert target.box.tolist() == [[6, 6, 6, 10, 10, 10]]


@pytest.mark.parametrize("preset", ["detection", "detection2d"])
def test_the_presets_keep_boxes_tight(preset):
    """A full box stays a full box: mirrored, turned by a quarter or scaled, never loosened."""
    config = parse_augment({"preset": preset, "probability": 1.0, "noise": 0.0})
    shape = (1, 32, 32) if preset == "detection2d" else (16, 32, 32)
    mask = np.zeros(shape, np.int32)
    mask[..., 12:19, 13:22] = 1
    seen = set()
    for seed in range(24):
        params = draw_params(np.random.default_rng(seed), config, shape)
        _, moved = apply([params], torch.zeros(1, 1, *shape), torch.from_numpy(mask)[None])
        (box,) = boxes_of_instances(moved[0].numpy())[1]
        assert int((moved > 0).sum()) == np.prod(box[1] - box[0])
        seen.add(tuple((box[1] - box[0])[1:]))
    assert len(seen) > 4
    turned = any(high > wide for high, wide in seen)
    assert turned == (preset == "detection")


def test_a_mask_with_more_instances_than_boxes_is_refused(mask):
    with pytest.raises(ValueError, match="holds instance 3, its labels have 2 boxes"):
        instances_of("c" * 64, mask, ROWS[:2])


@pytest.mark.parametrize("dims", [2, 3])
def test_boxes_of_networks_return(dims):
    box = np.array([[[-0.5, 2.5, 3.5], [0.5, 7.5, 9.5]]])
    of_network = box_of_network(box, dims)
    assert of_network.tolist() == [[0, 3, 4, 1, 8, 10] if dims == 3 else [3, 4, 8, 10]]
    np.testing.assert_array_equal(box_of_index(of_network, dims), box)
