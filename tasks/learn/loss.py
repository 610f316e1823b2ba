"""What training makes small, and the weights that keep a rare class in sight."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    interpolate,
    one_hot,
)

DICE_SMOOTH = 1e-5
"""Added to both sides of the Dice quotient (nnU-Net); an absent class then costs nothing."""


def class_weights(targets: Sequence[int], n_classes: int) -> np.ndarray:
    """Return weights (k,) inverse to the class counts, of mean 1 over the samples.

    Raises
    ------
    ValueError
        If a class has no training sample.
    """
    counts = np.bincount(np.asarray(targets, dtype=int), minlength=n_classes)
    if (empty := np.flatnonzero(counts == 0)).size:
        raise ValueError(
            f"class {int(empty[0])} of {n_classes} has no training case in this fold; "
            "use fewer folds or fewer classes"
        )
    return len(targets) / (n_classes * counts)


def classification_loss(logits: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
    """Return the (weighted) cross-entropy of logits (n, k) and classes (n,)."""
    return cross_entropy(logits.float(), target, weight=weights)


def segmentation_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return Dice loss of the foreground classes plus cross-entropy, one to one (nnU-Net).

    Parameters
    ----------
    logits : Tensor, (n, k, ...)
    target : Tensor, (n, ...) int
        Class numbers, 0 the background.
    """
    logits = logits.float()
    probability = logits.softmax(1)
    truth = one_hot(target, logits.shape[1]).movedim(-1, 1).to(probability.dtype)
    axes = (0, *range(2, logits.ndim))
    # Summed over the batch: a patch without a class does not swing the quotient.
    both = (probability * truth).sum(axes)[1:]
    each = (probability.sum(axes) + truth.sum(axes))[1:]
    dice = (2 * both + DICE_SMOOTH) / (each + DICE_SMOOTH)
    return 1 - dice.mean() + cross_entropy(logits, target)


def region_loss(logits: Tensor, target: Tensor, regions: Sequence[Sequence[int]]) -> Tensor:
    """Return Dice loss plus binary cross-entropy of overlapping regions, one to one.

    nnU-Net v2's loss of region-based training: every region is a yes or no of its own.

    Parameters
    ----------
    logits : Tensor, (n, r, ...)
    target : Tensor, (n, ...) int
        Class numbers, 0 the background.
    regions : r sequences of int
        Class numbers of each region.
    """
    logits = logits.float()
    truth = torch.stack([_within(target, values) for values in regions], 1).to(logits.dtype)
    probability = logits.sigmoid()
    axes = (0, *range(2, logits.ndim))
    both, each = (probability * truth).sum(axes), probability.sum(axes) + truth.sum(axes)
    dice = (2 * both + DICE_SMOOTH) / (each + DICE_SMOOTH)
    return 1 - dice.mean() + binary_cross_entropy_with_logits(logits, truth)


def _within(target: Tensor, values: Sequence[int]) -> Tensor:
    return torch.isin(target, torch.tensor(values, device=target.device))


def supervised_loss(
    maps: Tensor | Sequence[Tensor], target: Tensor, regions: Sequence[Sequence[int]] = ()
) -> Tensor:
    """Return the segmentation loss, of deep supervision the weighted mean over the sizes.

    Parameters
    ----------
    maps : Tensor or sequence of Tensor, (n, k, ...)
        Logits; of several sizes the full one first. Weights are 1, 1/2, 1/4, ... over their sum,
        and targets of smaller sizes are taken by nearest neighbour (nnU-Net).
    target : Tensor, (n, ...) int
        Of the full size.
    regions : sequence of sequences of int, optional
        Class numbers of each region, where these are trained instead of the classes.
    """

    def loss_of(one: Tensor, truth: Tensor) -> Tensor:
        return region_loss(one, truth, regions) if regions else segmentation_loss(one, truth)

    if isinstance(maps, Tensor):
        return loss_of(maps, target)
    share = np.array([0.5**i for i in range(len(maps))])
    losses = [loss_of(one, _as_large(target, one)) for one in maps]
    return sum(float(w) * loss for w, loss in zip(share / share.sum(), losses, strict=True))


def _as_large(target: Tensor, maps: Tensor) -> Tensor:
    if target.shape[1:] == maps.shape[2:]:
        return target
    size = maps.shape[2:]
    return interpolate(target[:, None].float(), size=size, mode="nearest-exact")[:, 0].long()


def learning_rate(schedule: str, top: float, progress: float) -> float:
    """Return the learning rate at a share of the training, a pure function so that it resumes.

    Parameters
    ----------
    schedule : str
        ``one_cycle`` (Smith 2018: warm up over a quarter, then cosine to nothing), ``cosine`` or
        ``poly`` (power .9, nnU-Net).
    top : float
        Largest rate.
    progress : float
        Steps done over all steps, in [0, 1).
    """
    if schedule == "poly":
        return top * (1 - progress) ** POLY_POWER
    if schedule == "cosine":
        return top * 0.5 * (1 + float(np.cos(np.pi * progress)))
    if progress < WARM_UP:
        low = top / WARM_UP_FROM
        return low + (top - low) * 0.5 * (1 - float(np.cos(np.pi * progress / WARM_UP)))
    return top * 0.5 * (1 + float(np.cos(np.pi * (progress - WARM_UP) / (1 - WARM_UP))))


POLY_POWER = 0.9
"""Exponent of the polynomial schedule (nnU-Net)."""

WARM_UP = 0.25
"""Share of a one-cycle training in which the rate rises."""

WARM_UP_FROM = 25.0
"""The one-cycle rate starts at the top over this."""


def make_optimizer(
    network: torch.nn.Module, name: str, rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Return AdamW, or SGD with Nesterov momentum .99 (nnU-Net); norms and biases do not decay."""
    decayed = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    kept = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=0.99, nesterov=True)
    return torch.optim.AdamW(groups, lr=rate)
