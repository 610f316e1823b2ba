"""Training one fold of one network: seeded, checkpointed every epoch, exact after a kill -9."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tasks.evaluate.config import MaskConfig
from tasks.learn.dataset import (
    PRELOAD_BYTES,
    CaseSource,
    StoreCases,
    TrainingCase,
    preload,
)
from tasks.learn.device import device_name, pick_device, repeatable, visible_devices
from tasks.learn.fold import Fold, FoldResult, finish_fold, read_fold
from tasks.learn.loader import Loader
from tasks.learn.numbers import check_numbers
from tasks.learn.plan import NetworkPlan
from tasks.learn.ranks import ALONE, Rank, share_of, train_together
from tasks.learn.samples import READERS, Samples
from tasks.learn.training import Training
from tasks.learn.validate import validate
from tasks.learn.zoo import OF_WHOLE_IMAGES

CHECKPOINT = "checkpoint.safetensors"


def train_fold(
    plan: NetworkPlan,
    root: str | CaseSource,
    cases: Sequence[TrainingCase],
    train_ids: Sequence[str],
    val_ids: Sequence[str],
    out_dir: str | Path,
    seed: int,
    *,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    device: str | None = None,
    preload_bytes: int = PRELOAD_BYTES,
    readers: int = READERS,
    reader_processes: bool = False,
    masks: MaskConfig | None = None,
    weights: Path | None = None,
    devices: Sequence[str] | None = None,
) -> FoldResult:
    """Train one fold, or go on with it where a killed run left it.

    Called again after its end it returns the same result without training, so a re-run of the task
    costs nothing. On the CPU, with the same number of threads and processes, a run that was killed
    at any moment and started again ends with the same bits as an undisturbed one.

    Parameters
    ----------
    plan : NetworkPlan
    root : str or CaseSource
        The store's root, or where else arrays come from.
    cases : sequence of TrainingCase
    train_ids, val_ids : sequence of str
        Case ids of the two sides; patients must not stand on both.
    out_dir : path
        This fold's own folder: ``checkpoint.safetensors`` while it runs, ``fold.safetensors``
        when it is done.
    seed : int
    on_epoch : callable, optional
        Gets each epoch's record (also those read from a checkpoint, again, after a restart).
    device : str, optional
        The one device to train on.
    preload_bytes : int
        Cases that fit in it are held in memory.
    readers : int
        How many samples of the store are read ahead by.
    reader_processes : bool
        Whether readers are processes, not threads; neither changes the weights.
    masks : MaskConfig, optional
        How the validation side's masks are measured.
    weights : Path, optional
        File a classifier starts from.
    devices : sequence of str, optional
        Devices that share each batch, a process each, see :mod:`tasks.learn.ranks`. By default
        ``device``, else every CUDA device that is visible, else the CPU. Of more than the batch
        can be shared out to evenly, the first ones are taken.

    Returns
    -------
    FoldResult

    Raises
    ------
    ValueError
        If a patient stands on both sides, or images do not have the planned shape.
    FloatingPointError
        If the loss is no longer finite.
    """
    by_id = {case.case_id: case for case in cases}
    _check_sides(by_id, train_ids, val_ids)
    if plan.task == "classification":
        _check_targets(by_id, (*train_ids, *val_ids), plan.n_classes)
    if plan.task == "regression":
        check_numbers([by_id[c].target for c in (*train_ids, *val_ids)])
    source = StoreCases(root, cases) if isinstance(root, str) else root
    ids = (*train_ids, *val_ids)
    targets = {c: t for c in ids if (t := by_id[c].target) is not None}
    how = masks or MaskConfig()
    boxes = {c: by_id[c].boxes for c in ids} if plan.task == "detection" else {}
    fold = Fold(plan, source, targets, tuple(train_ids), tuple(val_ids), seed, how, weights, boxes)
    tell = on_epoch or (lambda _record: None)
    if (done := read_fold(Path(out_dir), fold.identity)) is not None:
        for record in done.history:
            tell(record)
        return done
    on = share_of(plan.batch, devices or ([device] if device else visible_devices()))
    where = pick_device(on[0])
    words = {
        "fold": fold,
        "out_dir": Path(out_dir),
        "preload_bytes": preload_bytes,
        "readers": readers,
        "processes": reader_processes,
    }
    if len(on) == 1:
        training = _run(ALONE, where, plan.batch, tell, **words)
        fold = training.fold
    else:
        train_together(_run, words, on, plan.batch, tell)
        training = Training(fold, where, plan.batch)
        training.restore(Path(out_dir) / CHECKPOINT, fold.identity)
    with repeatable(where):
        result = finish_fold(fold, training, Path(out_dir), where, device_name(on))
    for left in (Path(out_dir) / CHECKPOINT, *Path(out_dir).glob(f".{CHECKPOINT}.*")):
        left.unlink(missing_ok=True)  # a kill while writing leaves the file beside
    return result


def _check_sides(
    by_id: Mapping[str, TrainingCase], train_ids: Sequence[str], val_ids: Sequence[str]
) -> None:
    if missing := [c for c in (*train_ids, *val_ids) if c not in by_id]:
        raise ValueError(f"{len(missing)} case ids of the fold are not among the cases given")
    if not val_ids:
        raise ValueError("no validation case in this fold; use fewer folds or a wider cohort")
    both = {by_id[c].patient_key for c in train_ids} & {by_id[c].patient_key for c in val_ids}
    if both:
        raise ValueError(f"{len(both)} patients stand on both sides of the fold; split by patient")


def _check_targets(
    by_id: Mapping[str, TrainingCase], case_ids: Sequence[str], n_classes: int
) -> None:
    wrong = [c for c in case_ids if by_id[c].target not in range(n_classes)]
    if wrong:
        raise ValueError(
            f"{len(wrong)} cases have no class number from 0 to {n_classes - 1}; "
            "attach their labels or leave them out of the fold"
        )


def _run(
    rank: Rank,
    device: torch.device,
    batch: int,
    tell: Callable[[dict[str, Any]], None],
    *,
    fold: Fold,
    out_dir: Path,
    preload_bytes: int,
    readers: int,
    processes: bool,
) -> Training:
    with repeatable(device):
        ids, labels = (*fold.train_ids, *fold.val_ids), fold.plan.task not in OF_WHOLE_IMAGES
        held = preload(fold.source, ids, labels=labels, budget=preload_bytes)
        fold = replace(fold, source=held)
        samples = Samples(
            fold.plan, held, fold.train_ids, fold.targets, fold.seed, fold.boxes, rank
        )
        with Loader(samples, readers=readers, processes=processes) as loader:
            return _epochs(rank, device, batch, tell, fold, loader, out_dir / CHECKPOINT)


def _epochs(
    rank: Rank,
    device: torch.device,
    batch: int,
    tell: Callable[[dict[str, Any]], None],
    fold: Fold,
    loader: Loader,
    path: Path,
) -> Training:
    told = 0
    while True:
        training = Training(fold, device, batch, rank)
        training.restore(path, fold.identity)
        batch, halved = training.batch, ""
        if batch % rank.of:
            raise ValueError(
                f"the checkpoint's batch of {batch} cannot be shared out to {rank.of} devices; go "
                "on with one (RADLOOP_GPUS_PER_FOLD=1)"
            )
        for record in training.history[told:]:
            tell(record)
        told = len(training.history)
        try:
            while not training.over:
                tell(_epoch(training, loader, path))
                told += 1
        except torch.OutOfMemoryError as error:
            if rank.of > 1:
                raise  # the others wait for this one: all must start again
            if batch == 1:
                raise torch.OutOfMemoryError(
                    f"out of memory with a batch of 1 and patch {fold.plan.patch}; "
                    "lower gpu_memory_gb or patch"
                ) from error
            halved = _halved(batch, fold.plan)
        if not halved:
            return training
        batch //= 2
        # The failed step's tensors must be gone before the next network is built.
        del training
        if device.type == "cuda":
            torch.cuda.empty_cache()
        tell({"epoch": told, "batch": batch, "note": halved})


def _halved(batch: int, plan: NetworkPlan) -> str:
    said = f"out of memory with a batch of {batch}: going on with {batch // 2}"
    if not plan.batch_norm:
        return said
    return f"{said}, over which maps are normalised: say batch: {batch // 2} to have each by itself"


def _epoch(training: Training, loader: Loader, path: Path) -> dict[str, Any]:
    fold, rank, began = training.fold, training.rank, time.perf_counter()
    record = training.train_epoch(loader)
    if rank.first:
        if fold.plan.looks(record["epoch"]):
            record |= validate(
                training.judged, fold.plan, fold.source, fold.val_ids, fold.targets,
                training.device, training.weights, fold.boxes,
            )  # fmt: skip
        record["seconds"] = time.perf_counter() - began
        if training.device.type == "cuda":
            record["memory_gb"] = torch.cuda.max_memory_allocated(training.device) / 1e9
    record = rank.share(record)
    if not math.isfinite(record.get("val_loss", 0.0)):
        raise FloatingPointError(
            f"the validation loss is {record['val_loss']} in epoch {record['epoch']}; "
            f"lower lr {fold.plan.lr:g}"
        )
    training.history.append(record)
    if rank.first:
        training.save(path, fold.identity)
    return record
