"""What training one fold left behind: weights, validation predictions and the record."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tasks.evaluate.config import MaskConfig
from tasks.evaluate.segmentation import mask_figures
from tasks.hashing import digest_json
from tasks.learn import checkpoint
from tasks.learn.dataset import CaseSource, Images
from tasks.learn.infer import classify, features, outline
from tasks.learn.numbers import estimate
from tasks.learn.ood import OodModel, fit_ood, from_arrays
from tasks.learn.oof_masks import write_masks
from tasks.learn.plan import NetworkPlan

if TYPE_CHECKING:
    from tasks.learn.training import Training

FOLD_FILE = "fold.safetensors"

OOD_CASES = 1000
"""Training cases whose features are looked at; more change a covariance little."""


@dataclass(frozen=True)
class Fold:
    """What one fold trains and validates on."""

    plan: NetworkPlan
    source: CaseSource
    targets: Mapping[str, float]
    train_ids: tuple[str, ...]
    val_ids: tuple[str, ...]
    seed: int
    masks: MaskConfig = field(default_factory=MaskConfig)
    """How the validation side's masks are measured."""
    weights: Path | None = None
    """File a classifier starts from; the plan holds its SHA-256."""
    boxes: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    """What is to be found, of a detection; see `TrainingCase.boxes`."""

    @property
    def identity(self) -> str:
        """Hash that a checkpoint must carry to be gone on with."""
        said = {
            "plan": self.plan.model_dump(mode="json"),
            "targets": [self.targets.get(c) for c in self.train_ids + self.val_ids],
            "train": self.train_ids,
            "val": self.val_ids,
            "seed": self.seed,
        }
        if self.plan.task == "segmentation":
            said["masks"] = self.masks.model_dump(mode="json")
        if self.plan.task == "detection":
            said["boxes"] = [self.boxes[c] for c in self.train_ids + self.val_ids]
        return digest_json(said)


@dataclass(frozen=True, eq=False)
class FoldResult:
    """One trained fold; small, for the weights stay on disk."""

    history: tuple[dict[str, Any], ...]
    """A record an epoch: epoch, loss, lr, seconds, data_wait; also, where
    `NetworkPlan.looks` says so, val_loss and val_auroc, val_dice, val_ap or val_mae."""
    weights_path: str
    val_ids: tuple[str, ...]
    val_probability: np.ndarray | None
    """(n, k) of a classification, in the order of ``val_ids``."""
    val_dice: np.ndarray | None
    """(n, foreground classes) of a segmentation; empty masks by ``evaluate``'s EMPTY_POLICY."""
    val_empty: np.ndarray | None
    """(n, foreground classes): 0 neither mask empty, 1 both, 2 one."""
    val_others: Mapping[str, np.ndarray]
    """Further figures of masks by name, (n, foreground classes) each."""
    val_findings: tuple[np.ndarray, ...] | None
    """Of each validation case of a detection (b, 14): class, score, centre and edges in LPS mm."""
    val_ood: np.ndarray | None
    """(n,) distance of each validation case from the training side."""
    seconds: float
    """Training and validation, over all starts."""
    data_wait: float
    """Share of the training time spent waiting for samples."""
    device: str
    batch: int
    """As planned, or what it was halved to."""
    resumed: int
    """Epochs that an earlier, interrupted run had done."""
    val_value: np.ndarray | None = None
    """(n, 1) of a regression, in the label's unit."""


def finish_fold(
    fold: Fold, training: "Training", out_dir: Path, device: torch.device, device_text: str
) -> FoldResult:
    """Predict the validation side with the last epoch's weights and write the fold's file."""
    network = training.judged.eval()
    if fold.plan.detector is not None and fold.plan.detector.second_look:
        from tasks.learn.second_lesson import teach

        teach(network, fold, device)
    arrays: dict[str, np.ndarray] = {}
    if fold.plan.task == "classification":
        images = Images(fold.source, fold.val_ids)
        arrays["val.probability"] = classify([network], fold.plan, images, device)
    elif fold.plan.task == "regression":
        images = Images(fold.source, fold.val_ids)
        arrays["val.value"] = estimate([network], fold.plan, images, device)
    elif fold.plan.task == "detection":
        arrays |= _findings(fold, network, device)
    else:
        arrays |= _mask_figures(fold, network, device, out_dir)
    seen = features(network, fold.plan, Images(fold.source, _spaced(fold.train_ids)), device)
    if (model := fit_ood(seen)) is not None:
        arrays |= {f"ood.{name}": a for name, a in model.arrays().items()}
        looked = features(network, fold.plan, Images(fold.source, fold.val_ids), device)
        arrays["val.ood"] = model.score(looked)
    tensors = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}
    history = training.history
    record = {
        "identity": fold.identity,
        "history": history,
        "val_ids": list(fold.val_ids),
        "seconds": sum(r["seconds"] for r in history),
        "data_wait": sum(r["data_wait"] * r["train_seconds"] for r in history)
        / sum(r["train_seconds"] for r in history),
        "device": device_text,
        "batch": training.batch,
        "resumed": training.resumed,
    }
    path = out_dir / FOLD_FILE
    # Not the training's own: a second look is taught after it.
    tensors |= checkpoint.prefixed("network", network.state_dict())
    checkpoint.write_tensors(path, tensors, record)
    return _result(path, tensors, record)


