"""What a training found: figures of the candidates, the challenger as a model, pictures, report."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tasks.evaluate.calibrate import apply_calibration, choose_threshold, fit_calibration
from tasks.evaluate.choose import choose_challenger
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.finding_scores import FindingScores
from tasks.evaluate.intervals import Interval
from tasks.evaluate.leakage import better_than_header
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.predictions import Predictions
from tasks.evaluate.segmentation import mask_scores
from tasks.evaluate.show_findings import choose_shown
from tasks.evaluate.table import metric_table
from tasks.labels.regions import values_of
from tasks.learn.candidate import search_score
from tasks.learn.header_range import seen_headers
from tasks.learn.job import FoldRecord, TrainingJob, frame, out_of_fold, training_cases
from tasks.learn.judge import POSITIVE
from tasks.learn.model import ModelSpec, save_model
from tasks.learn.oof_masks import read_masks
from tasks.learn.postprocess import JudgedMask, Rule, choose_rules, figures_after
from tasks.serve.names import NameTable, metric_name

Scores = Predictions | MaskScores | FindingScores

NUMBERS_A_FIGURE = 3
"""A figure and its two limits."""


@dataclass(frozen=True, eq=False)
class CandidateOutcome:
    """A candidate's cross-validation."""

    name: str
    kind: str
    scores: Scores
    """Out of fold, calibrated."""
    threshold: float | None
    calibration: Mapping[str, Any]
    figures: Mapping[str, Interval]
    records: tuple[FoldRecord, ...]
    rules: tuple[Rule, ...] = ()
    """What is done to its masks, chosen out of fold."""


def sum_up(
    job: TrainingJob,
    name: str,
    records: Sequence[FoldRecord],
    config: EvaluateConfig,
    place: Path | None = None,
) -> CandidateOutcome:
    """Put a candidate's folds together, choose its operating point on them and measure it.

    Parameters
    ----------
    job : TrainingJob
    name : str
    records : sequence of FoldRecord
        All folds of this candidate.
    config : EvaluateConfig
    place : Path, optional
        The training's folder, where the masks are that rules are chosen on.
    """
    scores = out_of_fold(job, records)
    threshold, calibration, rules = None, {"method": "none"}, ()
    if isinstance(scores, MaskScores) and config.postprocess is not None and place is not None:
        scores, rules = _cleaned(job, records, scores, config, place)
    if isinstance(scores, FindingScores):
        how = config.findings.settled(job.of_pictures)
        scores = replace(scores, overlap=how.iou)
        threshold = choose_shown(scores, how, side="oof")
    if isinstance(scores, Predictions):
        calibration = fit_calibration(scores, config.calibration, side="oof")
        scores = _with(scores, apply_calibration(calibration, scores.probability))
        if scores.binary:
            threshold = choose_threshold(
                scores.truth, scores.score, config.operating_point, side="oof"
            )
    figures = metric_table(scores, threshold, replicates=config.bootstrap, seed=config.seed)
    kind = job.candidate(name).kind
    ordered = tuple(sorted(records, key=lambda record: record.fold))
    return CandidateOutcome(name, kind, scores, threshold, calibration, figures, ordered, rules)


def _cleaned(
    job: TrainingJob,
    records: Sequence[FoldRecord],
    scores: MaskScores,
    config: EvaluateConfig,
    place: Path,
) -> tuple[MaskScores, tuple[Rule, ...]]:
    """Choose what is done to masks on those of the validation sides, and measure them after it."""
    patient = {case.case_id: case.patient_key for case in job.cases}
    masks: dict[str, JudgedMask] = {}
    for record in records:
        kept = read_masks((place / record.weights).parent)
        for case_id, one in zip(record.case_ids, kept, strict=True):
            masks[case_id] = JudgedMask(patient[case_id], *one)
    figure = "lesion_dice" if config.measures_lesions else "dice"
    cases = [masks[case_id] for case_id in scores.case_ids]
    rules = choose_rules(cases, job.classes, job.regions, config, figure)
    if not rules:
        return scores, ()
    how = rules, len(job.classes), config, values_of(job.regions)
    rows = [figures_after(case, *how) for case in cases]
    return mask_scores(scores.case_ids, scores.patient_keys, scores.classes, rows), rules


