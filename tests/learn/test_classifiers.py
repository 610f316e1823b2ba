"""Known networks answer for images of any dimension, explain themselves and can stand still."""

import numpy as np
import pytest
import torch

from tasks.learn.dataset import ArrayCases
from tasks.learn.infer import heatmap
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.networks import build_network, to_network
from tasks.learn.plan import plan_network
from tasks.learn.train import train_fold
from tests.learn import small_fold

CPU = torch.device("cpu")


def plan_of(shape=(1, 32, 32), channels=1, **fields):
    candidate = NetworkCandidate(name="c", **fields)
    plan = plan_network(candidate, task="classification", shape=shape, n_classes=3)
    return plan.model_copy(update={"in_channels": channels})


@pytest.mark.parametrize(
    ("network", "shape", "channels", "slices"),
    [
        ("resnet18", (1, 32, 40), 1, None),
        ("resnet50", (1, 16, 16), 1, None),
        ("densenet121", (1, 16, 16), 1, None),
        ("resnet18", (8, 10, 9), 2, None),
        ("resnet18", (2, 16, 16), 1, "attention"),
    ],
    ids=["2-D", "2-D bottleneck", "2-D dense", "3-D two channels", "2.5-D"],
)
def test_every_network_answers_and_shows_where_it_looked(network, shape, channels, slices):
    plan = plan_of(shape, channels, network=network, slices=slices)
    torch.manual_seed(0)
    built = build_network(plan).eval()
    x = to_network(torch.randn(2, channels, *shape), plan.dims)
    with torch.inference_mode():
        last = built.maps(x)[-1]
        assert built(x).shape == (2, 3)
        torch.testing.assert_close(built.classify(last), built(x))
        assert built.pooled_features(x).shape == (2, last.shape[1])
    if plan.network == "resnet18" and channels == 1:
        heat = heatmap([built], plan, np.random.default_rng(0).normal(size=shape), 1, CPU)
        assert heat.shape == shape
        assert 0 <= heat.min() <= heat.max() <= 1.0001


@pytest.mark.parametrize("network", ["resnet18", "densenet121"])
def test_the_trunk_computes_what_the_library_s_own_network_does(network):
    import torchvision

    plan = plan_of((1, 64, 64), 3, network=network)
    built = build_network(plan).eval()
    own = getattr(torchvision.models, network)(weights=None).eval()
    own.load_state_dict(built.trunk.state_dict(), strict=False)
    head = own.fc if network == "resnet18" else own.classifier
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = head(built.pool(built.maps(x)[-1]))
        torch.testing.assert_close(expected, own(x))


