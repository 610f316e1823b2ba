"""Training samples: which case, which patch and which change, all by number.

Sample ``j`` of an epoch depends on (seed, epoch, j) alone, never on what was drawn before it or on
how many threads read. So a training goes on after a kill with the very samples it would have had.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.learn.augment import draw_params
from tasks.learn.box_targets import Instances, instances_of
from tasks.learn.channels import kept_channels
from tasks.learn.dataset import CaseSource
from tasks.learn.foreground import find_foreground
from tasks.learn.plan import NetworkPlan
from tasks.learn.ranks import ALONE, Rank
from tasks.learn.zoo import OF_WHOLE_IMAGES

READERS = 4
"""Threads that read samples ahead; the store's reader releases the interpreter lock."""

PAD_VALUE = 0.0
"""Image value outside the image: the mean, after the recipe's normalisation (nnU-Net)."""


@dataclass(frozen=True)
class Batch:
    """Samples of one step, before augmentation, as the store has them: half or a quarter as many
    bytes go to the device, which converts and changes them."""

    image: Tensor
    """(n, c, z, y, x), of the stored type."""
    mask: Tensor | None
    """(n, z, y, x), of the stored type."""
    target: Tensor | None
    """(n,) int64 classes, or float32 numbers of a regression."""
    params: tuple[dict[str, Any], ...]
    """What augmentation does to each sample."""
    kept: Tensor | None = None
    """(n, c) bool: which channels each sample has and was left; None where none may be missing."""
    instances: tuple[Instances, ...] = ()
    """Of each sample's case, whose mask numbers them, for a detection."""

    def on(self, device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Return image (float32) and mask (as stored) on a device, converted there."""
        image = self.image.to(device, non_blocking=True).to(torch.float32)
        if self.mask is None:
            return image, None
        mask = self.mask.to(device, non_blocking=True)
        # Torch can hold numbers of 16 bits without a sign, and reckon with them hardly at all.
        return image, mask.to(torch.int32) if mask.dtype == torch.uint16 else mask


class Samples:
    """Numbered training samples of a fold.

    Parameters
    ----------
    plan : NetworkPlan
    source : CaseSource
    case_ids : sequence of str
        The training side of the fold.
    targets : mapping of case id to class number, or to the number of a regression
        Empty of any other task.
    seed : int
    boxes : mapping of case id to rows of `TrainingCase.boxes`
        For a detection.
    rank : Rank
        Which share of each batch is drawn, where several processes train together.
    """

    def __init__(
        self,
        plan: NetworkPlan,
        source: CaseSource,
        case_ids: Sequence[str],
        targets: Mapping[str, float],
        seed: int,
        boxes: Mapping[str, Sequence[Sequence[float]]] | None = None,
        rank: Rank = ALONE,
    ) -> None:
        if not case_ids:
            raise ValueError("no training case in this fold; use fewer folds or a wider cohort")
        self._plan, self._source, self._seed, self._rank = plan, source, seed, rank
        self._case_ids, self._targets = tuple(case_ids), targets
        self._masked = plan.task not in OF_WHOLE_IMAGES
        self._foreground = (
            find_foreground(
                source, case_ids, plan.n_classes + bool(plan.regions), seed, readers=READERS
            )
            if self._masked
            else {}
        )
        self._instances = {
            case_id: instances_of(case_id, source.label(case_id), (boxes or {}).get(case_id, ()))
            for case_id in (case_ids if plan.task == "detection" else ())
        }

    @property
    def source(self) -> CaseSource:
        """Where voxels come from."""
        return self._source

    def steps(self, batch: int) -> int:
        """Return the batches of an epoch: as planned, else one pass over the cases."""
        return self._plan.steps_per_epoch or max(1, len(self._case_ids) // batch)

    def batches(
        self, epoch: int, batch: int, *, readers: int = 0, first: int = 0
    ) -> Iterator[Batch]:
        """Yield the batches of an epoch from step ``first`` on.

        ``readers`` threads read ahead without changing them; for processes see
        :mod:`tasks.learn.loader`.
        """
        numbers = range(first, self.steps(batch))
        if readers == 0:
            yield from (self.batch(epoch, step, batch) for step in numbers)
            return
        with ThreadPoolExecutor(readers) as pool:
            waiting = [pool.submit(self.batch, epoch, s, batch) for s in numbers[:readers]]
            for step in numbers:
                ready = waiting.pop(0)
                if step + readers < numbers.stop:
                    waiting.append(pool.submit(self.batch, epoch, step + readers, batch))
                yield ready.result()

    def batch(self, epoch: int, step: int, batch: int) -> Batch:
        """Return one batch, or this process's share of it: the same one whenever asked for."""
        slots = range(self._rank.number, batch, self._rank.of)
        numbers = [step * batch + slot for slot in slots]
        drawn = [self._sample(epoch, step * batch + slot, slot, batch) for slot in slots]
        images, masks, targets, params = zip(*drawn, strict=True)
        image = torch.from_numpy(_stack(images, self._plan.patch, PAD_VALUE))
        kept = None
        if image.ndim > 4:
            present = [self._source.present(self._case(epoch, n)) for n in numbers]
            kept = kept_channels(present, self._plan, [(self._seed, epoch, n) for n in numbers])
        else:
            image = image[:, None]
        if self._masked:
            mask = torch.from_numpy(_stack(masks, self._plan.patch, 0))
            numbered = tuple(
                self._instances[self._case(epoch, n)] for n in numbers if self._instances
            )
            return Batch(image, mask, None, params, kept, numbered)
        kind = torch.int64 if self._plan.task == "classification" else torch.float32
        return Batch(image, None, torch.tensor(targets, dtype=kind), params, kept)

    def _sample(
        self, epoch: int, number: int, slot: int, batch: int
    ) -> tuple[np.ndarray, np.ndarray | None, float | None, dict[str, Any]]:
        case_id = self._case(epoch, number)
        rng = np.random.default_rng([self._seed, epoch, number])
        size = self._plan.patch
        if self._masked:
            forced = self._is_forced(number, slot, batch)
            image, mask = self._cut(rng, case_id, forced)
            return image, mask, None, draw_params(rng, self._plan.augment, size)
        image = self._source.image(case_id)
        if image.shape[-3:] != tuple(size):
            raise ValueError(
                f"image of case {case_id} has shape {image.shape}, the network was planned for "
                f"{tuple(size)}; end the recipe with a resize or pad to that shape"
            )
        return image, None, self._targets[case_id], draw_params(rng, self._plan.augment, size)

    def _is_forced(self, number: int, slot: int, batch: int) -> bool:
        """Say whether a sample is centred on foreground: nnU-Net's last third of a batch.

        Of a batch too small to have such a place, or halved until it was, every so many-th sample.
        """
        share = self._plan.foreground
        free = round(batch * (1 - share))
        if share and free == batch:
            return number % round(1 / share) == 0
        return slot >= free

    def _case(self, epoch: int, number: int) -> str:
        # Passes over all cases in ever new orders, whatever the length of an epoch.
        turn, place = divmod(number, len(self._case_ids))
        return self._case_ids[_order(self._seed, epoch, turn, len(self._case_ids))[place]]

    def _cut(
        self, rng: np.random.Generator, case_id: str, forced: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        shape, size = self._source.shape(case_id), self._plan.patch
        centre = None
        if forced and any(n > p for n, p in zip(shape, size, strict=True)):
            classes = self._foreground[case_id]
            if classes:
                points = classes[int(rng.integers(len(classes)))]
                centre = points[int(rng.integers(len(points)))]
        start = [_start(rng, n, p, None if centre is None else int(centre[a]))
                 for a, (n, p) in enumerate(zip(shape, size, strict=True))]  # fmt: skip
        low = [max(0, s) for s in start]
        high = [min(n, s + p) for n, s, p in zip(shape, start, size, strict=True)]
        return self._source.patch(case_id, low, high), self._source.label_patch(case_id, low, high)


def _stack(arrays: Sequence[np.ndarray], size: tuple[int, ...], fill: float) -> np.ndarray:
    """Return arrays ([c,] z, y, x) as one (n, [c,] z, y, x); those smaller than the patch stand in
    its middle."""
    channels = arrays[0].shape[:-3]
    out = np.empty((len(arrays), *channels, *size), np.result_type(*arrays))
    for whole, array in zip(out, arrays, strict=True):
        shape = array.shape[-3:]
        if shape != tuple(size):
            whole[...] = fill
        start = [(p - n) // 2 for n, p in zip(shape, size, strict=True)]
        box = tuple(slice(s, s + n) for s, n in zip(start, shape, strict=True))
        whole[(..., *box)] = array
    return out


@lru_cache(maxsize=8)
def _order(seed: int, epoch: int, turn: int, n: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch, turn, 1]).permutation(n)


def _start(rng: np.random.Generator, n: int, patch: int, centre: int | None) -> int:
    """Return where a patch begins on an axis: inside, or with the image in its middle."""
    if n <= patch:
        return -((patch - n) // 2)
    if centre is None:
        return int(rng.integers(0, n - patch + 1))
    return min(max(centre - patch // 2, 0), n - patch)
