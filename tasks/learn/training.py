"""A training under way: steps and epochs, what they said, and all of it on disk and back."""

import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tasks.learn import checkpoint
from tasks.learn.augment_batch import apply
from tasks.learn.box_targets import targets_of
from tasks.learn.channels import without_missing
from tasks.learn.device import half_type, mixed_precision
from tasks.learn.fold import Fold
from tasks.learn.loader import Loader
from tasks.learn.loss import (
    class_weights,
    classification_loss,
    learning_rate,
    make_optimizer,
    supervised_loss,
)
from tasks.learn.networks import build_network, laid_out, to_network
from tasks.learn.numbers import fit_scaler, number_loss
from tasks.learn.ranks import ALONE, Rank
from tasks.learn.samples import Batch
from tasks.learn.weights import load_weights

GRADIENT_NORM = 12.0
"""Gradients are clipped to this norm (nnU-Net)."""


class Training:
    """A training under way: network, optimizer, averages and what has happened so far."""

    def __init__(self, fold: Fold, device: torch.device, batch: int, rank: Rank = ALONE) -> None:
        plan = fold.plan
        self.fold, self.rank = fold, rank
        torch.manual_seed(_seed(fold.seed, 0))
        self.plan, self.device, self.batch = plan, device, batch
        self.network = build_network(plan)
        if fold.weights is not None:
            load_weights(self.network, fold.weights, plan.weights_sha256)
        if plan.task == "regression":
            fit_scaler(self.network, [fold.targets[c] for c in fold.train_ids])
        self.network = laid_out(self.network, plan, device)
        self.average = copy.deepcopy(self.network) if plan.ema else None
        self._called = rank.spread(self.network, device)
        self.optimizer = make_optimizer(self.network, plan.optimizer, plan.lr, plan.weight_decay)
        scaled = device.type == "cuda" and half_type() == torch.float16
        self.scaler = torch.amp.GradScaler("cuda", enabled=scaled)
        self.weights = None
        if plan.task == "classification" and plan.class_weights:
            counts = class_weights([fold.targets[c] for c in fold.train_ids], plan.n_classes)
            self.weights = torch.as_tensor(counts, dtype=torch.float32, device=device)
        self.history: list[dict[str, Any]] = []
        self.resumed = 0

    @property
    def judged(self) -> nn.Module:
        """The network that is validated and, at the end, kept: the averaged one if there is one."""
        return self.network if self.average is None else self.average

    @property
    def over(self) -> bool:
        """Whether all epochs are done."""
        return len(self.history) >= self.plan.epochs

    def train_epoch(self, loader: Loader) -> dict[str, Any]:
        """Train one epoch and return its loss, learning rate, data-wait share and speed."""
        epoch = len(self.history)
        # Dropout draws from torch's own source: seeded by the epoch, it needs no saved state.
        torch.manual_seed(_seed(self.fold.seed, epoch + 1) + self.rank.number)
        self.network.train()
        steps = loader.steps(self.batch)
        began, waited, losses, rate = time.perf_counter(), 0.0, [], 0.0
        for step, (batch, wait) in enumerate(_timed(loader.batches(epoch, self.batch))):
            waited += wait
            rate = learning_rate(
                self.plan.schedule, self.plan.lr, (epoch + step / steps) / self.plan.epochs
            )
            losses.append(self._step(batch, rate, self._of_group(step, steps)))
        loss = float(self.rank.mean(torch.stack(losses).mean()))
        if not np.isfinite(loss):
            raise FloatingPointError(
                f"the training loss is {loss} in epoch {epoch + 1}; lower lr {self.plan.lr:g}"
            )
        seconds = time.perf_counter() - began
        return {
            "epoch": epoch + 1,
            "loss": loss,
            "lr": rate,
            "train_seconds": seconds,
            "data_wait": waited / seconds,
            "samples_a_second": steps * self.batch / seconds,
            "batch": self.batch,
        }

    def _of_group(self, step: int, steps: int) -> tuple[int, int]:
        """Return the place of a batch among those that share a step, and their number."""
        many = self.plan.accumulate
        return step % many, min(many, steps - step // many * many)

    def _step(self, batch: Batch, rate: float, place: tuple[int, int] = (0, 1)) -> Tensor:
        number, many = place
        if number == 0:
            self.optimizer.zero_grad(set_to_none=True)
        # Gradients are averaged once a step, not once for each batch that is summed up.
        with self.rank.apart(self._called, number + 1 < many):
            loss = self._loss(batch)
            self.scaler.scale(loss / many).backward()
        if number + 1 < many:
            return loss.detach()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._follow()
        return loss.detach()

    def _loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch after its augmentation."""
        image, mask = apply(batch.params, *batch.on(self.device))
        x, dims = to_network(without_missing(image, batch.kept), self.plan.dims), self.plan.dims
        if self.plan.task == "detection":
            targets = targets_of(mask, batch.instances, batch.params, dims)
            # Of its own precision: half of the trunk alone, see `tasks.learn.pyramid`.
            return self._called(x, targets)
        with mixed_precision(self.device):
            logits = self._called(x)
        if self.plan.task == "regression":
            target = batch.target.to(self.device)
            return number_loss(self.network, logits, target, self.plan.loss)
        if mask is None:
            return classification_loss(logits, batch.target.to(self.device), self.weights)
        truth = mask.to(torch.int64)
        truth = truth[:, 0] if dims == 2 else truth
        return supervised_loss(logits, truth, self.plan.regions)

    def _follow(self) -> None:
        """Move the averaged weights towards the trained ones; counters are copied."""
        if self.average is None:
            return
        with torch.no_grad():
            now = self.network.state_dict()
            for name, kept in self.average.state_dict().items():
                if kept.is_floating_point():
                    kept.lerp_(now[name], 1 - self.plan.ema)
                else:
                    kept.copy_(now[name])

    def save(self, path: Path, identity: str) -> None:
        """Write everything needed to go on."""
        tensors = {
            **checkpoint.prefixed("network", self.network.state_dict()),
            **checkpoint.prefixed("optimizer", checkpoint.optimizer_tensors(self.optimizer)),
        }
        if self.average is not None:
            tensors |= checkpoint.prefixed("average", self.average.state_dict())
        record = {
            "identity": identity,
            "history": self.history,
            "batch": self.batch,
            "scaler": self.scaler.state_dict(),
        }
        checkpoint.write_tensors(path, tensors, record)

    def restore(self, path: Path, identity: str) -> None:
        """Go on from a checkpoint of the same identity; any other is left aside."""
        if not path.exists():
            return
        tensors, record = checkpoint.read_tensors(path)
        if record["identity"] != identity:
            return
        checkpoint.restore_network(self.network, checkpoint.without_prefix("network", tensors))
        if self.average is not None:
            checkpoint.restore_network(self.average, checkpoint.without_prefix("average", tensors))
        checkpoint.restore_optimizer(
            self.optimizer, checkpoint.without_prefix("optimizer", tensors)
        )
        self.scaler.load_state_dict(record["scaler"])
        self.history = record["history"]
        self.resumed = len(self.history)
        # After out-of-memory the caller's batch is the smaller one.
        self.batch = min(self.batch, record["batch"])


def _timed(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float]]:
    """Yield each batch with the seconds it was waited for."""
    while True:
        began = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - began


def _seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)