@pytest.mark.parametrize("network", ["resnet18", "densenet121"])
def test_the_trunk_of_volumes_computes_what_the_library_s_own_network_does(network):
    from monai.networks.nets.densenet import DenseNet
    from monai.networks.nets.resnet import ResNet

    plan = plan_of((29, 32, 32), 1, network=network, stem="full")
    built = build_network(plan).eval()
    if network == "resnet18":
        own = ResNet(
            "basic", [2, 2, 2, 2], [64, 128, 256, 512], n_input_channels=1, conv1_t_stride=2,
            bias_downsample=False, num_classes=3,
        )  # fmt: skip
        head = own.fc
    else:
        own = DenseNet(3, 1, 3)
        head = own.class_layers.out
    own.load_state_dict(built.trunk.state_dict(), strict=False)
    own.eval()
    x = torch.randn(1, 1, 29, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(head(built.pool(built.maps(x)[-1])), own(x))


def test_small_images_keep_more_of_their_places_and_weights_keep_the_full_stem():
    small = plan_of((1, 28, 28), network="resnet18")
    large = plan_of((1, 64, 64), network="resnet18")
    given = plan_of((1, 28, 28), network="resnet18", weights="w.pth")
    assert (small.stem, large.stem, given.stem) == ("small", "full", "full")
    sides = {
        plan.stem: build_network(plan).maps(torch.zeros(2, 1, 28, 28))[1].shape[-1]
        for plan in (small, given)
    }
    assert sides == {"small": 28, "full": 7}


def test_attention_over_slices_sums_to_one_and_follows_a_slice_wherever_it_lies():
    plan = plan_of((5, 32, 32), network="small_cnn", slices="attention", features=(4, 8))
    torch.manual_seed(0)
    network = build_network(plan).eval()
    x = torch.randn(1, 1, 5, 32, 32)
    order = [3, 1, 4, 0, 2]
    with torch.inference_mode():
        weights = network.weights(network.maps(x)[-1])
        moved = network.weights(network.maps(x[:, :, order])[-1])
        torch.testing.assert_close(weights.sum(1), torch.ones(1))
        torch.testing.assert_close(moved, weights[:, order])
        torch.testing.assert_close(network(x[:, :, order]), network(x))
    assert np.ptp(weights.numpy()) > 1e-4


def test_the_maximum_over_slices_lets_one_slice_decide():
    plan = plan_of((4, 32, 32), network="small_cnn", slices="max", features=(4, 8))
    network = build_network(plan).eval()
    one = torch.randn(1, 1, 1, 32, 32)
    with torch.inference_mode():
        alone = network(one.expand(1, 1, 4, 32, 32))
        torch.testing.assert_close(network(one), alone)


def test_a_frozen_trunk_keeps_weights_and_statistics_while_the_head_learns(tmp_path):
    plan = plan_of(network="resnet18", weights="w", freeze=True)
    torch.manual_seed(1)
    network = build_network(plan).train()
    before = {n: t.clone() for n, t in network.state_dict().items()}
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    network(torch.randn(4, 1, 32, 32)).sum().backward()
    optimizer.step()
    changed = {n for n, t in network.state_dict().items() if not torch.equal(t, before[n])}
    assert changed == {"head.bias", "head.weight"}


def test_slices_of_a_volume_are_learnt_in_the_ordinary_loop(tmp_path):
    source, cases = small_fold.bright_square_cases(48)
    source = ArrayCases({c: np.concatenate([i, i * 0, -i]) for c, i in source.images.items()})
    ids = [case.case_id for case in cases]
    candidate = NetworkCandidate(
        name="c", slices="attention", features=(8, 16), epochs=8, batch=8, lr=1e-2, augment="none"
    )
    plan = plan_network(candidate, task="classification", shape=(3, 24, 24), n_classes=2)
    result = train_fold(plan, source, cases, ids[:32], ids[32:], tmp_path, 0, device="cpu")
    assert result.history[-1]["val_auroc"] > 0.8
    again = train_fold(plan, source, cases, ids[:32], ids[32:], tmp_path, 0, device="cpu")
    np.testing.assert_array_equal(again.val_probability, result.val_probability)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"network": "unet3d", "slices": "max"}, "does not look slice by slice"),
        ({"network": "unet2d", "weights": "w.pth"}, "cannot start from a file"),
        ({"network": "resnet18", "freeze": True}, "name a file under weights"),
        ({"network": "resnet18", "features": (8,)}, "fixed widths"),
        ({"network": "small_cnn", "stem": "small"}, "one stem only"),
        ({"network": "resnet18", "weights_sha256": "a" * 64}, "there are no weights"),
    ],
)
def test_a_setting_its_network_cannot_obey_is_refused_with_the_remedy(fields, words):
    with pytest.raises(ValueError, match=words):
        NetworkCandidate(name="a", **fields)


def test_batch_statistics_of_one_image_and_slices_of_one_are_refused():
    with pytest.raises(ValueError, match="at least 2"):
        plan_of(network="resnet18", batch=1)
    with pytest.raises(ValueError, match="one slice"):
        plan_of(network="resnet18", slices="max")


@pytest.mark.parametrize(
    ("shape", "stem", "least"), [((12, 90, 90), "full", 29), ((12, 30, 30), "small", 15)]
)
def test_a_volume_too_flat_for_a_dense_network_is_refused_with_the_least_size(shape, stem, least):
    with pytest.raises(ValueError, match=f"at least {least} along every axis"):
        plan_of(shape, network="densenet121", stem=stem)
    enough = plan_of((least,) * 3, network="densenet121", stem=stem)
    with torch.inference_mode():
        assert build_network(enough).eval()(torch.zeros(1, 1, *enough.patch)).shape == (1, 3)
