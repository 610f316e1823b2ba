"""A model as it is kept: tensors and JSON, nothing that runs."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.errors import ModelRefused
from tasks.evaluate.studies import Views
from tasks.hashing import says_nothing, sha256_file
from tasks.labels.regions import Regions, Sets
from tasks.learn.plan import NetworkPlan
from tasks.learn.postprocess import Rule
from tasks.learn.zoo import OUTLINING

MODEL_FORMAT = 2
"""Version of model.json and of the names in the tensor file."""

READ_FORMATS = (1, 2)
"""1 holds another distance to the training cases; any other format is refused."""

SPEC_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"
SKOPS_FILE = "model.skops"


class ModelSpec(BaseModel):
    """Everything about a model but its numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    format: int = MODEL_FORMAT
    name: str
    """Name of the scenario."""
    candidate: str
    """Name of the candidate that was chosen."""
    task: Literal["classification", "segmentation", "detection", "regression"]
    kind: Literal["network", "sklearn", "fusion"]
    classes: tuple[str, ...]
    """In the order of the probabilities; background first for a segmentation alone. Of a
    regression the one quantity."""
    unit: str = Field(default="", exclude_if=says_nothing)
    """UCUM unit of a regression's number."""
    regions: Regions = Field(default=(), exclude_if=says_nothing)
    """Name and label values of what is measured instead of the classes, in their order."""
    positive: str | None = None
    plan: NetworkPlan | None = None
    recipe: dict[str, Any] | None = None
    """The fitted recipe that input must have passed."""
    features: tuple[str, ...] = ()
    """Columns of a table, in order."""
    places: dict[str, Any] | None = Field(default=None, exclude_if=lambda value: value is None)
    """Of a classical detector what is looked for, see `tasks.learn.place_detector`."""
    fusion: dict[str, Any] | None = None
    """Parameters of ``tasks.learn.fusion.apply_fusion``; the members lie below ``members``."""
    calibration: dict[str, Any] | None = None
    """Parameters for ``evaluate.calibrate.apply_calibration``; ``predict`` does not apply them."""
    thresholds: dict[str, float] = {}
    """Operating points by name, chosen out of fold."""
    views: Views | None = Field(default=None, exclude_if=says_nothing)
    """How views of a study become one answer; threshold and calibration are then of studies."""
    postprocess: tuple[Rule, ...] = Field(default=(), exclude_if=says_nothing)
    """What is done to a mask after the network, chosen on the validation sides."""
    ood_threshold: float | None = None
    """Distance above which an input is unlike the training cases."""
    headers: dict[str, list[Any]] = {}
    """What the training side's headers say, by `tasks.learn.header_range.seen_headers`."""
    n_folds: int = 1
    weights_sha256: str = ""
    """Of the file of numbers; written by :func:`save_model`."""
    hashes: dict[str, str] = {}
    """Data, split, label, recipe and code hashes."""

    @property
    def regions_out(self) -> Sets:
        """Label values of each output of a network that answers by regions, else nothing."""
        return () if self.plan is None else self.plan.regions

    @property
    def of_pictures(self) -> bool:
        """Whether a detection is one of pictures."""
        if self.plan is not None:
            return self.plan.dims == 2
        return all(size[0] <= 1 for size in (self.places or {}).get("sizes", ()))

    @property
    def outlines(self) -> bool:
        """Whether a detector outlines what it finds."""
        return self.plan is not None and self.plan.network in OUTLINING

    @property
    def measured(self) -> Regions:
        """Name and label values of what a segmentation is measured by."""
        return self.regions or tuple((name, (i,)) for i, name in enumerate(self.classes) if i)


def save_model(
    folder: str | Path,
    spec: ModelSpec,
    *,
    folds: Sequence[str | Path] = (),
    skops: str | Path | None = None,
) -> ModelSpec:
    """Write a model's folder: numbers first, ``model.json`` last.

    Parameters
    ----------
    folder : path
        Made when missing.
    spec : ModelSpec
        Its ``n_folds`` and ``weights_sha256`` are filled in.
    folds : sequence of path
        ``FoldResult.weights_path`` of every fold of a network, in order.
    skops : path
        The file of :func:`tasks.learn.skops_file.save_skops`, for kind ``sklearn``.

    Returns
    -------
    ModelSpec
        As written.

    Raises
    ------
    ValueError
        If the files given are not those the kind needs.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if spec.kind == "network":
        if not folds or spec.plan is None:
            raise ValueError("a network is saved with its plan and at least one fold's weights")
        numbers = folder / WEIGHTS_FILE
        _write_ensemble(numbers, folds)
    else:
        if skops is None:
            raise ValueError("an sklearn model is saved with its skops file")
        numbers = folder / SKOPS_FILE
        shutil.copyfile(skops, numbers)
    filled = spec.model_copy(
        update={"n_folds": max(1, len(folds)), "weights_sha256": sha256_file(numbers)}
    )
    beside = folder / f".{SPEC_FILE}.{os.getpid()}"
    beside.write_text(filled.model_dump_json(indent=2) + "\n")
    beside.replace(folder / SPEC_FILE)
    return filled


def _write_ensemble(path: Path, folds: Sequence[str | Path]) -> None:
    import torch

    from tasks.learn.checkpoint import prefixed, write_tensors
    from tasks.learn.fold import read_weights

    tensors: dict[str, torch.Tensor] = {}
    for i, fold in enumerate(folds):
        weights, ood = read_weights(fold)
        tensors |= prefixed(f"fold{i}", weights)
        if ood is not None:
            arrays = {name: torch.from_numpy(a) for name, a in ood.arrays().items()}
            tensors |= prefixed(f"ood{i}", arrays)
    write_tensors(path, tensors)


def read_spec(folder: str | Path) -> ModelSpec:
    """Return the specification in a model's folder; light, no torch.

    Raises
    ------
    ModelRefused
        If it is missing, damaged or of another format version.
    """
    path = Path(folder) / SPEC_FILE
    try:
        spec = ModelSpec.model_validate_json(path.read_text())
    except (OSError, ValidationError) as error:
        # pydantic's own text repeats the input; its kind and count are enough here.
        raise ModelRefused(
            f"{SPEC_FILE} cannot be read ({type(error).__name__}); register the model again"
        ) from error
    if spec.format not in READ_FORMATS:
        raise ModelRefused(
            f"the model has format {spec.format}, this radloop reads {READ_FORMATS}; train it again"
        )
    return spec