def header_sentence(outcomes: Sequence[CandidateOutcome], chosen: str, primary: str) -> str | None:
    """Return the sentence that opens the report when headers alone do as well as the images."""
    by_name = {outcome.name: outcome for outcome in outcomes}
    rivals = [outcome for outcome in outcomes if outcome.kind == "header"]
    if not rivals or not isinstance(by_name[chosen].scores, Predictions):
        return None
    best = choose_challenger({o.name: o.figures for o in rivals}, primary)
    rival = by_name[best]
    check = better_than_header(by_name[chosen].scores, rival.scores, metric=primary)
    return None if check.clearly_better else check.sentence


def build_model(
    job: TrainingJob,
    place: Path,
    outcome: CandidateOutcome,
    folder: Path,
    hashes: Mapping[str, str],
    outcomes: Sequence[CandidateOutcome] = (),
    store_root: str = "",
) -> ModelSpec:
    """Write the challenger: the folds of a network, a table's model refitted on all of them, or
    the members of a fusion, which are among ``outcomes``, with the model over them. A classical
    detector is refitted on the images in ``store_root``.
    """
    thresholds = {} if outcome.threshold is None else {POSITIVE: outcome.threshold}
    spec = ModelSpec(
        name=job.scenario,
        candidate=outcome.name,
        task=job.task,
        kind=outcome.kind if outcome.kind in ("network", "fusion") else "sklearn",
        classes=("background", *job.classes) if job.task == "segmentation" else job.classes,
        regions=job.regions,
        positive=job.positive,
        recipe=dict(job.recipe) if job.recipe else None,
        calibration=dict(outcome.calibration),
        thresholds=thresholds,
        views=job.views,
        postprocess=outcome.rules,
        headers=seen_headers([case.facts for case in job.on("train")]) if job.recipe else {},
        hashes=dict(hashes),
    )
    if outcome.kind == "network":
        from tasks.learn.ood import ood_threshold

        distances = [d for record in outcome.records for d in record.ood or ()]
        plan = job.plan(job.candidate(outcome.name))
        limit = ood_threshold(distances) if distances else None
        spec = spec.model_copy(update={"plan": plan, "ood_threshold": limit})
        return save_model(folder, spec, folds=[place / r.weights for r in outcome.records])
    if outcome.kind == "fusion":
        return _join(job, place, outcome, folder, spec, outcomes)
    if job.task == "detection":
        return _refit_places(job, outcome, folder, spec, store_root)
    return _refit_table(job, outcome, folder, spec)


def _join(
    job: TrainingJob,
    place: Path,
    outcome: CandidateOutcome,
    folder: Path,
    spec: ModelSpec,
    outcomes: Sequence[CandidateOutcome],
) -> ModelSpec:
    from tasks.learn.fused import MEMBERS, save_fused
    from tasks.learn.fusing import fit
    from tasks.learn.ood import ood_threshold

    candidate = job.candidate(outcome.name)
    by_name = {one.name: one for one in outcomes}
    parts = {
        name: build_model(job, place, by_name[name], folder / MEMBERS / name, spec.hashes)
        for name in candidate.members
    }
    folds = [
        {name: by_name[name].records[k] for name in candidate.members}
        for k in range(len(job.folds))
    ]
    plans = [part.plan for part in parts.values() if part.plan is not None]
    distances = [d for record in outcome.records for d in record.ood or ()]
    columns = dict.fromkeys(name for part in parts.values() for name in part.features)
    said = {
        "fusion": fit(job, candidate, folds),
        "plan": plans[0] if plans else None,
        "features": tuple(columns),
        "ood_threshold": ood_threshold(distances) if distances else None,
    }
    return save_fused(folder, spec.model_copy(update=said))


def _refit_table(
    job: TrainingJob, outcome: CandidateOutcome, folder: Path, spec: ModelSpec
) -> ModelSpec:
    from tasks.learn.tabular import fit_final, save_skops

    candidate, cases = job.candidate(outcome.name), job.on("train")
    table = frame(job, candidate, cases)
    model = fit_final(
        candidate,
        table,
        np.array([case.target for case in cases]),
        np.array([case.patient_key for case in cases]),
        job.seed,
        primary=search_score(job.primary),
    )
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.skops"
        save_skops(model, path)
        spec = spec.model_copy(update={"features": tuple(table.columns)})
        return save_model(folder, spec, skops=path)


