"""The trunk of a detector: residual stages that halve the image, and a feature pyramid over them.

Lin et al. 2017. Normalisation is by groups of channels, for a batch of a detector is too small for
batch statistics.
"""

from collections import OrderedDict
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tasks.learn.device import mixed_precision

if TYPE_CHECKING:
    from tasks.learn.plan import NetworkPlan

GROUPS = 8
"""Groups of the normalisation: as many as in MONAI's heads."""

group_norm = partial(nn.GroupNorm, GROUPS)


class Pyramid(nn.Module):
    """Trunk of a plan's detector.

    Parameters
    ----------
    plan : NetworkPlan
        With a ``detector``; in 2-D the images are (n, c, y, x).
    """

    def __init__(self, plan: "NetworkPlan") -> None:
        super().__init__()
        chosen = plan.detector
        self.out_channels = chosen.pyramid_channels
        if chosen.backbone == "small":
            self.body: nn.Module = SmallBody(plan)
        else:
            self.body = _resnet(plan)
        widths = [plan.channels[level] for level in chosen.levels]
        self.fpn = _feature_pyramid(plan.dims)(widths, self.out_channels)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Return the maps that are asked for boxes, finest first, under "0", "1", ...

        The trunk alone is computed in half precision on a GPU: places and sizes of boxes are not,
        for bfloat16 knows no half voxels above 128.
        """
        with mixed_precision(x.device):
            maps = self.fpn(self.body(x))
        return OrderedDict((name, one.float()) for name, one in maps.items())

    def pooled_features(self, x: Tensor) -> Tensor:
        """Return the mean over space of the stages' maps, (n, f): what an input looks like."""
        return torch.cat([m.flatten(2).mean(-1) for m in self.body(x).values()], dim=1)


class SmallBody(nn.Module):
    """One residual block a stage, of the widths and halvings of a plan."""

    def __init__(self, plan: "NetworkPlan") -> None:
        super().__init__()
        self.levels = plan.detector.levels
        depth = self.levels[-1] + 1
        widths = (plan.in_channels, *plan.channels[:depth])
        strides = [stride[-plan.dims :] for stride in plan.strides[:depth]]
        self.stages = nn.ModuleList(
            _Block(plan.dims, a, b, stride)
            for (a, b), stride in zip(pairwise(widths), strides, strict=True)
        )

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        found: OrderedDict[str, Tensor] = OrderedDict()
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in self.levels:
                found[str(len(found))] = x
        return found


class _Block(nn.Module):
    """Two convolutions, the first of which halves, beside a projection (He et al. 2016)."""

    def __init__(self, dims: int, a: int, b: int, stride: tuple[int, ...]) -> None:
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.first = nn.Sequential(
            conv(a, b, 3, stride=stride, padding=1, bias=False), group_norm(b), nn.ReLU()
        )
        self.second = nn.Sequential(conv(b, b, 3, padding=1, bias=False), group_norm(b))
        self.beside = nn.Sequential(conv(a, b, 1, stride=stride, bias=False), group_norm(b))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(self.first(x)) + self.beside(x))


def _resnet(plan: "NetworkPlan") -> nn.Module:
    """Return the stages of a known ResNet without weights, as a map of the planned levels."""
    from torchvision.models._utils import IntermediateLayerGetter

    # A stage is a layer of the ResNet; stage 0 is what comes before them.
    wanted = {f"layer{level}": str(n) for n, level in enumerate(plan.detector.levels)}
    name = plan.detector.backbone
    if plan.dims == 2:
        from torchvision.models import resnet as flat

        body = getattr(flat, name)(weights=None, norm_layer=group_norm)
        width = body.conv1.out_channels
        body.conv1 = nn.Conv2d(plan.in_channels, width, 7, stride=2, padding=3, bias=False)
    else:
        from monai.networks.nets import resnet as solid

        body = getattr(solid, name)(
            spatial_dims=3, n_input_channels=plan.in_channels, conv1_t_stride=plan.strides[0],
            norm=("group", {"num_groups": GROUPS}),
        )  # fmt: skip
    return IntermediateLayerGetter(body, wanted)


def _feature_pyramid(dims: int) -> type[nn.Module]:
    if dims == 2:
        from torchvision.ops import FeaturePyramidNetwork

        return FeaturePyramidNetwork
    from monai.networks.blocks.feature_pyramid_network import FeaturePyramidNetwork

    return partial(FeaturePyramidNetwork, 3)
