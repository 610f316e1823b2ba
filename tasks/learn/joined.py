"""A classifier with a branch a channel, joined by the mean over the channels that are there.

Source of the method: HeMIS (Havaei et al. 2016, "Hetero-modal image segmentation"): every sequence
is brought into one space of maps by convolutions of its own, and their mean is what is gone on
with, over as many as there are.  With modality dropout (Neverova et al. 2016) in training, the rest
of the network has seen every set of sequences.
"""

import torch
from torch import Tensor, nn

from tasks.learn.classifiers import Classifier


class JoinedCNN(Classifier):
    """Blocks of convolutions a channel, their mean, one more block, pooling and a linear layer.

    A channel that is zeros everywhere is missing: so it is stored, and so modality dropout leaves
    it.  Its branch has no part in the mean.

    Parameters
    ----------
    branches : sequence of Module
        One a channel, of the same widths; each takes (n, 1, ...) and ends in maps (n, f, ...).
    joint : Module
        What the mean goes through.
    width : int
        Maps it gives.
    n_classes : int
    dropout : float
    """

    def __init__(
        self,
        branches: list[nn.Module],
        joint: nn.Module,
        width: int,
        n_classes: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.joint = joint
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width, n_classes)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Return the joined maps, and those of the last block."""
        there = present(x)
        each = torch.stack([one(x[:, i : i + 1]) for i, one in enumerate(self.branches)], dim=1)
        share = there / there.sum(1, keepdim=True).clamp_min(1)
        share = share.to(each.dtype).reshape(*share.shape, *(1,) * (each.ndim - 2))
        mean = (share * each).sum(1)
        return [mean, self.joint(mean)]

    def pool(self, last: Tensor) -> Tensor:
        """Return mean and maximum of the last block's maps, (n, 2 f)."""
        return torch.cat([last.flatten(2).mean(-1), last.flatten(2).amax(-1)], dim=1)

    def pooled_features(self, x: Tensor) -> Tensor:
        """Return the mean of every joined and last map, (n, f): what an input looks like to us."""
        return torch.cat([m.flatten(2).mean(-1) for m in self.maps(x)], dim=1)


def present(x: Tensor) -> Tensor:
    """Return which channels of a batch (n, c, ...) are there, (n, c) of 0 and 1."""
    return x.flatten(2).abs().amax(-1).gt(0).to(torch.float32)
