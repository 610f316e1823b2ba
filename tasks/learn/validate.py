"""How good a network is on the validation side of its fold, after each epoch."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tasks.evaluate.metrics import auroc
from tasks.evaluate.overlap import dice_per_class, region_dice
from tasks.labels.regions import Sets, regions_in
from tasks.learn.dataset import CaseSource, Images
from tasks.learn.infer import label_map, logits_of, slabs_of
from tasks.learn.loss import classification_loss
from tasks.learn.numbers import in_units, number_loss
from tasks.learn.plan import NetworkPlan

LEAST_PROBABILITY = 1e-7
"""Probabilities are raised to this before their logarithm."""


def validate(
    network: nn.Module,
    plan: NetworkPlan,
    source: CaseSource,
    val_ids: Sequence[str],
    targets: Mapping[str, float],
    device: torch.device,
    weights: Tensor | None,
    boxes: Mapping[str, Sequence[Sequence[float]]] | None = None,
) -> dict[str, float]:
    """Return ``val_loss`` and ``val_auroc``, ``val_dice``, ``val_ap`` or ``val_mae``.

    The loss of a classification is the weighted one that is trained; of a segmentation, the mean
    cross-entropy of the voxels, of regions the mean of their binary ones; of a regression that of
    training, in standard units; of a detection see `tasks.learn.box_figures`. Without two classes
    on the side AUROC is .5.
    """
    if plan.task == "detection":
        from tasks.learn.box_figures import validate_boxes

        return validate_boxes(network, plan, source, val_ids, boxes or {}, device)
    network.eval()
    if plan.task == "classification":
        logits = logits_of(network, plan, Images(source, val_ids), device)
        target = torch.tensor([targets[c] for c in val_ids])
        kept = None if weights is None else weights.cpu()
        loss = float(classification_loss(logits, target, kept))
        return {"val_loss": loss, "val_auroc": _auroc(target.numpy(), logits.softmax(1).numpy())}
    if plan.task == "regression":
        output = logits_of(network, plan, Images(source, val_ids), device)
        target = torch.tensor([targets[c] for c in val_ids], dtype=torch.float32)
        loss = number_loss(network, output.to(device), target.to(device), plan.loss)
        error = (in_units(network, output) - target).abs().mean()
        return {"val_loss": float(loss), "val_mae": float(error)}
    plain = plan.model_copy(update={"flip_tta": ()})
    dice, losses = [], []
    for case_id in val_ids:
        truth, cost = source.label(case_id), 0.0
        said = np.empty(truth.shape, np.uint8)
        for slab in slabs_of([network], plain, source.image(case_id), device):
            maps, planes = slab.maps.numpy(), slice(slab.start, slab.start + slab.maps.shape[1])
            said[planes] = label_map(maps, plan.regions)
            cost += _cross_entropy(maps, truth[planes], plan.regions)
        dice.append(
            region_dice(truth, said, plan.regions)[0]
            if plan.regions
            else dice_per_class(truth, said, plan.n_classes - 1)[0]
        )
        losses.append(cost / truth.size)
    return {"val_loss": float(np.mean(losses)), "val_dice": float(np.mean(dice))}


def _cross_entropy(maps: np.ndarray, truth: np.ndarray, regions: Sets) -> float:
    """Return the sum of the cross-entropy over voxels; of regions the mean of their binary ones."""
    if not regions:
        of_truth = np.take_along_axis(maps, truth[None].astype(np.int64), 0)
        return -float(np.log(np.maximum(of_truth, LEAST_PROBABILITY)).sum(dtype=np.float64))
    of_truth = np.where(regions_in(truth, regions), maps, 1 - maps)
    cost = np.log(np.maximum(of_truth, LEAST_PROBABILITY)).sum(dtype=np.float64)
    return -float(cost) / len(regions)


def _auroc(target: np.ndarray, probability: np.ndarray) -> float:
    """Return the AUROC, the mean of one against the rest where there are more than two classes."""
    columns = range(probability.shape[1]) if probability.shape[1] > 2 else [1]
    mixed = [c for c in columns if 0 < np.sum(target == c) < len(target)]
    values = [float(auroc(target == c, probability[:, c])) for c in mixed]
    return float(np.mean(values)) if values else 0.5
