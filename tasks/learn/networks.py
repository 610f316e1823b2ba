"""Networks a plan can ask for: our own, known ones, nnU-Net's, or one the user names."""

import math
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tasks.learn.classifiers import Classifier, Slices, build_staged
from tasks.learn.joined import JoinedCNN
from tasks.learn.numbers import add_scaler
from tasks.learn.unet import StagedUNet
from tasks.learn.zoo import CLASSIFIERS, DETECTORS, JOINED, NETWORKS, NNUNETS, TRUNKS, UNETS

if TYPE_CHECKING:
    from tasks.learn.plan import NetworkPlan

RARE = 0.01
"""Probability that a region's voxels begin with (Lin et al. 2017, "Focal loss"): from one half the
first hundreds of steps would only teach what is background."""

_CONV = (nn.Conv2d, nn.Conv3d)

_LANES = 16
"""Channels that an AVX-512 convolution takes at once."""

_GROUP_CHANNELS = 8
"""Channels a group of the group normalisation of volumes, whose batches are too small for batch
statistics."""


class SmallCNN(Classifier):
    """Convolution blocks, each halving the image, then global pooling and one linear layer.

    Parameters
    ----------
    dims : int
        2 or 3.
    in_channels, n_classes : int
    channels : tuple of int
        Width of each block; a block is two convolutions but the first, which is one of stride 2.
    dropout : float
        Before the linear layer.
    batched : bool
        Whether maps are normalised over the batch, not each image by itself.
    """

    def __init__(
        self,
        dims: int,
        in_channels: int,
        n_classes: int,
        channels: tuple[int, ...],
        dropout: float,
        batched: bool,
    ) -> None:
        super().__init__()
        widths = [in_channels, *channels]
        self.blocks = nn.ModuleList(
            _block(dims, a, b, first=i == 0, batched=batched)
            for i, (a, b) in enumerate(pairwise(widths))
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * channels[-1], n_classes)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Return the output of every block, the last being what the heatmap explains."""
        out = []
        for block in self.blocks:
            x = block(x)
            out.append(x)
        return out

    def pool(self, last: Tensor) -> Tensor:
        """Return mean and maximum of the last block's maps, (n, 2 f)."""
        # The maximum keeps a small finding that the mean over the image would drown.
        return torch.cat([last.flatten(2).mean(-1), last.flatten(2).amax(-1)], dim=1)

    def pooled_features(self, x: Tensor) -> Tensor:
        """Return the mean of every map of every block, (n, f): what an input looks like to us."""
        return torch.cat([m.flatten(2).mean(-1) for m in self.maps(x)], dim=1)


