"""Images of several channels in training: which of them a sample has, and which it loses.

Modality dropout (Neverova et al., IEEE TPAMI 38, 2016): a network that sometimes trains without a
sequence does not break where a patient has none.  A lost channel is zeros, exactly as a missing one
is stored, and stays so under augmentation.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from tasks.learn.plan import NetworkPlan

_STREAM = 2
"""Keeps these draws apart from those of patches, orders and augmentation."""


def kept_channels(
    present: Sequence[Sequence[bool]],
    plan: "NetworkPlan",
    numbers: Sequence[tuple[int, int, int]],
) -> Tensor:
    """Return which channels each sample of a batch keeps, (n, c) bool.

    Parameters
    ----------
    present : n sequences of bool
        Which channels each sample's case has.
    plan : NetworkPlan
        Each channel of ``droppable`` is lost with its ``modality_dropout``.
    numbers : sequence of (seed, epoch, number)
        The same sample loses the same channels whenever it is asked for.
    """
    kept = np.array(present, dtype=bool)
    for row, (seed, epoch, number) in zip(kept, numbers, strict=True):
        drawn = np.random.default_rng([seed, epoch, number, _STREAM]).random(len(plan.droppable))
        row[[plan.droppable[i] for i in np.flatnonzero(drawn < plan.modality_dropout)]] = False
    return torch.from_numpy(kept)


def without_missing(image: Tensor, kept: Tensor | None) -> Tensor:
    """Return a batch (n, c, z, y, x) with zeros where a channel is missing or lost.

    After augmentation: brightness and noise would make something of nothing.
    """
    if kept is None:
        return image
    return image * kept.to(image.device)[:, :, None, None, None]
