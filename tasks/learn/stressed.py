"""Corrupted images through a model, from the source's own voxels to its answer.

A corruption is done to the source in real units, before the recipe: there its physics holds, and
the recipe may mend it, as it would in use.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
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
from tasks.imaging.channels import LaidCase, PreparedCase, lay, obey
from tasks.imaging.columns import numbers_of
from tasks.imaging.recipe import FittedRecipe
from tasks.labels.case_mask import case_mask
from tasks.labels.regions import values_of
from tasks.learn.answer import calibrated, model_mask
from tasks.learn.box_scores import on_source
from tasks.learn.boxes import rows_of_findings
from tasks.learn.dataset import spacing_of
from tasks.learn.job import JobCase
from tasks.learn.judge import IMAGES_TOGETHER
from tasks.learn.model import Model, TabularModel
from tasks.learn.model_file import ModelSpec
from tasks.learn.zoo import OF_WHOLE_IMAGES


def sample_cases(cases: Sequence[JobCase], count: int) -> list[JobCase]:
    """Return up to so many cases, one a patient and as many of each class as there are.

    The choice depends on the ids alone: the same test edition gives the same sample.
    """
    ranked = sorted(cases, key=lambda case: sha256(case.case_id.encode()).hexdigest())
    one_each = list({case.patient_key: case for case in reversed(ranked)}.values())[::-1]
    classes: dict[Any, list[JobCase]] = {}
    for case in one_each:
        # A detection has no class of a case: half the sample has something to find.
        kind = bool(case.boxes) if case.target is None else case.target
        kind = 0 if isinstance(kind, float) else kind  # numbers are no classes
        classes.setdefault(kind, []).append(case)
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

    Series of one case are laid on one grid first, registered as they are, and each is corrupted by
    itself. One case and one batch are held at once; of a segmentation a batch is one image.

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
        Calibrated probabilities (k,), a number (1,), `MaskFigures` on the source's own grid, rows
        of findings (b, 14) as `tasks.learn.boxes.rows_of_findings` gives them, or None where the
        recipe refuses the image.
    """
    recipe = FittedRecipe.from_dict(model.spec.recipe)
    together = IMAGES_TOGETHER if model.spec.task in OF_WHOLE_IMAGES else 1
    for case in cases:
        try:
            laid = lay(recipe, case)
        except BadCase:
            continue
        answer = _scored(model, recipe, case, laid.volume, masks)
        made = _variants(laid, corruptions, case.case_id, seed)
        answers: dict[tuple[str, int], Any] = {}
        while chunk := list(itertools.islice(made, together)):
            ready = [_prepared(recipe, one) for *_, one in chunk]
            found = iter(answer([one for one in ready if one is not None]))
            for (name, severity, _), one in zip(chunk, ready, strict=True):
                answers[name, severity] = None if one is None else next(found)
        yield case.case_id, answers


def _variants(
    laid: LaidCase, corruptions: Sequence[Corruption], case_id: str, seed: int
) -> Iterator[tuple[str, int, LaidCase]]:
    """Give a case as it is, then with every series under the same corruption and severity."""
    spacing = spacing_of(laid.volume.affine)
    reference = next(iter(laid.images))
    made = [
        # Noise of one series is not that of another.
        variants(
            image.array, corruptions, spacing,
            case_id if channel == reference else f"{case_id} {channel}", seed,
        )
        for channel, image in laid.images.items()
    ]  # fmt: skip
    for together in zip(*made, strict=True):
        (name, severity, _), *_ = together
        images = {
            channel: replace(image, array=array)
            for (channel, image), (*_, array) in zip(laid.images.items(), together, strict=True)
        }
        yield name, severity, replace(laid, images=images)


def _prepared(recipe: FittedRecipe, laid: LaidCase) -> PreparedCase | None:
    try:
        return obey(recipe, laid)
    except BadCase:
        return None


def _scored(
    model: Model | TabularModel,
    recipe: FittedRecipe,
    case: OrderCase,
    volume: Volume,
    masks: MaskConfig,
) -> Callable[[Sequence[PreparedCase]], Iterable[Any]]:
    """Return how prepared images of one case become answers."""
    spec = model.spec
    if isinstance(model, TabularModel):
        from tasks.learn.tabular import table_frame

        def measured(ready: Sequence[PreparedCase]) -> Iterable[Any]:
            if not ready:
                return []
            frame = table_frame([numbers_of(one.traces) for one in ready])
            return _settled(spec, model.predict(frame))

        return measured
    if spec.task in OF_WHOLE_IMAGES:

        def called(ready: Sequence[PreparedCase]) -> Iterable[Any]:
            if not ready:
                return []
            return _settled(spec, np.stack(model.predict_many([one.image.array for one in ready])))

        return called
    if spec.task == "detection":
        return lambda ready: (_found(model, one, volume) for one in ready)
    truth, spacing = case_mask(case, volume), spacing_of(volume.affine)
    regions = values_of(spec.regions)

    def outlined(ready: Sequence[PreparedCase]) -> Iterator[Any]:
        for one in ready:
            maps = model.predict(one.image.array)
            mask = model_mask(spec, recipe, one.traces, maps, volume.affine)
            yield mask_figures(truth, mask, spacing, len(spec.classes) - 1, masks, regions)

    return outlined


def _settled(spec: ModelSpec, answers: np.ndarray) -> np.ndarray:
    """Return answers (n, k) as they are told: calibrated probabilities, or numbers."""
    return answers if spec.task == "regression" else calibrated(spec, answers)


def _found(model: Model, ready: PreparedCase, volume: Volume) -> np.ndarray:
    """Return what is found in an image, cut at the border of the source's grid."""
    said = model.detect(ready.image.array)
    said = on_source(said, ready.image, volume.affine, volume.array.shape)
    return rows_of_findings(said, volume.affine)
