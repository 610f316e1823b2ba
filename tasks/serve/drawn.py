"""Pictures of a training for its report: figures of a side, curves of the learning."""

from collections.abc import Mapping
from pathlib import Path

from tasks.evaluate.estimates import Estimates
from tasks.evaluate.finding_scores import FindingScores
from tasks.evaluate.intervals import Interval
from tasks.evaluate.masks import MaskScores
from tasks.serve.outcome import CandidateOutcome, Scores


def draw(
    folder: Path,
    side: str,
    scores: Scores,
    threshold: float | None,
    title: str,
    table: Mapping[str, Interval],
) -> list[dict[str, str]]:
    """Draw the pictures of one side, with the numbers of its table, as the report wants them."""
    from tasks.evaluate import figures

    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(scores, MaskScores):
        caption = "Each dot is a patient; the box holds half of them."
        shown = []
        for name, words in figures.BOX_WORDS.items():
            if name in scores.figures:
                path = folder / f"{side}-{name}.png"
                figures.draw_mask_box(path, scores, name, title=title, table=table)
                shown.append({"path": str(path), "title": f"{words}, {side}", "caption": caption})
        return shown
    if isinstance(scores, FindingScores):
        from tasks.evaluate.froc_figure import draw_froc

        path = draw_froc(folder / f"{side}-froc.png", scores, threshold, title=title, table=table)
        return [{"path": str(path), "title": f"FROC, {side}", "caption": _caption(side)}]
    if isinstance(scores, Estimates):
        return _draw_numbers(folder, side, scores, title, table)
    called, said = {"threshold": threshold}, {"table": table}
    drawn = [
        ("roc", "ROC", figures.draw_roc, called | said),
        ("pr", "Precision and recall", figures.draw_precision_recall, called | said),
        ("reliability", "Reliability", figures.draw_reliability, said),
        ("confusion", "Confusion", figures.draw_confusion, called),
    ]
    if scores.binary:
        drawn.append(("scores", "Probabilities", figures.draw_score_histogram, called))
    found = []
    for name, text, function, options in drawn:
        path = function(folder / f"{side}-{name}.png", scores, title=title, **options)
        found.append({"path": str(path), "title": f"{text}, {side}", "caption": _caption(side)})
    return found


def _draw_numbers(
    folder: Path, side: str, scores: Estimates, title: str, table: Mapping[str, Interval]
) -> list[dict[str, str]]:
    from tasks.evaluate.agreement_figure import draw_bland_altman, draw_scatter

    first = draw_scatter(folder / f"{side}-scatter.png", scores, title=title, table=table)
    second = draw_bland_altman(folder / f"{side}-agreement.png", scores, title=title, table=table)
    said = "Bland-Altman: bias and 95 % limits of agreement, each with its interval over patients."
    return [
        {"path": str(first), "title": f"Estimated and true, {side}", "caption": _caption(side)},
        {"path": str(second), "title": f"Agreement, {side}", "caption": f"{said} {_caption(side)}"},
    ]


def draw_learning(folder: Path, outcome: CandidateOutcome) -> list[dict[str, str]]:
    """Draw the learning curves of a network's folds."""
    from tasks.evaluate.figures import draw_learning_curve

    histories = {f"fold {r.fold}": list(r.history) for r in outcome.records if r.history}
    if not histories:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    path = draw_learning_curve(
        folder / f"learning-{outcome.name}.png", histories, title=f"{outcome.name}, all folds"
    )
    caption = "Loss and validation figures, fold by fold. The last epoch is kept."
    return [{"path": str(path), "title": "Learning curves", "caption": caption}]


def _caption(side: str) -> str:
    if side == "oof":
        return (
            "Out of fold: each patient judged by a model that was not fitted to this patient. "
            "The operating point and the calibration were chosen on these very patients, so that "
            "the test edition's figures are the ones to rely on."
        )
    return "The test edition, which no training saw."
