"""Classification networks: residual and dense ones in 2-D and 3-D, and 2.5-D on top of any.

All are one shape, `Classifier`: maps, pooled, one linear layer.  So the heatmap, the distance from
the training cases and a frozen trunk are written once.  2-D trunks are torchvision's, 3-D ones
MONAI's, under their own names, so that public weights fit them (:mod:`tasks.learn.weights`).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from tasks.learn.plan import NetworkPlan

_BLOCKS = {"resnet18": ("basic", (2, 2, 2, 2)), "resnet50": ("bottleneck", (3, 4, 6, 3))}
_WIDTHS = (64, 128, 256, 512)

SLICES_HIDDEN = 64
"""Width of the layer that scores slices (Ilse et al. 2018 take 128 for larger features)."""


class Classifier(nn.Module):
    """Maps, global pooling, dropout and one linear layer ``head``; a network adds :meth:`maps`."""

    dropout: nn.Dropout
    head: nn.Linear

    def maps(self, x: Tensor) -> list[Tensor]:
        """Return the maps of every stage, the last being what the heatmap explains."""
        raise NotImplementedError

    def pool(self, last: Tensor) -> Tensor:
        """Return (n, f) of the last maps (n, f, ...)."""
        return last.flatten(2).mean(-1)

    def classify(self, last: Tensor) -> Tensor:
        """Return logits (n, k) of the last maps."""
        return self.head(self.dropout(self.pool(last)))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, k) of images (n, c, y, x) or (n, c, z, y, x)."""
        return self.classify(self.maps(x)[-1])

    def pooled_features(self, x: Tensor) -> Tensor:
        """Return the mean of every last map, (n, f): what an input looks like to the network."""
        return self.maps(x)[-1].flatten(2).mean(-1)

    @property
    def parts(self) -> tuple[nn.Module, ...]:
        """What is no head: kept still when only the head trains."""
        return tuple(child for child in self.children() if child not in (self.head, self.dropout))

    def freeze(self) -> None:
        """Train the head alone; the rest keeps its weights and the statistics of its norms."""
        for part in self.parts:
            part.requires_grad_(False)
        self.frozen = True

    def train(self, mode: bool = True) -> "Classifier":
        """Set training or evaluation; what is frozen stays in evaluation."""
        super().train(mode)
        if mode and getattr(self, "frozen", False):
            for part in self.parts:
                part.eval()
        return self


class Staged(Classifier):
    """A trunk of stages with a head of our own.

    Parameters
    ----------
    trunk : Module
        Holds the stages as children; its own names are kept.
    stages : mapping of str to tuple of str
        Stage to the dotted names of the trunk's modules that it runs, in order.
    width : int
        Channels of the last maps.
    n_classes : int
    dropout : float
    """

    def __init__(
        self,
        trunk: nn.Module,
        stages: Mapping[str, tuple[str, ...]],
        width: int,
        n_classes: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.stages = dict(stages)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, n_classes)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Return the maps of every stage."""
        out = []
        for names in self.stages.values():
            for name in names:
                x = self.trunk.get_submodule(name)(x)
            out.append(x)
        return out


class Slices(Classifier):
    """2.5-D: every slice of a volume through one 2-D network, then one answer for all slices.

    The last maps are a volume again, so a heatmap shows slice and place.

    Parameters
    ----------
    net : Classifier
        2-D; its head is used.
    pooling : str
        ``attention``: the mean of the slices' features under learnt weights that sum to one (Ilse
        et al. 2018, "Attention-based deep multiple instance learning"); ``max``: the largest of
        each feature.
    """

    def __init__(self, net: Classifier, pooling: str) -> None:
        super().__init__()
        self.head, self.dropout = net.head, net.dropout
        # Else every number of the head would be kept twice.
        del net.head, net.dropout
        self.net = net
        self.score = None
        if pooling == "attention":
            width = self.head.in_features
            self.score = nn.Sequential(
                nn.Linear(width, SLICES_HIDDEN), nn.Tanh(), nn.Linear(SLICES_HIDDEN, 1)
            )

    def maps(self, x: Tensor) -> list[Tensor]:
        """Return the 2-D network's maps (n, f, z, y, x) of images (n, c, z, y, x)."""
        n, _, z = x.shape[:3]
        flat = x.movedim(2, 1).flatten(0, 1)
        return [m.unflatten(0, (n, z)).movedim(1, 2) for m in self.net.maps(flat)]

    def weights(self, last: Tensor) -> Tensor:
        """Return how much each slice counts, (n, z); equal shares where the maximum is taken."""
        return self._weights(self._slices(last))

    def pool(self, last: Tensor) -> Tensor:
        """Return (n, f) of the last maps (n, f, z, y, x)."""
        each = self._slices(last)
        if self.score is None:
            return each.amax(1)
        return (self._weights(each)[..., None] * each).sum(1)

    def _slices(self, last: Tensor) -> Tensor:
        n, _, z = last.shape[:3]
        return self.net.pool(last.movedim(2, 1).flatten(0, 1)).unflatten(0, (n, z))

    def _weights(self, each: Tensor) -> Tensor:
        if self.score is None:
            return torch.full(each.shape[:2], 1 / each.shape[1], device=each.device)
        return self.score(each)[..., 0].softmax(1)

    @property
    def parts(self) -> tuple[nn.Module, ...]:
        """The 2-D network without its head; the weighting of slices trains with the head."""
        return tuple(self.net.children())


