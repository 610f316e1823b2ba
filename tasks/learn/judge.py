"""One case through a model, from its source files to an answer on its own grid.

`predict` and the test side of a training take this same path, so that what was measured is what is
applied: read, obey the model's own fitted recipe, ask, calibrate, bring masks back.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from tasks.archive.orders import OrderCase
from tasks.archive.volume import UNKNOWN_SPACING, is_cine, is_placed
from tasks.errors import BadCase
from tasks.hashing import digest_json
from tasks.imaging.channels import PreparedCase, prepare, reference_plane
from tasks.imaging.columns import columns_of, numbers_of
from tasks.imaging.recipe import FittedRecipe, fixed_shape
from tasks.imaging.reorient import orientation_of
from tasks.learn.answer import POSITIVE, calibrated, model_mask, source_outline
from tasks.learn.box_scores import on_source
from tasks.learn.boxes import Findings
from tasks.learn.header import HEADER_COLUMNS, header_frame
from tasks.learn.judgement import Judgement
from tasks.learn.model import Model, TabularModel
from tasks.learn.model_file import ModelSpec
from tasks.learn.zoo import OF_WHOLE_IMAGES

IMAGES_TOGETHER = 16
"""Images a classifier is asked about at once: batches are several times faster, and small."""


def judge_image(model: Model | TabularModel, case: OrderCase) -> Judgement:
    """Judge one image, as `judge_files` does.

    Raises
    ------
    BadCase
        When the files cannot be read or a step of the recipe refuses them.
    ValueError
        When a step has another version than the recipe was fitted with.
    """
    ((_, answer),) = judge_files(model, [case])
    if isinstance(answer, BadCase):
        raise answer
    return answer


def judge_files(
    model: Model | TabularModel, cases: Iterable[OrderCase]
) -> Iterator[tuple[OrderCase, Judgement | BadCase]]:
    """Judge images by their voxels, with a network or by what the recipe measures in them."""
    if isinstance(model, TabularModel):
        return judge_measured(model, cases)
    if model.spec.kind == "fusion":
        from tasks.learn.fused import judge_fused

        return judge_fused(model, cases)
    return judge_images(model, cases)


def judge_images(
    model: Model, cases: Iterable[OrderCase]
) -> Iterator[tuple[OrderCase, Judgement | BadCase]]:
    """Judge images one after the other, classifiers some at a time.

    Parameters
    ----------
    model : Model
        With the fitted recipe in its specification.
    cases : iterable of OrderCase

    Yields
    ------
    OrderCase
    Judgement or BadCase
        BadCase where the files cannot be read or a step of the recipe refuses them.
    """
    recipe = recipe_of(model.spec)
    together = IMAGES_TOGETHER if model.spec.task in OF_WHOLE_IMAGES else 1
    waiting = iter(cases)
    while chunk := list(itertools.islice(waiting, together)):
        ready = [_one_slice(model.spec, prepared_case(recipe, case)) for case in chunk]
        seen = [one.image.array for one in ready if not isinstance(one, BadCase)]
        answers = iter(_answers(model, seen))
        for case, one in zip(chunk, ready, strict=True):
            if isinstance(one, BadCase):
                yield case, one
            else:
                yield case, _judgement(model, recipe, case, one, next(answers))


def _one_slice(spec: ModelSpec, one: PreparedCase | BadCase) -> PreparedCase | BadCase:
    """Refuse a volume, or a cine, for a detector of pictures: it would look at the first slice."""
    other = isinstance(one, BadCase) or spec.task != "detection" or not spec.of_pictures
    if other or (n := one.image.array.shape[-3]) == 1:
        return one
    return BadCase("several_images", f"{n} slices or frames: this detector looks at one image")


def recipe_of(spec: ModelSpec) -> FittedRecipe:
    """Return a model's recipe; refuses what cannot be obeyed here before any case is read."""
    recipe = FittedRecipe.from_dict(spec.recipe)
    fixed_shape(recipe)
    columns_of(recipe)
    return recipe


def prepared_case(recipe: FittedRecipe, case: OrderCase) -> PreparedCase | BadCase:
    """Read a case and obey the recipe."""
    try:
        return prepare(recipe, case)
    except BadCase as error:
        return error
    except Exception as error:
        # As when a part is made; without the message, which could hold an identifier.
        return BadCase(f"failed:{type(error).__name__}")


def _answers(model: Model, seen: Sequence[np.ndarray]) -> list[Any]:
    if not seen:
        return []
    if model.spec.task == "detection":
        return [model.detect(one) for one in seen]
    return model.predict_many(seen)


