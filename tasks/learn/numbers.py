"""Networks that estimate a number: they train in standard units and answer in the label's own.

Mean and standard deviation of the training side lie in the network as buffers, so they are kept
with its weights, are of its fold alone, and cannot be forgotten when it is asked.
"""

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, smooth_l1_loss

if TYPE_CHECKING:
    from tasks.learn.plan import NetworkPlan

CENTRE, SCALE = "number_centre", "number_scale"
"""Names of the buffers, of a network with one output."""

LOSSES = {"smooth_l1": smooth_l1_loss, "mse": mse_loss}


def check_numbers(targets: Sequence[float | None]) -> None:
    """Refuse cases without a finite number."""
    wrong = [one for one in targets if one is None or not math.isfinite(one)]
    if wrong:
        raise ValueError(
            f"{len(wrong)} cases have no finite number; attach their labels or leave them out"
        )


def add_scaler(network: nn.Module) -> nn.Module:
    """Give a network the buffers of its scaler, which change nothing yet."""
    network.register_buffer(CENTRE, torch.zeros(()))
    network.register_buffer(SCALE, torch.ones(()))
    return network


def fit_scaler(network: nn.Module, targets: Sequence[float]) -> None:
    """Set the scaler from the training side.

    Raises
    ------
    ValueError
        When all numbers are the same: nothing can be learned from them.
    """
    values = np.asarray(targets, dtype=np.float64)
    scale = float(values.std())
    if not scale > 0:
        raise ValueError(
            f"all {len(values)} training cases of a fold have the same number; use fewer folds or "
            "look at the labels"
        )
    getattr(network, CENTRE).fill_(float(values.mean()))
    getattr(network, SCALE).fill_(scale)


def number_loss(network: nn.Module, output: Tensor, target: Tensor, loss: str) -> Tensor:
    """Return the loss of outputs (n, 1) in standard units and targets (n,) in the label's."""
    wanted = (target - getattr(network, CENTRE)) / getattr(network, SCALE)
    return LOSSES[loss](output.float()[:, 0], wanted)


def in_units(network: nn.Module, output: Tensor) -> Tensor:
    """Return numbers (n,) in the label's unit of outputs (n, 1)."""
    scale, centre = (getattr(network, name).to(output.device) for name in (SCALE, CENTRE))
    return output.float()[:, 0] * scale + centre


def estimate(
    networks: Sequence[nn.Module],
    plan: "NetworkPlan",
    images: Sequence[np.ndarray],
    device: torch.device,
) -> np.ndarray:
    """Return the mean number over networks and mirrorings, in the label's unit, (n, 1) float64.

    Parameters are those of `tasks.learn.infer.classify`.
    """
    from tasks.learn.device import mixed_precision
    from tasks.learn.infer import image_batches, mirrorings
    from tasks.learn.networks import to_network

    rows, ways = [], mirrorings(plan)
    with torch.inference_mode(), mixed_precision(device):
        for x in image_batches(plan, images):
            total = torch.zeros(len(x), dtype=torch.float64)
            for network, axes in itertools.product(networks, ways):
                seen = to_network(x.to(device).flip(axes) if axes else x.to(device), plan.dims)
                total += in_units(network, network(seen)).cpu()
            rows.append(total / (len(networks) * len(ways)))
    return torch.cat(rows).numpy()[:, None]
