"""How a second look is taught: by what its own detector finds, right and wrong, where it trained.

The training side of the fold alone is looked at, after the detector is done. Of each case the
surest false alarms are taken, the hits, and the true boxes themselves.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tasks.learn.augment import AXES
from tasks.learn.boxes import boxes_of_case, classes_of_places
from tasks.learn.detect import detect, detector_alone
from tasks.learn.infer import as_input
from tasks.learn.loss import learning_rate, make_optimizer
from tasks.learn.second_look import SIDE, boxes_in, cut_out

if TYPE_CHECKING:
    from tasks.learn.fold import Fold

CASES = 200
"""Training cases that are looked at, evenly out of all: each takes as long as a prediction."""

ALARMS = 32
"""False alarms of a case, the surest ones: with 200 cases the cuts take some 400 MB a channel."""

SHIFT = 4
"""Samples by which a cut is moved at most on each axis, a quarter of its side: detectors do not put
boxes exactly."""

STEPS, BATCH, RATE, DECAY = 300, 32, 2e-3, 0.01
"""Half of a batch are hits, half false alarms."""


def teach(network: nn.Module, fold: "Fold", device: torch.device) -> int:
    """Teach a detector's second look in place; the detector itself stays as it is.

    Where the training side has no false alarm, or nothing to be found, there is nothing to learn:
    the look stays untaught, which changes no order.

    Parameters
    ----------
    network : Module
        The fold's detector, on ``device`` and in evaluation mode.
    fold : Fold
    device : torch.device

    Returns
    -------
    int
        Places it was taught by; 0 where it was not.
    """
    cuts, sizes, target = _places(network, fold, device)
    background = fold.plan.n_classes
    right, wrong = (np.flatnonzero(target.numpy() != background),
                    np.flatnonzero(target.numpy() == background))  # fmt: skip
    if not len(right) or not len(wrong):
        return 0
    rng = np.random.default_rng([fold.seed, len(target)])
    look = network.second.requires_grad_(True).train()
    optimizer = make_optimizer(look, "adamw", RATE, DECAY)
    flips = [AXES.index(axis) + 1 for axis in fold.plan.augment.flip]
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate("one_cycle", RATE, step / STEPS)
        rows = np.r_[rng.choice(right, BATCH // 2), rng.choice(wrong, BATCH // 2)]
        seen = torch.stack([_changed(cuts[row], flips, rng) for row in rows])
        optimizer.zero_grad(set_to_none=True)
        said = look(seen.to(device), sizes[rows].to(device))
        cross_entropy(said, target[rows].to(device)).backward()
        optimizer.step()
    look.requires_grad_(False).eval()
    return len(target)


def _places(
    network: nn.Module, fold: "Fold", device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Return cuts (m, c, n, n, n), box sizes (m, 3) and classes (m,), of which k is background."""
    plan = fold.plan
    plain = detector_alone(plan)
    cuts, sizes, classes = [], [], []
    for case_id in fold.train_ids[:: -(-len(fold.train_ids) // CASES)]:
        image = fold.source.image(case_id)
        true, label, away = boxes_of_case(fold.boxes[case_id], fold.source.affine(case_id))
        found = detect([network], plain, image, device).box
        number, counts = classes_of_places(found, true, label, away)
        # The best come first, so the first wrong ones are the hardest.
        hard = (number > 0) | (np.cumsum(number == 0) <= ALARMS)
        kept = counts & hard
        box = boxes_in(np.concatenate([found[kept], true[~away]]), device)
        # Place 0 is the background there, here it is the last.
        said = np.concatenate([number[kept], label[~away] + 1])
        classes.append(np.where(said == 0, plan.n_classes, said - 1))
        sizes.append((box[:, 3:] - box[:, :3]).cpu())
        cuts.append(cut_out(as_input(image)[0].to(device), box, SHIFT).cpu())
    return torch.cat(cuts), torch.cat(sizes), torch.from_numpy(np.concatenate(classes))


def _changed(cut: Tensor, flips: list[int], rng: np.random.Generator) -> Tensor:
    """Return a cut (c, n, n, n) moved and mirrored by chance, (c, SIDE, SIDE, SIDE)."""
    start = rng.integers(0, 2 * SHIFT + 1, 3)
    part = cut[(slice(None), *(slice(s, s + SIDE) for s in start))]
    mirrored = [axis for axis in flips if rng.random() < 0.5]
    return part.flip(mirrored) if mirrored else part