def _judgement(
    model: Model,
    recipe: FittedRecipe,
    case: OrderCase,
    prepared: PreparedCase,
    answer: np.ndarray | Findings,
) -> Judgement:
    volume, image = prepared.volume, prepared.image
    distance = model.ood_score(image.array)
    limit = model.spec.ood_threshold
    task = model.spec.task
    if task in OF_WHOLE_IMAGES:
        said = said_of(model.spec, answer)
    elif task == "segmentation":
        said = {"mask": model_mask(model.spec, recipe, prepared.traces, answer, volume.affine)}
    else:
        back = partial(source_outline, recipe, prepared.traces)
        least = model.spec.thresholds.get(POSITIVE, 0.0)
        found = on_source(answer, image, volume.affine, volume.array.shape, back, least)
        said = {"findings": found}
    unlike = None if distance is None or limit is None else distance > limit
    return _of_image(recipe, case, prepared, **said, distance=distance, unlike=unlike)


def _of_image(
    recipe: FittedRecipe, case: OrderCase, prepared: PreparedCase, **said: Any
) -> Judgement:
    """Return what is said of an image, with the image as it is and as the model saw it."""
    volume, image = prepared.volume, prepared.image
    placed = is_placed(volume)
    return Judgement(
        case_id=case.case_id,
        input_hash=digest_json([ref.digest for ref in case.all_files]),
        **said,
        image=volume.array,
        affine=volume.affine,
        sized=volume.facts.get("spacing") != UNKNOWN_SPACING and not is_cine(volume),
        placed=placed,
        axes=orientation_of(image.affine) if placed else None,
        at_detector=volume.facts.get("spacing") == "ImagerPixelSpacing",
        prepared=image.array,
        shown=reference_plane(image.array, recipe),
        present=prepared.present,
        traces=prepared.traces,
    )


def said_of(spec: ModelSpec, answer: np.ndarray) -> dict[str, Any]:
    """Return a `Judgement`'s fields of a raw answer (k,): probabilities, or the one number."""
    if spec.task == "regression":
        return {"value": float(answer[0])}
    return {"probability": calibrated(spec, answer[None])[0]}


def judge_rows(
    model: TabularModel, case_ids: Sequence[str], facts: Sequence[Mapping[str, Any]]
) -> list[Judgement]:
    """Judge rows of a table, or images by their header alone.

    Parameters
    ----------
    model : TabularModel
    case_ids : sequence of str
    facts : sequence of mapping
        Columns of each row.

    Raises
    ------
    ValueError
        When a column the model was fitted on is missing.
    """
    from tasks.learn.tabular import table_frame

    if model.spec.kind == "fusion":
        answers = model.predict(None, facts)
    else:
        answers = model.predict(
            header_frame(facts) if is_header_model(model.spec) else table_frame(facts)
        )
    return [
        Judgement(case_id, digest_json(dict(row)), **said_of(model.spec, answer))
        for case_id, row, answer in zip(case_ids, facts, answers, strict=True)
    ]


def judge_measured(
    model: TabularModel, cases: Iterable[OrderCase]
) -> Iterator[tuple[OrderCase, Judgement | BadCase]]:
    """Judge images by what the model's own recipe measures in them, one after the other.

    Parameters
    ----------
    model : TabularModel
        Trained on the columns of the recipe in its specification.
    cases : iterable of OrderCase

    Yields
    ------
    OrderCase
    Judgement or BadCase
        As `judge_images`.
    """
    from tasks.learn.tabular import table_frame

    recipe = recipe_of(model.spec)
    for case in cases:
        ready = prepared_case(recipe, case)
        if isinstance(ready, BadCase):
            yield case, ready
            continue
        (answer,) = model.predict(table_frame([numbers_of(ready.traces)]))
        yield case, _of_image(recipe, case, ready, **said_of(model.spec, answer))


def is_header_model(spec: ModelSpec) -> bool:
    """Whether a model sees header facts of images instead of a table's row."""
    sees_images = spec.kind == "sklearn" and spec.recipe is not None
    return sees_images and set(spec.features) <= set(HEADER_COLUMNS)


def needs_files(spec: ModelSpec) -> bool:
    """Whether a model sees voxels: a network, or a table of what its recipe measures in them."""
    return spec.kind == "network" or (spec.recipe is not None and not is_header_model(spec))


def missing_channels(spec: ModelSpec, one: Judgement) -> list[str]:
    """Return the names of the channels that a case was judged without."""
    names = spec.recipe["channels"]["names"] if one.present else []
    return [name for name, held in zip(names, one.present, strict=True) if not held]
