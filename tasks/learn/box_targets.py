"""What a detector should find in a patch: boxes read off the augmented instance mask.

As nnDetection does it (Baumgartner et al. 2021): whatever moves the mask moves the boxes, and a
box stays as tight as the mask. Instance i of a case, its voxels having value i in the mask, is row
i - 1 of the case's boxes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.learn.boxes import boxes_of_instances, rows_of

LEAST_INSIDE = 0.5
"""Share of an instance's voxels that a patch must hold for it to be wanted there."""


@dataclass(frozen=True, eq=False)
class Instances:
    """The instances of a case, in the order of their numbers."""

    label: np.ndarray
    """(b,) int64, class number from 0."""
    irrelevant: np.ndarray
    """(b,) bool: finding or missing it counts for nothing."""
    voxels: np.ndarray
    """(b,) int64, voxels of each in the whole mask."""


@dataclass(frozen=True, eq=False)
class Target:
    """What is to be found in one patch, on the network's device.

    Boxes are (b, 2 d): lowest corner, then highest, each in the order of the patch's axes, where
    voxel i reaches from i to i + 1.
    """

    box: Tensor
    label: Tensor
    """(b,) int64, class number from 0."""
    ignored: Tensor
    """(m, 2 d): neither right nor wrong, irrelevant or for the most part outside."""
    mask: Tensor
    """(b, [z,] y, x) uint8, what of each is seen."""


def instances_of(case_id: str, mask: np.ndarray, boxes: Sequence[Sequence[float]]) -> Instances:
    """Return the instances of a case.

    Parameters
    ----------
    case_id : str
    mask : (z, y, x) int
    boxes : sequence of 14 numbers
        Rows of `TrainingCase.boxes`.

    Raises
    ------
    ValueError
        If the mask holds an instance that has no row.
    """
    numbers, count = np.unique(mask[mask > 0], return_counts=True)
    if len(numbers) and numbers[-1] > len(boxes):
        raise ValueError(
            f"the mask of case {case_id[:12]} holds instance {numbers[-1]}, its labels have "
            f"{len(boxes)} boxes; preprocess its labels again"
        )
    rows = rows_of(boxes)
    voxels = np.zeros(len(rows), np.int64)
    voxels[numbers.astype(np.int64) - 1] = count
    return Instances(rows[:, 0].astype(np.int64), rows[:, 13] > 0, voxels)


def targets_of(
    mask: Tensor, instances: Sequence[Instances], params: Sequence[Mapping[str, Any]], dims: int
) -> list[Target]:
    """Return what is to be found in each patch of a batch.

    Parameters
    ----------
    mask : Tensor, (n, z, y, x) int
        After augmentation.
    instances : sequence of Instances
        Of each patch's case.
    params : sequence of dict
        What augmentation did to each patch.
    dims : int
        2 for a network of pictures.
    """
    return [
        _target(one, of_case, zoom_of(how), dims)
        for one, of_case, how in zip(mask, instances, params, strict=True)
    ]


def zoom_of(params: Mapping[str, Any]) -> float:
    """Return how many voxels one voxel has become."""
    if "affine" not in params:
        return 1.0
    # The matrix maps what comes out to what went in.
    return 1 / abs(float(np.linalg.det(np.array(params["affine"])[:, :3])))


def _target(mask: Tensor, instances: Instances, zoom: float, dims: int) -> Target:
    mask = mask.to(torch.int64)
    seen = mask.cpu().numpy()
    numbers, box = boxes_of_instances(seen)
    row = numbers - 1
    count = np.array([np.count_nonzero(seen == n) for n in numbers])
    inside = count >= LEAST_INSIDE * zoom * instances.voxels[row]
    wanted = inside & ~instances.irrelevant[row]
    flat = torch.as_tensor(box_of_network(box, dims), dtype=torch.float32, device=mask.device)
    chosen = torch.as_tensor(wanted, device=mask.device)
    kept = torch.as_tensor(numbers[wanted], device=mask.device)
    shown = mask[0] if dims == 2 else mask
    return Target(
        box=flat[chosen],
        label=torch.as_tensor(instances.label[row][wanted], device=mask.device),
        ignored=flat[~chosen],
        mask=(shown[None] == kept.reshape(-1, *[1] * dims)).to(torch.uint8),
    )


def box_of_network(box: np.ndarray, dims: int) -> np.ndarray:
    """Return boxes (b, 2, 3) of index coordinates as networks count them, (b, 2 d)."""
    return (box[:, :, 3 - dims :] + 0.5).reshape(len(box), 2 * dims)


def box_of_index(box: np.ndarray, dims: int) -> np.ndarray:
    """Return boxes (b, 2 d) of a network in index coordinates (b, 2, 3); a picture is one slice."""
    corners = box.reshape(len(box), 2, dims) - 0.5
    if dims == 3:
        return corners
    slice_of = np.broadcast_to(np.array([[-0.5], [0.5]]), (len(box), 2, 1))
    return np.concatenate([slice_of, corners], axis=2)