def read_fold(out_dir: Path, identity: str) -> FoldResult | None:
    """Return the result of a fold that was finished before, None if there is none such."""
    path = out_dir / FOLD_FILE
    if not path.exists():
        return None
    tensors, record = checkpoint.read_tensors(path)
    return _result(path, tensors, record) if record["identity"] == identity else None


def read_weights(path: str | Path) -> tuple[dict[str, torch.Tensor], OodModel | None]:
    """Return the network's weights and the out-of-distribution model of a fold's file."""
    tensors, _ = checkpoint.read_tensors(Path(path))
    arrays = {name: t.numpy() for name, t in checkpoint.without_prefix("ood", tensors).items()}
    return checkpoint.without_prefix("network", tensors), from_arrays(arrays) if arrays else None


def _result(path: Path, tensors: dict[str, torch.Tensor], record: dict[str, Any]) -> FoldResult:
    def array(name: str) -> np.ndarray | None:
        return tensors[name].numpy() if name in tensors else None

    return FoldResult(
        history=tuple(record["history"]),
        weights_path=str(path),
        val_ids=tuple(record["val_ids"]),
        val_probability=array("val.probability"),
        val_dice=array("val.dice"),
        val_empty=array("val.empty"),
        val_others={
            name: t.numpy() for name, t in checkpoint.without_prefix("masks", tensors).items()
        },
        val_findings=_by_case(tensors, len(record["val_ids"])),
        val_ood=array("val.ood"),
        seconds=record["seconds"],
        data_wait=record["data_wait"],
        device=record["device"],
        batch=record["batch"],
        resumed=record["resumed"],
        val_value=array("val.value"),
    )


def _findings(fold: Fold, network: torch.nn.Module, device: torch.device) -> dict[str, np.ndarray]:
    """Return what is found in the validation cases, and the number of each finding's case."""
    from tasks.learn.boxes import rows_of_findings
    from tasks.learn.detect import detect

    rows = [
        rows_of_findings(
            detect([network], fold.plan, fold.source.image(case_id), device),
            fold.source.affine(case_id),
        )
        for case_id in fold.val_ids
    ]
    case = np.repeat(np.arange(len(rows)), [len(one) for one in rows])
    return {"val.findings": np.concatenate(rows), "val.findings_case": case}


def _by_case(tensors: dict[str, torch.Tensor], n: int) -> tuple[np.ndarray, ...] | None:
    if "val.findings" not in tensors:
        return None
    rows, case = (tensors[f"val.{name}"].numpy() for name in ("findings", "findings_case"))
    return tuple(rows[case == number] for number in range(n))


def _mask_figures(
    fold: Fold, network: torch.nn.Module, device: torch.device, out_dir: Path
) -> dict[str, np.ndarray]:
    """Measure the masks of the validation side; keep them where rules are chosen on them."""
    plan, rows, kept = fold.plan, [], []
    for case_id in fold.val_ids:
        said = outline([network], plan, fold.source.image(case_id), device)
        truth, spacing = fold.source.label(case_id), fold.source.spacing(case_id)
        rows.append(
            mask_figures(truth, said, spacing, plan.n_classes - 1, fold.masks, plan.regions)
        )
        if fold.masks.postprocess is not None:
            kept.append((truth, said, spacing))
    if kept:
        write_masks(out_dir, kept)
    others = {f"masks.{n}": np.stack([row.others[n] for row in rows]) for n in rows[0].others}
    dice, empty = (np.stack([getattr(row, n) for row in rows]) for n in ("dice", "empty"))
    return {"val.dice": dice, "val.empty": empty, **others}


def _spaced(case_ids: tuple[str, ...]) -> tuple[str, ...]:
    step = -(-len(case_ids) // OOD_CASES)
    return case_ids[::step]
