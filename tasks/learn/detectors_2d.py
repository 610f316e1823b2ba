"""torchvision's detectors for pictures, on a small trunk and without resizing or weights.

Boxes of torchvision are (x, y, x, y); ours follow the axes, (y, x, y, x).
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNN, MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign, box_iou

from tasks.learn.box_targets import Target
from tasks.learn.detectors import Detector, Found, Losses, near_ignored
from tasks.learn.pyramid import Pyramid, group_norm

if TYPE_CHECKING:
    from tasks.learn.plan import NetworkPlan

_SWAPPED = [1, 0, 3, 2]
"""Columns of a box with x and y exchanged."""

PROPOSALS = {"training": 512, "testing": 300}
"""Places of an image that the second stage looks at; torchvision's 2000 and 1000 are a GPU's."""

ROIS = 128
"""Of those, how many of an image the loss is taken of."""

PROPOSAL_OVERLAP = (0.3, 0.5)
"""An anchor is background below the first and a finding above the second; torchvision's .7 leaves
thin boxes without an anchor."""

ROI_SIDE, MASK_SIDE = 7, 14
"""Samples along a side that the heads of boxes and of masks see of a place."""


class PictureRetinaNet(Detector):
    """RetinaNet with focal loss (Lin et al. 2017)."""

    def __init__(self, plan: "NetworkPlan") -> None:
        super().__init__(plan)
        chosen, trunk = plan.detector, Pyramid(plan)
        head = RetinaNetHead(
            trunk.out_channels, len(chosen.anchors), plan.n_classes, norm_layer=group_norm
        )
        self.detector = _WithIgnored(
            trunk, plan.n_classes, anchor_generator=_Anchors(plan), head=head,
            score_thresh=chosen.least_score, nms_thresh=chosen.overlap,
            detections_per_img=chosen.max_findings,
        )  # fmt: skip
        self.detector.transform = _AsIs(plan)

    @property
    def pyramid(self) -> Pyramid:
        """The trunk."""
        return self.detector.backbone

    def losses(self, x: Tensor, targets: Sequence[Target]) -> Losses:
        """Return the losses of classes and of boxes."""
        said = [{"boxes": t.box[:, _SWAPPED], "labels": t.label,
                 "ignored": t.ignored[:, _SWAPPED]} for t in targets]  # fmt: skip
        return self.detector(list(x), said)

    def find(self, x: Tensor) -> list[Found]:
        """Return what is found in each picture."""
        return [Found(one["boxes"][:, _SWAPPED], one["scores"], one["labels"])
                for one in self.detector(list(x))]  # fmt: skip


class PictureRCNN(Detector):
    """Faster R-CNN (Ren et al. 2015), and with outlines Mask R-CNN (He et al. 2017).

    Boxes that are neither right nor wrong are background to it: torchvision has no place for them.
    """

    def __init__(self, plan: "NetworkPlan") -> None:
        super().__init__(plan)
        chosen, trunk = plan.detector, Pyramid(plan)
        names = [str(n) for n in range(len(chosen.levels))]
        width = 4 * trunk.out_channels
        align = partial(MultiScaleRoIAlign, featmap_names=names, sampling_ratio=2)
        low, high = PROPOSAL_OVERLAP
        settings: dict[str, Any] = {
            "rpn_anchor_generator": _Anchors(plan),
            "rpn_pre_nms_top_n_train": 2 * PROPOSALS["training"],
            "rpn_post_nms_top_n_train": PROPOSALS["training"],
            "rpn_pre_nms_top_n_test": 2 * PROPOSALS["testing"],
            "rpn_post_nms_top_n_test": PROPOSALS["testing"],
            "rpn_fg_iou_thresh": high,
            "rpn_bg_iou_thresh": low,
            "box_roi_pool": align(output_size=ROI_SIDE),
            "box_head": TwoMLPHead(trunk.out_channels * ROI_SIDE**2, width),
            # Class 0 is the background.
            "box_predictor": FastRCNNPredictor(width, plan.n_classes + 1),
            "box_score_thresh": chosen.least_score,
            "box_nms_thresh": chosen.overlap,
            "box_detections_per_img": chosen.max_findings,
            "box_batch_size_per_image": ROIS,
        }
        if plan.network == "maskrcnn":
            wide = trunk.out_channels
            settings |= {
                "mask_roi_pool": align(output_size=MASK_SIDE),
                "mask_head": MaskRCNNHeads(wide, (wide,) * 2, 1),
                "mask_predictor": MaskRCNNPredictor(wide, wide, plan.n_classes + 1),
            }
        kind = MaskRCNN if plan.network == "maskrcnn" else FasterRCNN
        self.detector = kind(trunk, **settings)
        self.detector.transform = _AsIs(plan)

    @property
    def pyramid(self) -> Pyramid:
        """The trunk."""
        return self.detector.backbone

    def losses(self, x: Tensor, targets: Sequence[Target]) -> Losses:
        """Return the losses of both stages."""
        said = [{"boxes": t.box[:, _SWAPPED], "labels": t.label + 1, "masks": t.mask}
                for t in targets]  # fmt: skip
        return self.detector(list(x), said)

    def find(self, x: Tensor) -> list[Found]:
        """Return what is found in each picture."""
        return [
            Found(
                one["boxes"][:, _SWAPPED],
                one["scores"],
                one["labels"] - 1,
                one["masks"][:, 0] if "masks" in one else None,
            )
            for one in self.detector(list(x))
        ]


class _WithIgnored(RetinaNet):
    """Takes neither as right nor as wrong what lies on an ignored box."""

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
    ) -> Losses:
        matched = []
        for of_image, target in zip(anchors, targets, strict=True):
            if len(target["boxes"]):
                rows = self.proposal_matcher(box_iou(target["boxes"], of_image))
            else:
                rows = torch.full((len(of_image),), -1, device=of_image.device)
            away = (rows < 0) & near_ignored(box_iou, of_image, target["ignored"])
            rows[away] = self.proposal_matcher.BETWEEN_THRESHOLDS
            matched.append(rows)
        return self.head.compute_loss(targets, head_outputs, anchors, matched)


class _Anchors(AnchorGenerator):
    """The plan's anchors, twice as large on each coarser map."""

    def __init__(self, plan: "NetworkPlan") -> None:
        super().__init__()
        sides = torch.tensor([[x, y] for _, y, x in plan.detector.anchors])
        corners = torch.cat([-sides, sides], dim=1) / 2
        self.cell_anchors = [corners * 2**n for n in range(len(plan.detector.levels))]

    def num_anchors_per_location(self) -> list[int]:
        return [len(one) for one in self.cell_anchors]


class _AsIs(GeneralizedRCNNTransform):
    """Pads pictures to what the trunk can halve, and changes nothing else: the recipe did."""

    def __init__(self, plan: "NetworkPlan") -> None:
        size, channels = max(plan.patch), plan.in_channels
        super().__init__(
            size, size, [0.0] * channels, [1.0] * channels, size_divisible=max(plan.divisor)
        )

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        return image, target
