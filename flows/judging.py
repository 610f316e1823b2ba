"""Judging cases with a model: the way to the files is the coordinator's, the answer the model's."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flows.cohorts import Ready
from flows.console import progress, say
from flows.home import Home
from flows.orders import orders_of
from tasks.archive.orders import OrderCase
from tasks.errors import BadCase
from tasks.evaluate.finding_scores import FindingScores, wrong_a_case
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.predictions import Predictions
from tasks.evaluate.segmentation import mask_figures, mask_scores
from tasks.imaging.recipe import FittedRecipe
from tasks.imaging.source import read_source
from tasks.labels.case_mask import case_mask
from tasks.labels.regions import values_of
from tasks.learn.box_scores import finding_scores
from tasks.learn.boxes import boxes_on, rows_of, rows_of_findings
from tasks.learn.dataset import spacing_of
from tasks.learn.job import JobCase
from tasks.learn.judge import (
    POSITIVE,
    Judgement,
    calibrated_studies,
    called,
    judge_files,
    judge_image,
    judge_rows,
    needs_files,
)
from tasks.learn.model import ModelSpec, load_model
from tasks.scenario import Scenario
from tasks.serve.findings_picture import findings_png
from tasks.serve.overlays import overlay_png
from tasks.serve.planes import mask_png

SHOWN_CASES = 4
"""Worst and best cases shown in a report, each."""


def judge_side(
    home: Home, ready: Ready, cases: Sequence[JobCase], folder: Path, pictures: Path
) -> tuple[Predictions | MaskScores | FindingScores, list[dict[str, str]]]:
    """Judge labelled cases of a side and draw the worst and best ones.

    Returns
    -------
    Predictions, MaskScores or FindingScores
    list of dict
        Pictures for the report.
    """
    model = load_model(folder, trusted=ready.scenario.networks)
    if not needs_files(model.spec):
        found = judge_rows(model, [c.case_id for c in cases], [c.facts for c in cases])
        return predictions(model.spec, cases, [one.probability for one in found]), []
    by_id = {case.case_id: case for case in ready.cohort.cases}
    chosen = [by_id[case.case_id] for case in cases]
    labels = ready.scenario.labels
    orders = orders_of(home, chosen, dict(ready.cohort.masks), labels.numbers)
    truth = {case.case_id: case for case in cases}
    if model.spec.task == "segmentation":
        return _judge_masks(model, orders, truth, pictures, ready.scenario)
    if model.spec.task == "detection":
        return _judge_boxes(model, orders, truth, pictures, ready.scenario)
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
    right.sort(key=lambda pair: pair[0])
    shown = [*right[:SHOWN_CASES], *right[-SHOWN_CASES:]]
    drawn = []
    for probability, order in dict.fromkeys(shown):
        one = judge_image(model, order)
        case = truth[order.case_id]
        heat = model.heatmap(one.prepared, int(one.probability.argmax()))
        path = pictures / f"case-{order.case_id[:12]}.png"
        overlay_png(path, one.shown[0], heat=None if heat is None else heat[0])
        target, whole = said[case.unit]
        text = f"truth {model.spec.classes[target]}, called {called(model.spec, whole)}"
        caption = f"{text}; probability of the truth {probability:.2f}"
        if case.study:
            caption += f" of the study, {one.probability[target]:.2f} of this view"
        drawn.append({"path": str(path), "title": _worst_or_best(order, right), "caption": caption})
    return found, drawn


def _judge_masks(
    model: Any,
    orders: Iterator[OrderCase],
    truth: dict[str, JobCase],
    pictures: Path,
    scenario: Scenario,
) -> tuple[MaskScores, list[dict[str, str]]]:
    kept, rows, order_of = [], [], []
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
    order_of.sort(key=lambda pair: pair[0])
    drawn = []
    for score, order in dict.fromkeys([*order_of[:SHOWN_CASES], *order_of[-SHOWN_CASES:]]):
        one = judge_image(model, order)
        mask = case_mask(order, read_source(recipe, order))
        for name, drawn_mask in (("model", one.mask), ("truth", mask)):
            path = pictures / f"case-{order.case_id[:12]}-{name}.png"
            mask_png(path, one.image, drawn_mask, one.affine, like=mask)
            caption = f"{name}, slices with most of the truth; mean Dice {score:.2f}"
            title = _worst_or_best(order, order_of)
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
    orders = list(orders)
    judged = [
        (order, rows_of_findings(one.findings, one.affine)) for order, one in _judged(model, orders)
    ]
    kept = [truth[order.case_id] for order, _ in judged]
    scores = finding_scores(
        [case.case_id for case in kept],
        [case.patient_key for case in kept],
        model.spec.classes,
        [rows for _, rows in judged],
        {case.case_id: case.boxes for case in kept},
        scenario.evaluate.findings.settled(model.spec.of_pictures).iou,
    )
    threshold = model.spec.thresholds.get(POSITIVE, 0.0)
    errors = wrong_a_case(scores, threshold)
    ranked = [(-float(n), order) for n, (order, _) in zip(errors, judged, strict=True)]
    ranked.sort(key=lambda pair: pair[0])
    drawn = []
    for wrong, order in dict.fromkeys([*ranked[:SHOWN_CASES], *ranked[-SHOWN_CASES:]]):
        one = judge_image(model, order)
        shown = one.findings.take(one.findings.score >= threshold)
        boxes = rows_of(truth[order.case_id].boxes)
        path = pictures / f"case-{order.case_id[:12]}.png"
        findings_png(path, one.image, one.affine, shown, boxes_on(boxes, one.affine))
        caption = (
            f"{len(boxes)} true boxes (blue, dashed), {len(shown)} findings from the threshold on "
            f"(orange, with score); {-wrong:g} missed or made up"
        )
        drawn.append(
            {"path": str(path), "title": _worst_or_best(order, ranked), "caption": caption}
        )
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


def predictions(
    spec: ModelSpec, cases: Sequence[JobCase], values: Sequence[np.ndarray]
) -> Predictions:
    """Return probabilities of labelled cases, or of their studies where those are judged."""
    found = of_cases(spec, cases, values)
    if not any(case.study for case in cases):
        return found
    return calibrated_studies(spec, found, {case.case_id: case.unit for case in cases})


def of_cases(spec: Any, cases: Sequence[JobCase], values: Sequence[np.ndarray]) -> Predictions:
    """Return probabilities of labelled cases; classes are those of a model, or of a job."""
    return Predictions(
        tuple(case.case_id for case in cases),
        tuple(case.patient_key for case in cases),
        np.array([case.target for case in cases]),
        np.array(values),
        spec.classes,
        spec.positive,
    )


def _worst_or_best(order: OrderCase, ranked: Sequence[tuple[float, OrderCase]]) -> str:
    place = [one.case_id for _, one in ranked].index(order.case_id)
    return "Worst cases" if place < len(ranked) / 2 else "Best cases"