def _refit_places(
    job: TrainingJob, outcome: CandidateOutcome, folder: Path, spec: ModelSpec, store_root: str
) -> ModelSpec:
    from tasks.learn.dataset import StoreCases
    from tasks.learn.place_detector import finder_said, fit_places
    from tasks.learn.tabular import save_skops

    cases = training_cases(job.on("train"))
    source = StoreCases(store_root, cases)
    fitted = fit_places(job.candidate(outcome.name), source, cases, job.seed)
    said = {
        "features": tuple(fitted.pipeline.feature_names_in_),
        "places": finder_said(fitted.finder),
    }
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.skops"
        save_skops(fitted.pipeline, path)
        return save_model(folder, spec.model_copy(update=said), skops=path)


def named(side: str, figures: Mapping[str, Interval], names: NameTable) -> dict[str, Interval]:
    """Return figures under the names of the table: ``test/auroc``, ``oof/dice/anterior``.

    A run holds few metrics, so the classes' own are left out from the first on that does not fit
    beside the curves of the epochs; the report and the table of figures have them all.
    """
    room = names.metrics_per_run - len(names.epoch_metrics)
    of_all = [name for name in figures if "/" not in name]
    of_class: dict[str, list[str]] = {}
    for name in figures:
        if "/" in name:
            of_class.setdefault(name.partition("/")[0], []).append(name)
    kept = of_all
    for group in of_class.values():
        if NUMBERS_A_FIGURE * (len(kept) + len(group)) > room:
            break
        kept = kept + group
    found = {}
    for name in kept:
        metric, _, label = name.partition("/")
        found[metric_name(side, metric, label or None)] = figures[name]
    return found


def figure_rows(figures: Mapping[str, Interval]) -> list[dict[str, Any]]:
    """Return every figure as a row for a table: metric, value, limits, how they were found."""
    return [{"metric": name, **interval.to_dict()} for name, interval in figures.items()]


def draw(
    folder: Path, side: str, scores: Scores, threshold: float | None, title: str
) -> list[dict[str, str]]:
    """Draw the pictures of one side and return them as the report wants them."""
    from tasks.evaluate import figures

    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(scores, MaskScores):
        caption = "Each dot is a patient; the box holds half of them."
        shown = []
        for name, words in figures.BOX_WORDS.items():
            if name in scores.figures:
                path = folder / f"{side}-{name}.png"
                figures.draw_mask_box(path, scores, name, title=title)
                shown.append({"path": str(path), "title": f"{words}, {side}", "caption": caption})
        return shown
    if isinstance(scores, FindingScores):
        from tasks.evaluate.froc_figure import draw_froc

        path = draw_froc(folder / f"{side}-froc.png", scores, threshold, title=title)
        return [{"path": str(path), "title": f"FROC, {side}", "caption": _caption(side)}]
    drawn = [
        ("roc", "ROC", figures.draw_roc, True),
        ("pr", "Precision and recall", figures.draw_precision_recall, True),
        ("reliability", "Reliability", figures.draw_reliability, False),
        ("confusion", "Confusion", figures.draw_confusion, True),
    ]
    if scores.binary:
        drawn.append(("scores", "Probabilities", figures.draw_score_histogram, True))
    found = []
    for name, text, function, takes_threshold in drawn:
        options = {"threshold": threshold} if takes_threshold else {}
        path = function(folder / f"{side}-{name}.png", scores, title=title, **options)
        found.append({"path": str(path), "title": f"{text}, {side}", "caption": _caption(side)})
    return found


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
    caption = "Loss and the figure that chose the best epoch, fold by fold."
    return [{"path": str(path), "title": "Learning curves", "caption": caption}]


def epochs(record: FoldRecord, primary: str) -> list[dict[str, Any]]:
    """Return a fold's history under the names of the table."""
    found = []
    for row in record.history:
        if "loss" not in row:
            continue
        found.append(
            {
                "epoch": row["epoch"],
                "train/loss": row["loss"],
                "val/loss": row.get("val_loss"),
                "val/primary": row.get(f"val_{primary}"),
                "data_wait": row.get("data_wait"),
                "samples_a_second": row.get("samples_a_second"),
                "epoch_seconds": row.get("seconds"),
            }
        )
    return found


def _caption(side: str) -> str:
    if side == "oof":
        return "Out of fold: each patient judged by a model that never saw this patient."
    return "The test edition, which no training saw."


def _with(scores: Predictions, probability: np.ndarray) -> Predictions:
    return Predictions(
        scores.case_ids,
        scores.patient_keys,
        scores.target,
        probability,
        scores.classes,
        scores.positive,
    )
