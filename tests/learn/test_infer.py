"""Predictions lie where the image lies, sum to one and average what they should."""

import numpy as np
import pytest
import torch
from torch import nn

from tasks.learn.infer import (
    WHOLE_IMAGE_FACTOR,
    classify,
    features,
    heatmap,
    label_map,
    middle,
    mirrorings,
    outline,
    segment,
    slabs_of,
)
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.networks import build_network
from tasks.learn.plan import plan_network
from tests.learn import small_fold

CPU = torch.device("cpu")


class Pointwise(nn.Module):
    """Class 1 where a voxel is positive: a segmentation whose answer is known everywhere."""

    def forward(self, x):
        return torch.cat([-5 * x, 5 * x], dim=1)


def _unet_plan(patch, network="unet3d", flip_tta=()):
    candidate = NetworkCandidate(
        name="u", network=network, features=(4, 8), patch=patch, batch=2, flip_tta=flip_tta
    )
    return plan_network(candidate, task="segmentation", shape=patch, n_classes=2)


@pytest.mark.parametrize(
    ("patch", "shape", "network"),
    [
        ((8, 8, 8), (7, 9, 5), "unet3d"),
        ((8, 8, 8), (19, 23, 17), "unet3d"),
        ((1, 8, 8), (3, 9, 11), "unet2d"),
        ((1, 8, 8), (3, 29, 31), "unet2d"),
    ],
    ids=["whole volume", "tiled volume", "whole slices", "tiled slices"],
)
def test_every_voxel_gets_its_own_answer(patch, shape, network):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    plan = _unet_plan(patch, network, flip_tta=("y", "x"))
    probability = segment([Pointwise(), Pointwise()], plan, image, CPU)
    assert probability.shape == (2, *shape)
    assert probability.dtype == np.float32
    np.testing.assert_allclose(probability.sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(label_map(probability), image > 0)
    np.testing.assert_array_equal(outline([Pointwise()], plan, image, CPU), image > 0)


def test_large_maps_lie_in_a_file_and_say_the_same(monkeypatch):
    image = np.random.default_rng(0).normal(size=(19, 23, 17)).astype(np.float32)
    plan = _unet_plan((8, 8, 8))
    held = segment([Pointwise()], plan, image, CPU)
    monkeypatch.setattr("tasks.learn.infer.SPILL_BYTES", 1000)
    spilt = segment([Pointwise()], plan, image, CPU)
    assert isinstance(spilt, np.memmap)
    np.testing.assert_allclose(spilt, held, atol=1e-3)
    np.testing.assert_array_equal(label_map(spilt), image > 0)


def test_who_takes_slabs_is_not_in_inference_mode():
    plan, image = _unet_plan((8, 8, 8)), np.zeros((19, 23, 17), np.float32)
    for _ in slabs_of([Pointwise()], plan, image, CPU):
        assert not torch.is_inference_mode_enabled()


def test_whole_and_tiled_are_chosen_by_size():
    assert np.prod((19, 23, 17)) > WHOLE_IMAGE_FACTOR * 8**3 > np.prod((7, 9, 5))


def test_the_ensemble_is_the_mean_of_its_networks():
    plan = small_fold.classifier_plan()
    torch.manual_seed(0)
    networks = [build_network(plan).eval() for _ in range(3)]
    images = np.random.default_rng(0).normal(size=(5, *plan.patch)).astype(np.float32)
    alone = [classify([n], plan, images, CPU) for n in networks]
    together = classify(networks, plan, images, CPU)
    np.testing.assert_allclose(together, np.mean(alone, axis=0), atol=1e-6)
    np.testing.assert_allclose(together.sum(1), 1, atol=1e-6)
    assert np.ptp(alone, axis=0).max() > 1e-3


def test_mirrored_passes_make_the_answer_the_same_for_a_mirrored_image():
    plan = small_fold.classifier_plan(flip_tta=("x",))
    torch.manual_seed(0)
    network = build_network(plan).eval()
    images = np.random.default_rng(0).normal(size=(4, *plan.patch)).astype(np.float32)
    a = classify([network], plan, images, CPU)
    b = classify([network], plan, images[..., ::-1], CPU)
    np.testing.assert_allclose(a, b, atol=1e-6)
    plain = plan.model_copy(update={"flip_tta": ()})
    assert np.abs(classify([network], plain, images, CPU) - a).max() > 1e-5


def test_mirrorings_are_all_subsets_of_the_axes():
    plan = _unet_plan((8, 8, 8), flip_tta=("z", "x"))
    assert mirrorings(plan) == [(), (2,), (4,), (2, 4)]


def test_an_image_of_another_shape_is_refused():
    plan = small_fold.classifier_plan()
    with pytest.raises(ValueError, match="apply the model's own recipe"):
        classify([build_network(plan)], plan, np.zeros((1, 1, 9, 9)), CPU)


def test_features_are_the_bottleneck_s_and_none_where_there_is_none():
    plan = _unet_plan((8, 8, 8))
    network = build_network(plan).eval()
    images = [np.zeros((5, 9, 8), np.float32), np.ones((20, 8, 8), np.float32)]
    assert features(network, plan, images, CPU).shape == (2, 8)
    assert features(Pointwise(), plan, images, CPU) is None


def test_the_middle_is_cut_and_padded_axis_by_axis():
    image = np.arange(5 * 3, dtype=np.float32).reshape(1, 5, 3)
    out = middle(image, (1, 3, 5))
    np.testing.assert_array_equal(out[0, :, 1:4], image[0, 1:4])
    assert (out[0, :, [0, 4]] == 0).all()


def test_the_heatmap_is_hot_where_the_network_looks(tmp_path):
    from tasks.learn.fold import read_weights
    from tasks.learn.train import train_fold

    source, cases = small_fold.bright_square_cases(100)
    ids = [case.case_id for case in cases]
    plan = small_fold.classifier_plan(epochs=8, lr=1e-2, features=(8, 16), ema=0.0)
    result = train_fold(plan, source, cases, ids[:70], ids[70:], tmp_path, 0, device="cpu")
    network = build_network(plan).eval()
    network.load_state_dict(read_weights(result.weights_path)[0])
    inside, outside = [], []
    for case_id, (_, p) in zip(ids[70:], result.val_probability, strict=True):
        image = source.image(case_id)
        if p < 0.8 or ids.index(case_id) % 2 == 0:
            continue
        heat = heatmap([network], plan, image, 1, CPU)
        assert heat.shape == image.shape
        assert 0 <= heat.min() <= heat.max() <= 1.0001
        square = np.abs(image - image.mean()) * 0 + (_smooth(image) > 1.5)
        inside.append(heat[square > 0].mean())
        outside.append(heat[square == 0].mean())
    assert len(inside) > 3
    assert np.mean(inside) > 2 * np.mean(outside)


def _smooth(image):
    from scipy.ndimage import uniform_filter

    return uniform_filter(image, (1, 5, 5))


def test_there_is_no_heatmap_of_a_foreign_network():
    assert (
        heatmap([Pointwise()], small_fold.classifier_plan(), np.zeros((1, 24, 24)), 1, CPU) is None
    )
