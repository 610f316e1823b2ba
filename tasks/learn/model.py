"""A model to ask: loaded once, asked many times."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.errors import ModelRefused
from tasks.hashing import sha256_file
from tasks.learn.model_file import SKOPS_FILE, SPEC_FILE, WEIGHTS_FILE, ModelSpec, read_spec
from tasks.learn.plan import NetworkPlan
from tasks.learn.zoo import NETWORKS, OF_WHOLE_IMAGES

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tasks.learn.boxes import Findings
    from tasks.learn.fused import FusedModel
    from tasks.learn.ood import OodModel


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
    if not numbers.is_file() or sha256_file(numbers) != spec.weights_sha256:
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
    from tasks.learn.networks import build_network, laid_out
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
        networks.append(laid_out(network, spec.plan, where).eval())
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
        (k,) float64 for a classification, (k, z, y, x) float32 for a segmentation, (1,) float64
        for a regression, in its unit
            Not calibrated.
        """
        return self.predict_many([image])[0]

    def predict_many(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return :meth:`predict` of several images; a classifier takes them in batches."""
        from tasks.learn.infer import classify, segment
        from tasks.learn.numbers import estimate

        if self.spec.task == "regression":
            return list(estimate(self._networks, self._plan, images, self.device))
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

    def heatmap(self, image: np.ndarray, class_index: int) -> np.ndarray | None:
        """Return where a classifier sees a class, (z, y, x) in [0, 1], None if it cannot say.

        Of a regression, whose one class is 0: what makes the number larger.
        """
        from tasks.learn.infer import heatmap

        if self.spec.task not in OF_WHOLE_IMAGES:
            return None
        return heatmap(self._networks, self._plan, image, class_index, self.device)


class TabularModel:
    """A fitted scikit-learn pipeline."""

    def __init__(self, spec: ModelSpec, pipeline: Any) -> None:
        self.spec, self.pipeline = spec, pipeline

    def predict(self, frame: Any) -> np.ndarray:
        """Return probabilities (n, k), or numbers (n, 1), of a DataFrame.

        Its columns may stand in any order.
        """
        from tasks.learn.tabular import predict_table
        from tasks.learn.tabular_numbers import predict_numbers

        if self.spec.task == "regression":
            return predict_numbers(self.pipeline, frame)[:, None]
        return predict_table(self.pipeline, frame, len(self.spec.classes))

    def heatmap(self, image: np.ndarray, class_index: int) -> None:
        """Return None: a number measured in a whole region has no place in it."""
        return None
