"""How good findings are on the validation side of a fold, held against the labels' own boxes."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from tasks.evaluate.box_ap import average_box_precision, match_boxes
from tasks.evaluate.config import LEAST_OVERLAP
from tasks.evaluate.detections import Detections
from tasks.learn.box_targets import instances_of, targets_of
from tasks.learn.boxes import Findings, boxes_on, in_mm, rows_of
from tasks.learn.dataset import CaseSource
from tasks.learn.detect import detect, detector_alone
from tasks.learn.networks import to_network
from tasks.learn.plan import NetworkPlan

WATCHED = {2: 64, 3: 16}
"""Validation cases looked at after each epoch, evenly out of all; the fold's end looks at all. A
volume is many tiles: so the look costs less than the epoch."""

Boxes = Mapping[str, Sequence[Sequence[float]]]
"""Rows of `TrainingCase.boxes` by case id."""


def validate_boxes(
    network: nn.Module,
    plan: NetworkPlan,
    source: CaseSource,
    val_ids: Sequence[str],
    boxes: Boxes,
    device: torch.device,
) -> dict[str, float]:
    """Return ``val_loss`` and ``val_ap`` of at most `WATCHED` validation cases.

    The loss is that of one patch of each, around its first box. Without any box on the side the
    precision is 0.
    """
    watched = val_ids[:: -(-len(val_ids) // WATCHED[plan.dims])]
    # While the detector trains, its second look is untaught.
    plain = detector_alone(plan)
    losses = [_loss(network, plan, source, case_id, boxes[case_id], device) for case_id in watched]
    network.eval()
    found = [detect([network], plain, source.image(case_id), device) for case_id in watched]
    ap = average_precision(plan, source, watched, boxes, found)
    return {"val_loss": float(np.mean(losses)), "val_ap": ap}


def average_precision(
    plan: NetworkPlan,
    source: CaseSource,
    case_ids: Sequence[str],
    boxes: Boxes,
    found: Sequence[Findings],
) -> float:
    """Return the mean over the classes that occur of the average precision; 0 without a box.

    Parameters
    ----------
    plan : NetworkPlan
    source : CaseSource
        Gives each case's spacing and affine.
    case_ids : sequence of str
    boxes : mapping
        Of each case its true boxes.
    found : sequence of Findings
        In the order of ``case_ids``, in index coordinates of the images.
    """
    each = [
        float(average_box_precision(match_boxes(one, LEAST_OVERLAP[plan.dims])))
        for one in (
            _of_class(number, source, case_ids, boxes, found) for number in range(plan.n_classes)
        )
    ]
    each = [value for value in each if np.isfinite(value)]
    return float(np.mean(each)) if each else 0.0


def _of_class(
    number: int,
    source: CaseSource,
    case_ids: Sequence[str],
    boxes: Boxes,
    found: Sequence[Findings],
) -> Detections:
    """Return one class of findings and boxes, in mm along each case's own axes."""
    scans, findings, scores, places, lesions, away = [], [], [], [], [], []
    for scan, (case_id, said) in enumerate(zip(case_ids, found, strict=True)):
        affine = source.affine(case_id)
        of_class = said.take(said.label == number)
        rows = rows_of(boxes[case_id])
        rows = rows[rows[:, 0] == number]
        scans.append(np.full(len(of_class), scan))
        findings.append(in_mm(of_class.box, affine))
        scores.append(of_class.score)
        places.append(np.full(len(rows), scan))
        lesions.append(in_mm(boxes_on(rows, affine), affine))
        away.append(rows[:, 13] > 0)
    ids = tuple(case_ids)
    together = [np.concatenate(one) for one in (scans, findings, scores, places, lesions, away)]
    # Every case stands for itself: nothing here is an interval over patients.
    return Detections(ids, ids, *together)


def _loss(
    network: nn.Module,
    plan: NetworkPlan,
    source: CaseSource,
    case_id: str,
    boxes: Sequence[Sequence[float]],
    device: torch.device,
) -> float:
    shape = source.shape(case_id)
    centre = np.array(shape) / 2
    if len(boxes):
        centre = boxes_on(rows_of(boxes), source.affine(case_id))[0].mean(0)
    low, high = [], []
    for n, p, c in zip(shape, plan.patch, centre, strict=True):
        start = int(min(max(c - p // 2, 0), max(0, n - p)))
        low.append(start)
        high.append(min(n, start + p))
    image = source.patch(case_id, low, high).astype(np.float32)
    mask = source.label_patch(case_id, low, high)
    # At the end alone, so that nothing moves.
    margin = [(0, p - n) for n, p in zip(mask.shape, plan.patch, strict=True)]
    image = np.pad(image, [(0, 0)] * (image.ndim - 3) + margin)
    mask = torch.from_numpy(np.pad(mask, margin).astype(np.int32))
    x = torch.from_numpy(image.reshape(1, -1, *plan.patch)).to(device)
    whole = instances_of(case_id, source.label(case_id), boxes)
    network.train()
    with torch.no_grad():
        target = targets_of(mask[None].to(device), [whole], [{}], plan.dims)
        return float(network(to_network(x, plan.dims), target))
