"""Outlines of a detector held against those of the labels, as masks of a segmentation are."""

from collections.abc import Sequence

import numpy as np

from flows.console import say
from tasks.archive.orders import OrderCase
from tasks.evaluate.config import MaskConfig
from tasks.evaluate.finding_scores import FindingScores
from tasks.evaluate.known import OUTLINE_FIGURES
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.segmentation import MaskFigures, mask_figures, mask_scores
from tasks.imaging.recipe import FittedRecipe
from tasks.imaging.source import read_source
from tasks.labels.boxes import read_written
from tasks.labels.case_mask import case_instances
from tasks.learn.answer import POSITIVE
from tasks.learn.dataset import spacing_of
from tasks.learn.judgement import Judgement
from tasks.learn.model_file import ModelSpec
from tasks.learn.outlines import class_map


def outline_figures(
    spec: ModelSpec, order: OrderCase, one: Judgement, config: MaskConfig
) -> MaskFigures | None:
    """Measure all that is shown of each class against all there is of it, on the source grid.

    What counts for nothing is taken out of both. None where the labels of the case have a box
    without an outline: what lies in a box is no truth of an outline.
    """
    if order.boxes is None or not all(
        b.outlined or b.irrelevant for b in read_written(order.boxes)
    ):
        return None
    recipe = FittedRecipe.from_dict(spec.recipe)
    numbers, rows = case_instances(order, read_source(recipe, order))
    # Of each number in the mask its class, 0 of the background.
    truth = np.r_[0, rows[:, 0] + 1].astype(np.uint8)[numbers]
    counts = np.r_[True, rows[:, 13] == 0][numbers]
    shown = one.findings.take(one.findings.score >= spec.thresholds.get(POSITIVE, 0.0))
    said = class_map(shown, one.image.shape)
    spacing, k = spacing_of(one.affine), len(spec.classes)
    found = mask_figures(truth * counts, said * counts, spacing, k, config)
    others = {name: found.others[name] for name in OUTLINE_FIGURES if name in found.others}
    return MaskFigures(found.dice, others, found.empty)


def outline_scores(
    scores: FindingScores, figures: Sequence[MaskFigures | None]
) -> MaskScores | None:
    """Put the cases together; None, and a sentence, where some have no outline to be held against.

    Parameters
    ----------
    scores : FindingScores
    figures : sequence of `outline_figures`
        One a case, or none at all where nothing is outlined.
    """
    if not figures:
        return None
    if missing := sum(one is None for one in figures):
        say(f"  outlines not measured: {missing} of {len(figures)} cases are labelled with boxes")
        return None
    return mask_scores(scores.case_ids, scores.patient_keys, scores.classes, figures)
