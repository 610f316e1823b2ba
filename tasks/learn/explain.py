"""Where a classifier looks: Grad-CAM, integrated gradients and occlusion, by Captum.

All explain the log-odds of one class against the others, which a number added to every logit leaves
as it is; of a regression the number itself, in standard units. Guided variants are left out: they
keep their look when the weights are ruined.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tasks.learn.infer import as_input
from tasks.learn.networks import to_network
from tasks.learn.plan import NetworkPlan

METHODS = ("grad_cam", "integrated_gradients", "occlusion")

IG_STEPS = 32
"""Points of the path's integral (Gauss-Legendre)."""

IG_BATCH = 16
OCCLUDED_AT_ONCE = 32
"""Samples a pass takes; they bound memory."""

WINDOWS = {2: (8, 16), 3: (4, 4)}
"""By dimensions: windows that fit a side, and steps a side. A volume's are large, or there would be
thousands."""

STAGES = 5
"""Steps in which a network's weights are ruined, from the output inwards."""


def explain(
    method: str,
    networks: Sequence[nn.Module],
    plan: NetworkPlan,
    image: np.ndarray,
    class_index: int,
    device: torch.device,
) -> np.ndarray:
    """Return where networks see a class, or what raises a number: the mean of their scaled maps.

    Each network's map is scaled to at most 1.

    Parameters
    ----------
    method : one of `METHODS`
    networks : sequence of Module
        In evaluation mode, on ``device``.
    plan : NetworkPlan
    image : ([c,] z, y, x) array
        After the recipe.
    class_index : int
    device : torch.device

    Returns
    -------
    (z, y, x) float32 in [-1, 1]
        Positive where the image speaks for the class or makes the number larger; Grad-CAM shows
        nothing else. Of several channels their sum.
    """
    x, shape = to_network(as_input(image).to(device), plan.dims), image.shape[-3:]
    total = np.zeros(shape, np.float64)
    for network in networks:
        looked = _MAPS[method](network, x, class_index).detach()
        whole = looked.sum(1).reshape(shape).cpu().numpy().astype(np.float64)
        total += whole / max(np.abs(whole).max(), 1e-12)
    return (total / len(networks)).astype(np.float32)


def log_odds(network: nn.Module, class_index: int) -> Callable[[Tensor], Tensor]:
    """Return a function from images (n, c, ...) to the log-odds (n,) of a class.

    Of a network with one output, which estimates a number, to that output.
    """

    def odds(x: Tensor) -> Tensor:
        logits = network(x).float()
        if logits.shape[1] == 1:
            return logits[:, 0]
        others = [i for i in range(logits.shape[1]) if i != class_index]
        return logits[:, class_index] - torch.logsumexp(logits[:, others], dim=1)

    return odds


def _grad_cam(network: nn.Module, x: Tensor, class_index: int) -> Tensor:
    from captum.attr import LayerAttribution, LayerGradCam

    layer = last_maps(network, x)
    cam = LayerGradCam(log_odds(network, class_index), layer)
    seen = cam.attribute(x, relu_attributions=True)
    mode = "bilinear" if x.ndim == 4 else "trilinear"
    return LayerAttribution.interpolate(seen, tuple(x.shape[2:]), interpolate_mode=mode)


def _integrated_gradients(network: nn.Module, x: Tensor, class_index: int) -> Tensor:
    from captum.attr import IntegratedGradients

    # Of each channel its own: one that is missing is zeros, and stays so along the path.
    air = x.amin(tuple(range(2, x.ndim)), keepdim=True).expand_as(x).contiguous()
    ways = IntegratedGradients(log_odds(network, class_index), multiply_by_inputs=True)
    return ways.attribute(x, air, n_steps=IG_STEPS, internal_batch_size=IG_BATCH)


def _occlusion(network: nn.Module, x: Tensor, class_index: int) -> Tensor:
    from captum.attr import Occlusion

    fit, steps = WINDOWS[x.ndim - 2]
    sides = x.shape[2:]
    window = tuple(max(1, math.ceil(n / fit)) for n in sides)
    stride = tuple(max(1, min(w, n // steps)) for w, n in zip(window, sides, strict=True))
    channels = x.shape[1]
    return Occlusion(log_odds(network, class_index)).attribute(
        x,
        sliding_window_shapes=(channels, *window),
        strides=(channels, *stride),
        baselines=x.mean(tuple(range(2, x.ndim)), keepdim=True).expand_as(x).contiguous(),
        perturbations_per_eval=OCCLUDED_AT_ONCE,
    )


_MAPS: dict[str, Callable[[nn.Module, Tensor, int], Tensor]] = {
    "grad_cam": _grad_cam,
    "integrated_gradients": _integrated_gradients,
    "occlusion": _occlusion,
}


def last_maps(network: nn.Module, x: Tensor) -> nn.Module:
    """Return the last module whose output still has places: maps of more than one pixel.

    Raises
    ------
    ValueError
        If there is none.
    """
    last = None
    for module, output in _outputs(network, x):
        places = math.prod(output.shape[2:]) if output.ndim == x.ndim else 0
        if places > 1 and module is not network:
            last = module
    if last is None:
        raise ValueError("the network has no maps with places: Grad-CAM cannot explain it")
    return last


def _outputs(network: nn.Module, x: Tensor) -> list[tuple[nn.Module, Tensor]]:
    """Return the modules in the order in which they end, each with what it last gave."""
    found: list[tuple[nn.Module, Tensor]] = []

    def keep(module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            found.append((module, output))

    handles = [module.register_forward_hook(keep) for module in network.modules()]
    try:
        with torch.no_grad():
            network(x)
    finally:
        for handle in handles:
            handle.remove()
    return found


def ruined(network: nn.Module, x: Tensor, seed: int) -> Iterator[nn.Module]:
    """Give copies of a network whose weights are drawn anew, more of them in each.

    The cascade runs from the output inwards in `STAGES` steps; the last copy has learned nothing.

    Parameters
    ----------
    network : Module
    x : Tensor (n, c, ...)
        An input, which tells the order of the layers.
    seed : int
    """
    copied = copy.deepcopy(network)
    layers = [m for m, _ in _outputs(copied, x) if any(True for _ in m.parameters(recurse=False))]
    layers = list(dict.fromkeys(reversed(layers)))
    groups = [list(part) for part in np.array_split(np.arange(len(layers)), STAGES)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for group in groups:
            for number in group:
                _redraw(layers[number])
            yield copied


def _redraw(layer: nn.Module) -> None:
    if hasattr(layer, "reset_parameters"):
        layer.reset_parameters()
        return
    with torch.no_grad():
        for numbers in layer.parameters(recurse=False):
            numbers.copy_(numbers.flatten()[torch.randperm(numbers.numel())].view_as(numbers))