def _block(dims: int, a: int, b: int, *, first: bool, batched: bool) -> nn.Sequential:
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    pool = nn.MaxPool2d if dims == 2 else nn.MaxPool3d
    over_batch = nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d

    def unit(i: int, o: int, size: int, stride: int) -> list[nn.Module]:
        norm = over_batch(o) if batched else nn.GroupNorm(max(1, o // _GROUP_CHANNELS), o)
        layer = conv(i, o, size, stride=stride, padding=size // 2, bias=False)
        return [layer, norm, nn.ReLU(inplace=True)]

    if first:
        return nn.Sequential(*unit(a, b, 5, 2))
    return nn.Sequential(*unit(a, b, 3, 1), *unit(b, b, 3, 1), pool(2))


class SegmentationUNet(nn.Module):
    """MONAI's residual U-Net, with a way to read its bottleneck."""

    def __init__(self, plan: "NetworkPlan") -> None:
        super().__init__()
        # MONAI takes seconds to import: only who builds a U-Net pays.
        from monai.networks.nets.unet import UNet

        self.unet = UNet(
            spatial_dims=plan.dims,
            in_channels=plan.in_channels,
            out_channels=plan.n_classes,
            channels=plan.channels,
            strides=[s[-plan.dims :] for s in plan.strides],
            num_res_units=plan.res_units,
            norm="INSTANCE",
            dropout=plan.dropout,
        )
        if plan.plain_head and plan.res_units:
            # MONAI normalises and bends even these maps, one a class: a patch without tumour is
            # then blown up until it has some.
            self.unet.model[2][0].adn = nn.Identity()
        if plan.regions:
            last = [m for m in self.unet.model[2].modules() if isinstance(m, _CONV)][-1]
            nn.init.constant_(last.bias, math.log(RARE / (1 - RARE)))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, k, ...) of images (n, c, ...)."""
        return self.unet(x)

    def pooled_features(self, x: Tensor) -> Tensor:
        """Return the mean over space of the bottleneck's maps, (n, f)."""
        found: list[Tensor] = []
        handle = _bottleneck(self.unet.model).register_forward_hook(
            lambda _module, _inputs, output: found.append(output)
        )
        try:
            self.unet(x)
        finally:
            handle.remove()
        return found[0].flatten(2).mean(-1)


def _bottleneck(model: nn.Sequential) -> nn.Module:
    # MONAI nests: Sequential(down, SkipConnection(Sequential(down, SkipConnection(...), up)), up).
    inner: nn.Module = model[1].submodule
    while isinstance(inner, nn.Sequential) and hasattr(inner[1], "submodule"):
        inner = inner[1].submodule
    return inner


def build_network(plan: "NetworkPlan") -> nn.Module:
    """Build the untrained network of a plan; weights depend on torch's global seed.

    Parameters
    ----------
    plan : NetworkPlan
        ``network`` may be ``module:function``, which is called with ``in_channels``,
        ``n_classes``, ``dims``, ``shape`` and the plan's ``options`` as keywords. When the
        function has an attribute ``parameters`` (a pydantic model), it validates the options.

    Raises
    ------
    ValueError
        If there is no such network.
    """
    network = _bare(plan)
    return add_scaler(network) if plan.task == "regression" else network


def _bare(plan: "NetworkPlan") -> nn.Module:
    if plan.network in CLASSIFIERS:
        return _classifier(plan)
    if plan.network in UNETS:
        return SegmentationUNet(plan)
    if plan.network in NNUNETS:
        return StagedUNet(plan, residual=plan.network.startswith("resenc"))
    if plan.network in DETECTORS:
        from tasks.learn.detectors import build_detector

        return build_detector(plan)
    function = _foreign(plan.network)
    options: dict[str, Any] = dict(plan.options)
    if (model := getattr(function, "parameters", None)) is not None:
        options = model.model_validate(options).model_dump()
    network = function(
        in_channels=plan.in_channels,
        n_classes=plan.n_classes,
        dims=plan.dims,
        shape=plan.patch,
        **options,
    )
    if not isinstance(network, nn.Module):
        raise ValueError(
            f"{plan.network} returned a {type(network).__name__}; it must return a torch Module"
        )
    return network


def _classifier(plan: "NetworkPlan") -> Classifier:
    dims = 2 if plan.slices else plan.dims
    if plan.network == JOINED:
        network: Classifier = _joined(plan)
    elif plan.network in TRUNKS:
        network = build_staged(plan, dims)
    else:
        widths, batched = (plan.in_channels, plan.n_classes, plan.channels), plan.batch_norm
        network = SmallCNN(dims, *widths, plan.dropout, batched or dims == 2)
    if plan.slices:
        network = Slices(network, plan.slices)
    if plan.freeze:
        network.freeze()
    return network


def _joined(plan: "NetworkPlan") -> JoinedCNN:
    """Build a branch a channel of all widths but the last, and the joint block of that."""
    *own, last = plan.channels
    widths = [1, *own]
    # Of a batch in which some channels are lost no statistics are taken.
    branches: list[nn.Module] = [
        nn.Sequential(
            *(
                _block(plan.dims, a, b, first=i == 0, batched=False)
                for i, (a, b) in enumerate(pairwise(widths))
            )
        )
        for _ in range(plan.in_channels)
    ]
    joint = _block(plan.dims, own[-1], last, first=False, batched=False)
    return JoinedCNN(branches, joint, last, plan.n_classes, plan.dropout)


def _foreign(name: str) -> Any:
    module_name, _, function_name = name.partition(":")
    try:
        return getattr(import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"network {name!r} cannot be imported ({error}); "
            f"install its package or use one of {', '.join(NETWORKS)}"
        ) from error


def laid_out(network: nn.Module, plan: "NetworkPlan", device: torch.device) -> nn.Module:
    """Return the network on a device, its weights in the order that convolutions are fastest in.

    Of planes the channels stand last (a third faster on the CPU, and right for tensor cores), of a
    detector's volumes too (a third of the heads' time), and on the CPU of a volume's outlines (a
    quarter of a step of ``unet3d``, a third of ``nnunet3d``). Planes through a small shortcut stay
    as they are on the CPU, see `_overruns`.
    """
    network = network.to(device)
    if plan.dims == 2:
        if device.type == "cpu" and any(map(_overruns, network.modules())):
            return network
        return network.to(memory_format=torch.channels_last)
    outlines = plan.task == "segmentation" and device.type == "cpu"
    if plan.task == "detection" or outlines:
        return network.to(memory_format=torch.channels_last_3d)
    return network


def _overruns(layer: nn.Module) -> bool:
    """Return whether oneDNN would write beyond its memory for this layer, channels last.

    Its AVX-512 gradient of a strided 1 x 1 convolution takes 16 channels for granted: with fewer,
    the heap is torn, and the process ends at once, later, or not at all (oneDNN 3.12, torch 2.14).
    """
    strided = isinstance(layer, nn.Conv2d) and set(layer.kernel_size) == {1}
    return strided and max(layer.stride) > 1 and layer.in_channels < _LANES


def to_network(image: Tensor, dims: int) -> Tensor:
    """Return a batch (n, c, z, y, x) as the network takes it: without z when it is 2-D."""
    return image[:, :, 0] if dims == 2 else image
