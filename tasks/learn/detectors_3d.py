"""MONAI's RetinaNet for volumes, with focal loss or the hard negatives of its LUNA16 tutorial."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.apps.detection.networks.retinanet_network import RetinaNet
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
from monai.data.box_utils import box_iou
from torch import Tensor, stack
from torchvision.ops import sigmoid_focal_loss

from tasks.learn.box_targets import Target
from tasks.learn.detectors import Detector, Found, Losses, near_ignored
from tasks.learn.pyramid import Pyramid
from tasks.learn.second_look import SecondLook

if TYPE_CHECKING:
    from tasks.learn.plan import NetworkPlan

ATSS_CANDIDATES = 4
"""Places of each map that may answer for a box (LUNA16 recipe)."""

SAMPLER = {"batch_size_per_image": 64, "positive_fraction": 0.3, "min_neg": 16, "pool_size": 20}
"""Anchors of a patch the loss is taken of where the plan has hard negatives (LUNA16 recipe)."""

FOCUS = {"alpha": 0.25, "gamma": 2.0}
"""Of the focal loss (Lin et al. 2017)."""

BEFORE_SUPPRESSION = 1000
"""Findings of a map that overlaps are sorted out of."""


class VolumeRetinaNet(Detector):
    """RetinaNet of volumes."""

    def __init__(self, plan: "NetworkPlan") -> None:
        super().__init__(plan)
        chosen = plan.detector
        anchors = AnchorGeneratorWithAnchorShape(
            feature_map_scales=[2**n for n in range(len(chosen.levels))],
            base_anchor_shapes=chosen.anchors,
        )
        network = RetinaNet(
            spatial_dims=3,
            num_classes=plan.n_classes,
            num_anchors=len(chosen.anchors),
            feature_extractor=Pyramid(plan),
            size_divisible=plan.divisor,
        )
        for head in (network.classification_head, network.regression_head):
            # Each convolution has its normalisation and its rectifier; MONAI makes four.
            head.conv = head.conv[: 3 * chosen.head_convs]
        self.detector = (_WithIgnored if chosen.hard_negatives else _Focal)(network, anchors)
        self.detector.set_atss_matcher(ATSS_CANDIDATES, center_in_gt=False)
        if chosen.hard_negatives:
            self.detector.set_hard_negative_sampler(**SAMPLER)
        self.detector.set_box_selector_parameters(
            score_thresh=chosen.least_score, topk_candidates_per_level=BEFORE_SUPPRESSION,
            nms_thresh=chosen.overlap, detections_per_img=chosen.max_findings,
        )  # fmt: skip
        # Made last: a detector begins with the same numbers with it and without.
        self.second = SecondLook(plan) if chosen.second_look else None

    @property
    def pyramid(self) -> Pyramid:
        """The trunk."""
        return self.detector.network.feature_extractor

    def losses(self, x: Tensor, targets: Sequence[Target]) -> Losses:
        """Return the losses of classes and of boxes."""
        said = [{"boxes": t.box, "labels": t.label, "ignored": t.ignored} for t in targets]
        # On the device, for MONAI makes the loss of no box on the CPU.
        return {name: loss.to(x.device) for name, loss in self.detector(x, said).items()}

    def find(self, x: Tensor) -> list[Found]:
        """Return what is found in each volume."""
        return [Found(one["boxes"], one["labels_scores"], one["labels"])
                for one in self.detector(x)]  # fmt: skip


class _WithIgnored(RetinaNetDetector):
    """Takes neither as right nor as wrong what lies on an ignored box, and leaves no box alone.

    Adaptive matching asks for more than mean and standard deviation of the candidates' overlaps.
    Where half of them are alike and the other half too, none is so much: then the best one serves.
    """

    def compute_anchor_matched_idxs(
        self,
        anchors: list[Tensor],
        targets: list[dict[str, Tensor]],
        num_anchor_locs_per_level: Sequence[int],
    ) -> list[Tensor]:
        with warnings.catch_warnings():
            # MONAI would tell the boxes; what it warns of is mended below.
            warnings.filterwarnings("ignore", message="No anchor is matched")
            matched = super().compute_anchor_matched_idxs(
                anchors, targets, num_anchor_locs_per_level
            )
        for rows, of_image, target in zip(matched, anchors, targets, strict=True):
            ignored = near_ignored(box_iou, of_image, target["ignored"])
            rows[(rows < 0) & ignored] = self.proposal_matcher.BETWEEN_THRESHOLDS
            _match_the_lonely(rows, of_image, target["boxes"])
        return matched


class _Focal(_WithIgnored):
    """Learns from every anchor, the more from one the more wrong it is.

    Of hard negatives alone each step sees the few anchors that are above all others. While nothing
    is told apart, whatever sets a nodule off lifts the next few, and all scores come to rest on the
    share of right ones among the sampled.
    """

    def compute_cls_loss(
        self, cls_logits: Tensor, targets: list[dict[str, Tensor]], matched_idxs: list[Tensor]
    ) -> Tensor:
        parts = []
        for logits, target, rows in zip(cls_logits, targets, matched_idxs, strict=True):
            # Without a sampler MONAI leaves out what lies on an ignored box, and nothing else.
            said, truth = self.get_cls_train_sample_per_image(logits, target, rows)
            parts.append(sigmoid_focal_loss(said, truth, **FOCUS, reduction="sum"))
        # A share of the batch's right anchors, as in the paper: a patch without any has its say.
        right = sum(int((rows >= 0).sum()) for rows in matched_idxs)
        return stack(parts).sum() / max(1, right)


def _match_the_lonely(rows: Tensor, anchors: Tensor, boxes: Tensor) -> None:
    """Give each box without an anchor, in place, the one that overlaps it most."""
    for number in set(range(len(boxes))) - set(rows.unique().tolist()):
        overlap = box_iou(boxes[number : number + 1], anchors.to(boxes))[0]
        # An anchor that another box has stays with it.
        free = overlap.masked_fill(rows.to(overlap.device) >= 0, -1)
        rows[free.argmax()] = number
