"""Corrupted images through a model, from the source's own voxels to its answer.

A corruption is done to the source in real units, before the recipe: there its physics holds, and
the recipe may mend it, as it would in use.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any

import numpy as np

from tasks.archive.orders import OrderCase
from tasks.archive.volume import Volume
from tasks.errors import BadCase
from tasks.evaluate.config import MaskConfig
from tasks.evaluate.robustness import variants
from tasks.evaluate.segmentation import mask_figures
from tasks.evaluate.stress import Corruption
from tasks.imaging.columns import numbers_of
from tasks.imaging.recipe import FittedRecipe, apply
from tasks.imaging.source import read_source
from tasks.imaging.step import Image
from tasks.labels.case_mask import case_mask
from tasks.labels.regions import values_of
from tasks.learn.dataset import spacing_of
from tasks.learn.job import JobCase
from tasks.learn.judge import IMAGES_TOGETHER, calibrated, model_mask
from tasks.learn.model import Model, TabularModel

Prepared = tuple[Image, tuple[dict, ...]]


def sample_cases(cases: Sequence[JobCase], count: int) -> list[JobCase]:
    """Return up to so many cases, one a patient and as many of each class as there are.

    The choice depends on the ids alone: the same test edition gives the same sample.
    """
    ranked = sorted(cases, key=lambda case: sha256(case.case_id.encode()).hexdigest())
    one_each = list({case.patient_key: case for case in reversed(ranked)}.values())[::-1]
    classes: dict[Any, list[JobCase]] = {}
    for case in one_each:
        classes.setdefault(case.target, []).append(case)
    rows = itertools.zip_longest(*(classes[key] for key in sorted(classes, key=str)))
    return [case for row in rows for case in row if case is not None][:count]


def judge_corrupted(
    model: Model | TabularModel,
    cases: Iterable[OrderCase],
    corruptions: Sequence[Corruption],
    masks: MaskConfig,
    seed: int = 0,
) -> Iterator[tuple[str, dict[tuple[str, int], Any]]]:
    """Ask a model about each case as it is and at every severity of every corruption.

    One volume and one batch are held at once.

    Parameters
    ----------
    model : Model or TabularModel
        Of images; its recipe in its specification.
    cases : iterable of OrderCase
        With masks for a segmentation.
    corruptions : sequence of Corruption
    masks : MaskConfig
        How a segmentation is measured.
    seed : int

    Yields
    ------
    str
        Case id; a case whose files cannot be read is left out.
    mapping of (corruption, severity) to answer
        Calibrated probabilities (k,), `MaskFigures` on the source's own grid, or None where the
        recipe refuses the image.
    """
    recipe = FittedRecipe.from_dict(model.spec.recipe)
    for case in cases:
        try:
            volume = read_source(recipe, case)
        except BadCase:
            continue
        answer = _scored(model, recipe, case, volume, masks)
        spacing = spacing_of(volume.affine)
        made = variants(volume.array, corruptions, spacing, case.case_id, seed)
        answers: dict[tuple[str, int], Any] = {}
        while chunk := list(itertools.islice(made, IMAGES_TOGETHER)):
            ready = [_prepared(recipe, volume, array) for *_, array in chunk]
            found = iter(answer([one for one in ready if one is not None]))
            for (name, severity, _), one in zip(chunk, ready, strict=True):
                answers[name, severity] = None if one is None else next(found)
        yield case.case_id, answers


def _prepared(recipe: FittedRecipe, volume: Volume, array: np.ndarray) -> Prepared | None:
    try:
        return apply(recipe, Image(array, volume.affine, facts=volume.facts))
    except BadCase:
        return None


def _scored(
    model: Model | TabularModel,
    recipe: FittedRecipe,
    case: OrderCase,
    volume: Volume,
    masks: MaskConfig,
) -> Callable[[Sequence[Prepared]], Iterable[Any]]:
    """Return how prepared images of one case become answers."""
    spec = model.spec
    if isinstance(model, TabularModel):
        from tasks.learn.tabular import predict_table, table_frame

        def measured(ready: Sequence[Prepared]) -> Iterable[Any]:
            if not ready:
                return []
            frame = table_frame([numbers_of(traces) for _, traces in ready])
            return calibrated(spec, predict_table(model.pipeline, frame, len(spec.classes)))

        return measured
    if spec.task == "classification":

        def called(ready: Sequence[Prepared]) -> Iterable[Any]:
            if not ready:
                return []
            return calibrated(spec, np.stack(model.predict_many([i.array for i, _ in ready])))

        return called
    truth, spacing = case_mask(case, volume), spacing_of(volume.affine)
    regions = values_of(spec.regions)

    def outlined(ready: Sequence[Prepared]) -> Iterator[Any]:
        for image, traces in ready:
            mask = model_mask(spec, recipe, traces, model.predict(image.array), volume.affine)
            yield mask_figures(truth, mask, spacing, len(spec.classes) - 1, masks, regions)

    return outlined
