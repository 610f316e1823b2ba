"""U-Nets as nnU-Net builds them, plain and with a residual encoder.

Isensee et al. 2021, Nature Methods 18, 203, and 2024, arXiv 2404.09556 (residual encoder). Strides
and kernels are the plan's (:mod:`tasks.learn.nnunet`). Convolutions before a normalisation have no
bias, which it would take away.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tasks.learn.nnunet import ENCODER_BLOCKS

if TYPE_CHECKING:
    from tasks.learn.plan import NetworkPlan

SLOPE = 0.01
"""Of the leaky ReLU on its negative side; the weights are drawn for it (He et al. 2015)."""

NORM_EPS = 1e-5

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
POOL = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
DROPOUT = {2: nn.Dropout2d, 3: nn.Dropout3d}

Size = Sequence[int]


class StagedUNet(nn.Module):
    """Stages down, stages up, and while it trains a head at every stage up but the lowest.

    Parameters
    ----------
    plan : NetworkPlan
        With one kernel and one width a stage, and strides between them.
    residual : bool
        Residual encoder and one convolution a stage up, else two convolutions both ways.
    """

    def __init__(self, plan: "NetworkPlan", *, residual: bool) -> None:
        super().__init__()
        dims, widths, last = plan.dims, plan.channels, len(plan.strides)
        kernels = [k[-dims:] for k in plan.kernels]
        strides = [(1,) * dims, *(s[-dims:] for s in plan.strides)]

        def stage(i: int) -> nn.Sequential:
            # The stem of a residual encoder already has the width of the first stage.
            before = widths[max(0, i - 1)] if i or residual else plan.in_channels
            if residual:
                blocks = ENCODER_BLOCKS[min(i, len(ENCODER_BLOCKS) - 1)]
                first = ResidualBlock(dims, before, widths[i], kernels[i], strides[i], plan.dropout)
                more = (
                    ResidualBlock(dims, widths[i], widths[i], kernels[i], strides[0], plan.dropout)
                    for _ in range(blocks - 1)
                )
                return nn.Sequential(first, *more)
            return nn.Sequential(
                _conv(dims, before, widths[i], kernels[i], strides[i], plan.dropout),
                _conv(dims, widths[i], widths[i], kernels[i], dropout=plan.dropout),
            )

        def join(i: int) -> nn.Sequential:
            first = _conv(dims, 2 * widths[i], widths[i], kernels[i], dropout=plan.dropout)
            if residual:
                return nn.Sequential(first)
            return nn.Sequential(
                first, _conv(dims, widths[i], widths[i], kernels[i], dropout=plan.dropout)
            )

        self.stem = (
            _conv(dims, plan.in_channels, widths[0], kernels[0]) if residual else nn.Identity()
        )
        self.encoder = nn.ModuleList(stage(i) for i in range(last + 1))
        self.ups = nn.ModuleList(
            UP[dims](widths[i + 1], widths[i], strides[i + 1], strides[i + 1]) for i in range(last)
        )
        self.joins = nn.ModuleList(join(i) for i in range(last))
        # The lowest stage up gets no head: nnU-Net gives it weight 0.
        supervised = max(1, last - 1) if plan.deep_supervision else 1
        self.heads = nn.ModuleList(
            CONV[dims](widths[i], plan.n_classes, 1) for i in range(supervised)
        )
        _draw_weights(self)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (n, k, ...) of images (n, c, ...).

        While it trains with deep supervision, a tuple of them: full size first, then ever smaller.
        """
        skips = self._down(x)
        x, found = skips[-1], []
        for i in reversed(range(len(self.ups))):
            x = self.joins[i](torch.cat((self.ups[i](x), skips[i]), dim=1))
            if 0 < i < len(self.heads) and self.training:
                found.append(self.heads[i](x))
        whole = self.heads[0](x)
        return (whole, *reversed(found)) if found else whole

    def pooled_features(self, x: Tensor) -> Tensor:
        """Return the mean over space of the bottleneck's maps, (n, f)."""
        return self._down(x)[-1].flatten(2).mean(-1)

    def _down(self, x: Tensor) -> list[Tensor]:
        """Return the maps of every stage of the encoder."""
        x, found = self.stem(x), []
        for stage in self.encoder:
            x = stage(x)
            found.append(x)
        return found


class ResidualBlock(nn.Module):
    """Two convolutions beside a path that averages where they stride (ResNet-D, He et al. 2019).

    MONAI's residual block strides a convolution of one voxel instead, which loses voxels, and whose
    backward pass in two dimensions wrote beyond its memory in torch 2.14 on the CPU.
    """

    def __init__(
        self, dims: int, before: int, width: int, kernel: Size, stride: Size, dropout: float
    ) -> None:
        super().__init__()
        self.first = _conv(dims, before, width, kernel, stride, dropout)
        self.second = _conv(dims, width, width, kernel, act=False)
        side: list[nn.Module] = []
        if any(s > 1 for s in stride):
            side.append(POOL[dims](tuple(stride), tuple(stride)))
        if before != width:
            side.append(_conv(dims, before, width, (1,) * dims, act=False))
        self.side = nn.Sequential(*side)
        self.act = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the block's width, smaller where it strides."""
        return self.act(self.second(self.first(x)) + self.side(x))


def _conv(
    dims: int,
    before: int,
    width: int,
    kernel: Size,
    stride: Size | int = 1,
    dropout: float = 0.0,
    *,
    act: bool = True,
) -> nn.Sequential:
    layers = [
        CONV[dims](before, width, kernel, stride, [k // 2 for k in kernel], bias=False),
        *([DROPOUT[dims](dropout)] if dropout else []),
        NORM[dims](width, eps=NORM_EPS, affine=True),
        *([nn.LeakyReLU(SLOPE, inplace=True)] if act else []),
    ]
    return nn.Sequential(*layers)


def _draw_weights(network: nn.Module) -> None:
    """Draw weights as nnU-Net does; a residual block begins as its side path alone."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, a=SLOPE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.second[-1].weight)
