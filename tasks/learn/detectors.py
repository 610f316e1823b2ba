"""Detectors behind one face: told what there is they return a loss, else what they find.

Volumes: MONAI's RetinaNet with the LUNA16 recipe of its tutorial (adaptive matching, hard
negatives). Pictures: torchvision's RetinaNet, Faster R-CNN and Mask R-CNN. All on `Pyramid`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tasks.learn.box_targets import Target
from tasks.learn.pyramid import Pyramid

if TYPE_CHECKING:
    from tasks.learn.plan import NetworkPlan

Losses = dict[str, Tensor]

IGNORED_OVERLAP = 0.1
"""An anchor with this intersection over union with an ignored box is no negative."""


@dataclass(frozen=True, eq=False)
class Found:
    """What a detector found in one patch; boxes as in `tasks.learn.box_targets.Target`."""

    box: Tensor
    score: Tensor
    label: Tensor
    """(b,) int64, class number from 0."""
    mask: Tensor | None = None
    """(b, y, x) float, how likely a pixel belongs to the finding, of Mask R-CNN."""


class Detector(nn.Module, ABC):
    """A detector of a plan."""

    def __init__(self, plan: "NetworkPlan") -> None:
        super().__init__()
        self.plan = plan

    @property
    @abstractmethod
    def pyramid(self) -> Pyramid:
        """The trunk."""

    @abstractmethod
    def losses(self, x: Tensor, targets: Sequence[Target]) -> Losses:
        """Return the parts of the loss, in training mode."""

    @abstractmethod
    def find(self, x: Tensor) -> list[Found]:
        """Return what is found in each image, in evaluation mode."""

    def forward(self, x: Tensor, targets: Sequence[Target] | None = None) -> Tensor | list[Found]:
        """Return the loss of a batch (n, c, [z,] y, x) where targets are told, else findings."""
        if targets is None:
            with torch.no_grad():
                return self.find(x)
        return torch.stack([loss.float() for loss in self.losses(x, targets).values()]).sum()

    def pooled_features(self, x: Tensor) -> Tensor:
        """Return what an input looks like to the trunk, (n, f)."""
        return self.pyramid.pooled_features(x)


def build_detector(plan: "NetworkPlan") -> Detector:
    """Build the untrained detector of a plan.

    Raises
    ------
    ValueError
        If the plan holds no levels and anchors.
    """
    if plan.detector is None:
        raise ValueError(f"{plan.network} needs anchors, the plan has none; plan it again")
    if plan.network == "retinanet3d":
        from tasks.learn.detectors_3d import VolumeRetinaNet

        return VolumeRetinaNet(plan)
    from tasks.learn.detectors_2d import PictureRCNN, PictureRetinaNet

    return (PictureRetinaNet if plan.network == "retinanet2d" else PictureRCNN)(plan)


def near_ignored(overlap: Any, anchors: Tensor, ignored: Tensor) -> Tensor:
    """Return which anchors (a,) bool lie on a box that is neither right nor wrong.

    ``overlap`` is the library's own intersection over union of two sets of boxes.
    """
    if not len(ignored):
        return torch.zeros(len(anchors), dtype=torch.bool, device=anchors.device)
    return (overlap(anchors, ignored.to(anchors)) >= IGNORED_OVERLAP).any(1)
