"""A file of weights fits a network whole, or is refused with what does not."""

import pytest
import torch
from safetensors.torch import save_file

from tasks.errors import RadloopError
from tasks.hashing import sha256_file
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.networks import build_network
from tasks.learn.plan import plan_network
from tasks.learn.weights import find_weights, for_channels, load_weights, read_state


def network_of(network="resnet18", shape=(1, 64, 64), channels=1, **fields):
    candidate = NetworkCandidate(name="c", network=network, weights="w", **fields)
    plan = plan_network(candidate, task="classification", shape=shape, n_classes=2)
    return build_network(plan.model_copy(update={"in_channels": channels}))


@pytest.fixture(scope="module")
def published():
    """A three-channel network as torchvision publishes it, with a head of 1000 classes."""
    import torchvision

    torch.manual_seed(3)
    return torchvision.models.resnet18(weights=None)


def test_a_published_file_gives_a_grey_image_what_its_own_network_says_of_three_equal_channels(
    published, tmp_path
):
    torch.save(published.state_dict(), tmp_path / "resnet18.pth")
    ours = network_of()
    fit = load_weights(ours, tmp_path / "resnet18.pth", sha256_file(tmp_path / "resnet18.pth"))
    assert fit.matched == fit.wanted == 100
    assert fit.channels == (3, 1)
    assert fit.unused == ("fc.bias", "fc.weight")
    x = torch.randn(2, 1, 64, 64)
    published.eval()
    features = torch.nn.Sequential(*list(published.children())[:-1])
    with torch.inference_mode():
        last = ours.eval().maps(x)[-1]
        expected = features(x.expand(2, 3, 64, 64)).flatten(1)
        torch.testing.assert_close(ours.pool(last), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prefix", ["", "module.", "model.backbone."])
@pytest.mark.parametrize("slices", [None, "attention"])
def test_names_are_compared_after_whatever_prefix_the_file_has(published, tmp_path, prefix, slices):
    state = {f"{prefix}{n}": t.contiguous() for n, t in published.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    ours = network_of(shape=(3, 64, 64) if slices else (1, 64, 64), slices=slices)
    fit = load_weights(ours, tmp_path / "w.safetensors")
    assert fit.matched == fit.wanted
    trunk = ours.net.trunk if slices else ours.trunk
    torch.testing.assert_close(trunk.layer4[1].bn2.weight, published.layer4[1].bn2.weight)


def test_a_training_file_one_level_down_and_old_dense_names_are_read(tmp_path):
    import torchvision

    own = torchvision.models.densenet121(weights=None)
    old = {
        n.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): t
        for n, t in own.state_dict().items()
        if not n.endswith("num_batches_tracked")
    }
    torch.save({"epoch": 3, "state_dict": old}, tmp_path / "w.pth")
    ours = network_of("densenet121")
    fit = load_weights(ours, tmp_path / "w.pth")
    assert fit.matched == fit.wanted
    torch.testing.assert_close(
        ours.trunk.features.denseblock2.denselayer3.norm1.weight,
        own.features.denseblock2.denselayer3.norm1.weight,
    )


def test_weights_of_volumes_fit_the_network_of_volumes(tmp_path):
    from monai.networks.nets.resnet import ResNet

    torch.manual_seed(5)
    own = ResNet(
        "bottleneck", [3, 4, 6, 3], [64, 128, 256, 512], n_input_channels=1, conv1_t_stride=2,
        bias_downsample=False, feed_forward=False,
    )  # fmt: skip
    state = {f"module.{n}": t for n, t in own.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "resnet_50.pth")
    fit = load_weights(network_of("resnet50", (16, 64, 64)), tmp_path / "resnet_50.pth")
    assert fit.matched == fit.wanted
    assert fit.unused == ()


def test_a_kept_model_of_radloop_is_a_start_as_well(tmp_path):
    torch.manual_seed(0)
    old = network_of("small_cnn", features=(4, 8))
    save_file({f"fold0.{n}": t for n, t in old.state_dict().items()}, tmp_path / "w.safetensors")
    ours = network_of("small_cnn", features=(4, 8))
    fit = load_weights(ours, tmp_path / "w.safetensors")
    assert fit.matched == fit.wanted
    torch.testing.assert_close(ours.blocks[1][0].weight, old.blocks[1][0].weight)


def test_what_does_not_fit_is_counted_and_named_and_changes_nothing(published, tmp_path):
    state = dict(published.state_dict())
    del state["layer3.0.conv1.weight"]
    torch.save(state, tmp_path / "w.pth")
    ours = network_of()
    before = ours.trunk.conv1.weight.clone()
    with pytest.raises(ValueError, match=r"99 of 100 tensors.*layer3\.0\.conv1\.weight is not"):
        load_weights(ours, tmp_path / "w.pth")
    torch.testing.assert_close(ours.trunk.conv1.weight, before)
    with pytest.raises(ValueError, match="does not fit"):
        load_weights(network_of("resnet50"), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"7, 7\), the network's \(64, 1, 3, 3\)"):
        load_weights(network_of(stem="small"), tmp_path / "w.pth")


def test_another_file_under_the_same_name_is_refused(published, tmp_path):
    torch.save(published.state_dict(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match="another SHA-256"):
        load_weights(network_of(), tmp_path / "w.pth", "0" * 64)


class Runs:
    """What a pickled file could do."""

    def __reduce__(self):
        return exec, ("open('ran', 'w').close()",)


def test_nothing_in_a_file_runs_and_what_is_no_state_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Runs()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="neither safetensors nor a plain"):
        read_state(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()
    (tmp_path / "text.safetensors").write_text("no")
    with pytest.raises(ValueError, match="neither safetensors"):
        read_state(tmp_path / "text.safetensors")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="no tensors with names"):
        read_state(tmp_path / "list.pth")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_first_layer_made_for_other_channels_answers_equal_channels_alike(channels):
    weight = torch.randn(8, 3, 7, 7)
    x = torch.randn(1, 1, 20, 20)
    said = torch.conv2d(x.expand(1, channels, 20, 20), for_channels(weight, channels))
    if channels in (1, 3):
        torch.testing.assert_close(said, torch.conv2d(x.expand(1, 3, 20, 20), weight))
    assert said.shape == (1, 8, 14, 14)


def test_a_missing_file_is_said_with_the_place_to_put_it(tmp_path):
    with pytest.raises(RadloopError, match="put the file there"):
        find_weights("resnet18.pth", tmp_path)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "resnet18.pth").touch()
    assert find_weights("resnet18.pth", tmp_path).name == "resnet18.pth"
    assert find_weights(str(tmp_path / "weights" / "resnet18.pth"), tmp_path / "other").exists()