def build_staged(plan: "NetworkPlan", dims: int) -> Staged:
    """Build a residual or dense network, untrained.

    A small stem replaces the 7 x 7 convolution and the pooling after it, which together shrink an
    image four times before anything is seen: 3 x 3 of stride 1 in 2-D (He et al. 2016 on CIFAR),
    of stride 2 in 3-D, where full size costs eight times as much.

    Parameters
    ----------
    plan : NetworkPlan
    dims : int
        Of the trunk: 2 also for a volume seen slice by slice.
    """
    small, stride = plan.stem == "small", 1 if dims == 2 else 2
    if plan.network == "densenet121":
        trunk, stages = _dense(dims, plan.in_channels), _DENSE_STAGES
        if small:
            old = trunk.features.conv0
            trunk.features.conv0 = _conv(dims, plan.in_channels, old.out_channels, 3, stride)
            trunk.features.pool0 = nn.Identity()
        return Staged(trunk, stages, 1024, plan.n_classes, plan.dropout)
    kind, layers = _BLOCKS[plan.network]
    trunk = _residual(dims, plan.in_channels, kind, layers)
    if small:
        trunk.conv1 = _conv(dims, plan.in_channels, _WIDTHS[0], 3, stride)
        trunk.maxpool = nn.Identity()
    width = _WIDTHS[-1] * (1 if kind == "basic" else 4)
    act = "relu" if dims == 2 else "act"
    stages = {"stem": ("conv1", "bn1", act, "maxpool")} | {
        f"layer{i}": (f"layer{i}",) for i in range(1, 5)
    }
    return Staged(trunk, stages, width, plan.n_classes, plan.dropout)


_DENSE_STAGES = {
    "stem": tuple(f"features.{name}0" for name in ("conv", "norm", "relu", "pool")),
    **{f"dense{i}": (f"features.denseblock{i}", f"features.transition{i}") for i in range(1, 4)},
    "dense4": ("features.denseblock4", "features.norm5", "last"),
}


def _residual(dims: int, channels: int, kind: str, layers: tuple[int, ...]) -> nn.Module:
    if dims == 2:
        from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

        trunk = ResNet({"basic": BasicBlock, "bottleneck": Bottleneck}[kind], list(layers))
        trunk.conv1 = _conv(2, channels, _WIDTHS[0], 7, 2)
        del trunk.fc
        return trunk
    from monai.networks.nets.resnet import ResNet as MonaiResNet

    return MonaiResNet(
        kind,
        list(layers),
        list(_WIDTHS),
        spatial_dims=3,
        n_input_channels=channels,
        conv1_t_stride=2,
        bias_downsample=False,
        feed_forward=False,
    )


def _dense(dims: int, channels: int) -> nn.Module:
    if dims == 2:
        from torchvision.models.densenet import DenseNet

        trunk: Any = DenseNet(32, (6, 12, 24, 16), 64)
        trunk.features.conv0 = _conv(2, channels, 64, 7, 2)
        del trunk.classifier
    else:
        from monai.networks.nets.densenet import DenseNet as MonaiDenseNet

        trunk = MonaiDenseNet(3, channels, 1)
        del trunk.class_layers
    # Both take the last rectifier in their forward, where the heatmap could not see it.
    trunk.last = nn.ReLU(inplace=True)
    return trunk


def _conv(dims: int, channels: int, width: int, size: int, stride: int) -> nn.Module:
    kind = nn.Conv2d if dims == 2 else nn.Conv3d
    layer = kind(channels, width, size, stride=stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer
