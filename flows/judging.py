"""Judging cases with a model: the way to the files is the coordinator's, the answer the model's."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flows.answers import draw_overlay
from flows.cohorts import Ready
from flows.console import progress, say
from flows.home import Home
from flows.orders import orders_of
from flows.outlining import outline_figures, outline_scores
from tasks.archive.orders import OrderCase
from tasks.archive.volume import is_placed
from tasks.errors import BadCase
from tasks.evaluate.estimates import Estimates
from tasks.evaluate.finding_scores import FindingScores, wrong_a_case
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.predictions import Predictions
from tasks.evaluate.segmentation import mask_figures, mask_scores
from tasks.imaging.recipe import FittedRecipe
from tasks.imaging.source import read_source
from tasks.labels.case_mask import case_mask
from tasks.labels.regions import values_of
from tasks.learn.answer import POSITIVE, calibrated_studies, called
from tasks.learn.box_scores import finding_scores
from tasks.learn.boxes import rows_of, rows_of_findings
from tasks.learn.dataset import spacing_of
from tasks.learn.job import JobCase
from tasks.learn.judge import judge_files, judge_image, judge_rows, needs_files
from tasks.learn.judgement import Judgement
from tasks.learn.model import load_model
from tasks.learn.model_file import ModelSpec
from tasks.learn.outlines import class_map
from tasks.scenario import Scenario
from tasks.serve.findings_picture import findings_png
from tasks.serve.planes import mask_png

SHOWN_CASES = 4
"""Worst and best cases shown in a report, each."""


def judge_side(
    home: Home, ready: Ready, cases: Sequence[JobCase], folder: Path, pictures: Path
) -> tuple[Predictions | MaskScores | FindingScores | Estimates, list[dict[str, str]]]:
    """Judge labelled cases of a side and draw the worst and best ones.

    Returns
    -------
    Predictions, MaskScores, FindingScores or Estimates
    list of dict
        Pictures for the report.
    """
    model = load_model(folder, trusted=ready.scenario.networks)
    if not needs_files(model.spec):
        found = judge_rows(model, [c.case_id for c in cases], [c.facts for c in cases])
        return predictions(model.spec, cases, [raw_answer(one) for one in found]), []
    by_id = {case.case_id: case for case in ready.cohort.cases}
    chosen = [by_id[case.case_id] for case in cases]
    labels = ready.scenario.labels
    cohort = ready.cohort
    told = (cohort.masks, labels.numbers, cohort.boxes, labels.classes, labels.named)
    orders = orders_of(home, chosen, *told)
    truth = {case.case_id: case for case in cases}
    if model.spec.task == "segmentation":
        return _judge_masks(model, orders, truth, pictures, ready.scenario)
    if model.spec.task == "detection":
        return _judge_boxes(model, orders, truth, pictures, ready.scenario)
    if model.spec.task == "regression":
        return _judge_numbers(model, orders, truth, pictures)
    return _judge_classes(model, orders, truth, pictures)


def _judge_classes(
    model: Any, orders: Iterator[OrderCase], truth: dict[str, JobCase], pictures: Path
) -> tuple[Predictions, list[dict[str, str]]]:
    judged = [(order, one.probability) for order, one in _judged(model, list(orders))]
    kept = [truth[order.case_id] for order, _ in judged]
    found = predictions(model.spec, kept, [probability for _, probability in judged])
    said = dict(zip(found.case_ids, zip(found.target, found.probability, strict=True), strict=True))
    right = []
    for order, _ in judged:
        target, probability = said[truth[order.case_id].unit]
        right.append((float(probability[target]), order))
    drawn = []
    for title, probability, order in _worst_and_best(right):
        one = judge_image(model, order)
        case = truth[order.case_id]
        path = pictures / f"case-{order.case_id[:12]}.png"
        draw_overlay(path, model, one, int(one.probability.argmax()))
        target, whole = said[case.unit]
        text = f"truth {model.spec.classes[target]}, called {called(model.spec, whole)}"
        caption = f"{text}; probability of the truth {probability:.2f}"
        if case.study:
            caption += f" of the study, {one.probability[target]:.2f} of this view"
        drawn.append({"path": str(path), "title": title, "caption": caption})
    return found, drawn


def _judge_numbers(
    model: Any, orders: Iterator[OrderCase], truth: dict[str, JobCase], pictures: Path
) -> tuple[Estimates, list[dict[str, str]]]:
    judged = [(order, one.value) for order, one in _judged(model, list(orders))]
    kept = [truth[order.case_id] for order, _ in judged]
    found = predictions(model.spec, kept, [[value] for _, value in judged])
    off = [
        (-abs(value - case.target), order)
        for (order, value), case in zip(judged, kept, strict=True)
    ]
    drawn = []
    for title, _, order in _worst_and_best(off):
        one, target = judge_image(model, order), truth[order.case_id].target
        path = pictures / f"case-{order.case_id[:12]}.png"
        draw_overlay(path, model, one, 0)
        caption = f"{found.words}: truth {target:g}, estimated {one.value:.4g}"
        drawn.append({"path": str(path), "title": title, "caption": caption})
    return found, drawn


def _judge_masks(
    model: Any,
    orders: Iterator[OrderCase],
    truth: dict[str, JobCase],
    pictures: Path,
    scenario: Scenario,
) -> tuple[MaskScores, list[dict[str, str]]]:
    kept, rows, order_of, said = [], [], [], {}
    # The scenario's own regions, so that an older champion is measured by them as well.
    labels, recipe = scenario.labels, FittedRecipe.from_dict(model.spec.recipe)
    how = len(labels.classes), scenario.evaluate, values_of(labels.parts)
    orders = list(orders)
    for order, one in _judged(model, orders):
        mask = case_mask(order, read_source(recipe, order))
        found = mask_figures(mask, one.mask, spacing_of(one.affine), *how)
        kept.append(truth[order.case_id])
        rows.append(found)
        order_of.append((float(found.dice.mean()), order))
        # Masks of those that may be shown are kept: to ask again costs more than all the drawing.
        shown = {near.case_id for *_, near in _worst_and_best(order_of)}
        said = {c: m for c, m in (said | {order.case_id: one.mask}).items() if c in shown}
    drawn = []
    for title, score, order in _worst_and_best(order_of):
        volume = read_source(recipe, order)
        mask = case_mask(order, volume)
        for name, drawn_mask in (("model", said[order.case_id]), ("truth", mask)):
            path = pictures / f"case-{order.case_id[:12]}-{name}.png"
            placed = is_placed(volume)
            mask_png(path, volume.array, drawn_mask, volume.affine, mask, placed=placed)
            caption = f"{name}, slices with most of the truth; mean Dice {score:.2f}"
            drawn.append({"path": str(path), "title": title, "caption": caption})
    keys = [case.patient_key for case in kept]
    return mask_scores([case.case_id for case in kept], keys, labels.measured, rows), drawn


def _judge_boxes(
    model: Any,
    orders: Iterator[OrderCase],
    truth: dict[str, JobCase],
    pictures: Path,
    scenario: Scenario,
) -> tuple[FindingScores, list[dict[str, str]]]:
    orders, judged, outlined = list(orders), [], []
    for order, one in _judged(model, orders):
        judged.append((order, rows_of_findings(one.findings, one.affine)))
        if model.spec.outlines:
            outlined.append(outline_figures(model.spec, order, one, scenario.evaluate))
    kept = [truth[order.case_id] for order, _ in judged]
    scores = finding_scores(
        [case.case_id for case in kept],
        [case.patient_key for case in kept],
        model.spec.classes,
        [rows for _, rows in judged],
        {case.case_id: case.boxes for case in kept},
        scenario.evaluate.findings.settled(model.spec.of_pictures).iou,
    )
    scores = replace(scores, outlines=outline_scores(scores, outlined))
    threshold = model.spec.thresholds.get(POSITIVE, 0.0)
    errors = wrong_a_case(scores, threshold)
    ranked = [(-float(n), order) for n, (order, _) in zip(errors, judged, strict=True)]
    drawn = []
    for title, wrong, order in _worst_and_best(ranked):
        one = judge_image(model, order)
        shown = one.findings.take(one.findings.score >= threshold)
        boxes = truth[order.case_id].boxes
        path = pictures / f"case-{order.case_id[:12]}.png"
        outline = class_map(shown, one.image.shape) if model.spec.outlines else None
        seen = one.image, one.affine, shown, model.spec.classes, boxes, outline
        findings_png(path, *seen, placed=one.placed)
        caption = (
            f"{int((rows_of(boxes)[:, 13] == 0).sum())} true boxes (blue, dashed), {len(shown)} "
            f"findings from the threshold on (orange, with score); {-wrong:g} missed or made up"
        )
        drawn.append({"path": str(path), "title": title, "caption": caption})
    return scores, drawn


def _judged(model: Any, orders: Sequence[OrderCase]) -> Iterator[tuple[OrderCase, Judgement]]:
    """Give the judgements that could be made, and say which could not."""
    with progress("judging", total=len(orders), unit="cases") as advance:
        for number, (order, one) in enumerate(judge_files(model, orders), start=1):
            if isinstance(one, BadCase):
                say(f"  case {order.case_id[:12]} not judged: {one.reason}")
            else:
                yield order, one
            advance(number, len(orders))


def raw_answer(one: Judgement) -> np.ndarray:
    """Return what `predictions` wants of a judgement: probabilities (k,), or a number (1,)."""
    return one.probability if one.value is None else np.array([one.value])


def predictions(
    spec: ModelSpec, cases: Sequence[JobCase], values: Sequence[np.ndarray]
) -> Predictions | Estimates:
    """Return answers of labelled cases, or of their studies where those are judged."""
    found = of_cases(spec, cases, values)
    if not any(case.study for case in cases):
        return found
    return calibrated_studies(spec, found, {case.case_id: case.unit for case in cases})


def of_cases(
    spec: Any, cases: Sequence[JobCase], values: Sequence[np.ndarray]
) -> Predictions | Estimates:
    """Return answers of labelled cases: probabilities, or the numbers of a regression.

    Classes, or quantity and unit, are those of a model, or of a job.
    """
    ids = tuple(case.case_id for case in cases)
    patients = tuple(case.patient_key for case in cases)
    target = np.array([case.target for case in cases])
    if spec.task == "regression":
        return Estimates(ids, patients, target, np.array(values)[:, 0], spec.classes[0], spec.unit)
    return Predictions(
        ids,
        patients,
        target,
        np.array(values),
        spec.classes,
        spec.positive,
    )


def _worst_and_best(
    figures: Iterable[tuple[float, OrderCase]],
) -> Iterator[tuple[str, float, OrderCase]]:
    """Give title, figure and case of those to be shown, each once, the lowest figure first."""
    ranked = sorted(figures, key=lambda pair: pair[0])
    for place, (figure, order) in enumerate(ranked):
        if min(place, len(ranked) - 1 - place) < SHOWN_CASES:
            yield "Worst cases" if place < len(ranked) / 2 else "Best cases", figure, order
