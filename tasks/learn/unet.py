"""U-Nets as nnU-Net builds them, plain and with a residual encoder, of MONAI's blocks.

Isensee et al. 2021, Nature Methods 18, 203, and 2024, arXiv 2404.09556 (residual encoder). Strides
and kernels are the plan's (:mod:`tasks.learn.nnunet`). Convolutions before a normalisation have no
bias, which it would take away.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from monai.networks.blocks.dynunet_block import UnetBasicBlock, get_conv_layer
from torch import Tensor, nn

from tasks.learn.nnunet import ENCODER_BLOCKS

if TYPE_CHECKING:
    from tasks.learn.plan import NetworkPlan

SLOPE = 0.01
"""Of the leaky ReLU on its negative side; the weights are drawn for it (He et al. 2015)."""

NORM = ("INSTANCE", {"affine": True, "eps": 1e-5})
ACT = ("leakyrelu", {"inplace": True, "negative_slope": SLOPE})


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
        dims, widths = plan.dims, plan.channels
        kernels = [k[-dims:] for k in plan.kernels]
        strides = [(1,) * dims, *(s[-dims:] for s in plan.strides)]
        dropout = plan.dropout or None
        last = len(widths) - 1

        def conv(a: int, b: int, kernel: Sequence[int]) -> nn.Module:
            return get_conv_layer(
                dims, a, b, kernel, act=ACT, norm=NORM, dropout=dropout, conv_only=False
            )

        def stage(i: int) -> nn.Module:
            before = widths[max(0, i - 1)] if i or residual else plan.in_channels
            if not residual:
                return UnetBasicBlock(
                    dims, before, widths[i], kernels[i], strides[i], NORM, ACT, dropout
                )
            blocks = ENCODER_BLOCKS[min(i, len(ENCODER_BLOCKS) - 1)]
            first = ResidualBlock(dims, before, widths[i], kernels[i], strides[i], dropout)
            plain = (dims, widths[i], widths[i], kernels[i], (1,) * dims, dropout)
            return nn.Sequential(first, *(ResidualBlock(*plain) for _ in range(blocks - 1)))

        def up(i: int) -> nn.Module:
            shape = {"kernel_size": strides[i + 1], "stride": strides[i + 1]}
            return get_conv_layer(
                dims, widths[i + 1], widths[i], **shape, bias=True, act=None, norm=None,
                conv_only=False, is_transposed=True,
            )  # fmt: skip

        def join(i: int) -> nn.Module:
            if residual:
                return conv(2 * widths[i], widths[i], kernels[i])
            return UnetBasicBlock(dims, 2 * widths[i], widths[i], kernels[i], 1, NORM, ACT, dropout)

        self.stem = conv(plan.in_channels, widths[0], kernels[0]) if residual else nn.Identity()
        self.encoder = nn.ModuleList(stage(i) for i in range(last + 1))
        self.ups = nn.ModuleList(up(i) for i in range(last))
        self.joins = nn.ModuleList(join(i) for i in range(last))
        # The lowest stage up gets no head: nnU-Net gives it weight 0.
        supervised = max(1, last - 1) if plan.deep_supervision else 1
        one = nn.Conv2d if dims == 2 else nn.Conv3d
        self.heads = nn.ModuleList(one(widths[i], plan.n_classes, 1) for i in range(supervised))
        _draw_weights(self)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits (n, k, ...) of images (n, c, ...).

        While it trains with deep supervision, a tuple of them: full size first, then ever smaller.
        """
        x = self.stem(x)
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        found = []
        for i in reversed(range(len(self.ups))):
            x = self.joins[i](torch.cat((self.ups[i](x), skips[i]), dim=1))
            if i == 0 or (self.training and i < len(self.heads)):
                found.append(self.heads[i](x))
        if not self.ups:
            found.append(self.heads[0](x))
        return tuple(reversed(found)) if self.training and len(self.heads) > 1 else found[-1]

    def pooled_features(self, x: Tensor) -> Tensor:
        """Return the mean over space of the bottleneck's maps, (n, f)."""
        x = self.stem(x)
        for stage in self.encoder:
            x = stage(x)
        return x.flatten(2).mean(-1)


class ResidualBlock(nn.Module):
    """Two convolutions beside a path that averages where they stride (ResNet-D, He et al. 2019).

    MONAI's residual block strides a convolution of one voxel instead, which loses voxels, and whose
    backward pass in two dimensions wrote beyond its memory in torch 2.14 on the CPU.
    """

    def __init__(
        self,
        dims: int,
        before: int,
        width: int,
        kernel: Sequence[int],
        stride: Sequence[int],
        dropout: float | None,
    ) -> None:
        super().__init__()
        self.first = get_conv_layer(
            dims, before, width, kernel, stride, ACT, NORM, dropout, conv_only=False
        )
        self.second = get_conv_layer(dims, width, width, kernel, norm=NORM, act=None,
                                     conv_only=False)  # fmt: skip
        pool = nn.AvgPool2d if dims == 2 else nn.AvgPool3d
        side: list[nn.Module] = []
        if any(s > 1 for s in stride):
            side.append(pool(tuple(stride), tuple(stride)))
        if before != width:
            side.append(get_conv_layer(dims, before, width, 1, norm=NORM, act=None,
                                       conv_only=False))  # fmt: skip
        self.side = nn.Sequential(*side)
        self.act = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the block's width, smaller where it strides."""
        return self.act(self.second(self.first(x)) + self.side(x))


def _draw_weights(network: nn.Module) -> None:
    """Draw weights as nnU-Net does; a residual block begins as its side path alone."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, a=SLOPE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.second.adn.N.weight)
