"""A model as it is kept: tensors and JSON, nothing that runs; loaded once and asked many times."""

import hashlib
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.errors import ModelRefused
from tasks.evaluate.studies import Views
from tasks.labels.regions import Regions, Sets
from tasks.learn.plan import NETWORKS, NetworkPlan
from tasks.learn.postprocess import Rule

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tasks.learn.boxes import Findings
    from tasks.learn.fused import FusedModel
    from tasks.learn.ood import OodModel

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
    task: Literal["classification", "segmentation", "detection"]
    kind: Literal["network", "sklearn", "fusion"]
    classes: tuple[str, ...]
    """In the order of the probabilities; background first for a segmentation alone."""
    regions: Regions = Field(default=(), exclude_if=lambda value: not value)
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
    views: Views | None = Field(default=None, exclude_if=lambda value: value is None)
    """How views of a study become one answer; threshold and calibration are then of studies."""
    postprocess: tuple[Rule, ...] = Field(default=(), exclude_if=lambda value: not value)
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
        update={"n_folds": max(1, len(folds)), "weights_sha256": _sha256(numbers)}
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


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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


def load_model(
    folder: str | Path, device: str | None = None, trusted: Collection[str] = ()
) -> "Model | TabularModel | FusedModel":
    """Load a model to ask it.

    Parameters
    ----------
    folder : path
    device : str, optional
        A CUDA device where there is one, else the CPU.
    trusted : collection of str
        ``module:function`` networks of the user's own scenario. What a model's file names is never
        imported unless it is among them.

    Raises
    ------
    ModelRefused
        If the numbers are not those of ``model.json``, do not fit the network, or the network is
        foreign and not trusted.
    """
    spec = read_spec(folder)
    if spec.kind == "fusion":
        from tasks.learn.fused import load_fused

        return load_fused(Path(folder), spec, device, trusted)
    numbers = Path(folder) / (WEIGHTS_FILE if spec.kind == "network" else SKOPS_FILE)
    if not numbers.is_file() or _sha256(numbers) != spec.weights_sha256:
        raise ModelRefused(
            f"{numbers.name} is missing or not the file that {SPEC_FILE} was written with; "
            "fetch the model again"
        )
    if spec.kind == "sklearn":
        from tasks.learn.skops_file import load_skops

        if spec.task == "detection":
            from tasks.learn.place_detector import PlaceModel

            return PlaceModel(spec, load_skops(numbers))
        return TabularModel(spec, load_skops(numbers))
    return _load_ensemble(spec, numbers, device, trusted)


def _load_ensemble(
    spec: ModelSpec, path: Path, device: str | None, trusted: Collection[str]
) -> "Model":
    from tasks.learn.checkpoint import read_tensors, restore_network, without_prefix
    from tasks.learn.device import pick_device
    from tasks.learn.networks import build_network
    from tasks.learn.ood import from_arrays

    if spec.plan is None:
        raise ModelRefused(f"{SPEC_FILE} holds no network plan; register the model again")
    if spec.plan.network not in (*NETWORKS, *trusted):
        raise ModelRefused(
            f"the model wants the foreign network {spec.plan.network!r}; "
            "it is loaded only when the scenario itself names it"
        )
    tensors, _ = read_tensors(path)
    where = pick_device(device)
    networks, oods = [], []
    for i in range(spec.n_folds):
        network = build_network(spec.plan)
        try:
            restore_network(network, without_prefix(f"fold{i}", tensors))
        except ValueError as error:
            raise ModelRefused(f"fold {i}: {error}") from error
        networks.append(network.to(where).eval())
        arrays = {name: t.numpy() for name, t in without_prefix(f"ood{i}", tensors).items()}
        if arrays:
            oods.append(from_arrays(arrays))
    return Model(spec, spec.plan, networks, oods, where)


class Model:
    """The ensemble of a network's folds, in memory on a device."""

    def __init__(
        self,
        spec: ModelSpec,
        plan: NetworkPlan,
        networks: Sequence["nn.Module"],
        oods: Sequence["OodModel"],
        device: "torch.device",
    ) -> None:
        self.spec, self._plan, self.device = spec, plan, device
        self._networks, self._oods = tuple(networks), tuple(oods)

    @property
    def networks(self) -> tuple["nn.Module", ...]:
        """The folds' networks, in evaluation mode on the device."""
        return self._networks

    @property
    def plan(self) -> NetworkPlan:
        """What the networks are built by."""
        return self._plan

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Return the mean probability over the folds for an image that passed the recipe.

        Parameters
        ----------
        image : (z, y, x) array

        Returns
        -------
        (k,) float64 for a classification, (k, z, y, x) float32 for a segmentation
            Not calibrated.
        """
        return self.predict_many([image])[0]

    def predict_many(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return :meth:`predict` of several images; a classifier takes them in batches."""
        from tasks.learn.infer import classify, segment

        if self.spec.task == "detection":
            raise ValueError("a detection has no probability of an image; use detect")
        if self.spec.task == "segmentation":
            return [segment(self._networks, self._plan, x, self.device) for x in images]
        return list(classify(self._networks, self._plan, images, self.device))

    def detect(self, image: np.ndarray) -> "Findings":
        """Return what is found in an image ([c,] z, y, x) that passed the recipe.

        Fused over the folds, tiles and mirrorings; in index coordinates of the image, the best
        first, with scores that are not calibrated.

        Raises
        ------
        ValueError
            If the model is no detector.
        """
        from tasks.learn.detect import detect

        if self.spec.task != "detection":
            raise ValueError(f"a {self.spec.task} finds no boxes; use predict")
        return detect(self._networks, self._plan, image, self.device)

    def ood_score(self, image: np.ndarray) -> float | None:
        """Return how far an image lies from the training cases, None if that was not measured.

        The mean over the folds' own distances; compare it with ``spec.ood_threshold``.
        """
        from tasks.learn.infer import features

        if len(self._oods) != len(self._networks):
            return None
        scores = [
            ood.score(features(network, self._plan, [image], self.device))[0]
            for network, ood in zip(self._networks, self._oods, strict=True)
        ]
        return float(np.mean(scores))

    def is_unlike(self, image: np.ndarray) -> bool | None:
        """Return whether an image is unlike the training cases, None if that was not measured."""
        score = self.ood_score(image)
        if score is None or self.spec.ood_threshold is None:
            return None
        return score > self.spec.ood_threshold

    def heatmap(self, image: np.ndarray, class_index: int) -> np.ndarray | None:
        """Return where a classifier sees a class, (z, y, x) in [0, 1], None if it cannot say."""
        from tasks.learn.infer import heatmap

        if self.spec.task != "classification":
            return None
        return heatmap(self._networks, self._plan, image, class_index, self.device)


class TabularModel:
    """A fitted scikit-learn pipeline."""

    def __init__(self, spec: ModelSpec, pipeline: Any) -> None:
        self.spec, self.pipeline = spec, pipeline

    def predict(self, frame: Any) -> np.ndarray:
        """Return probabilities (n, k) of a DataFrame; its columns may stand in any order."""
        from tasks.learn.tabular import predict_table

        return predict_table(self.pipeline, frame, len(self.spec.classes))

    def heatmap(self, image: np.ndarray, class_index: int) -> None:
        """Return None: a number measured in a whole region has no place in it."""
        return None


def predict_cases(model: Model, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return :meth:`Model.predict` of many images (z, y, x) by case id."""
    return dict(zip(arrays, model.predict_many(list(arrays.values())), strict=True))
