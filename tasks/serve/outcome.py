"""What a training found: figures of its candidates, calibrated and cleaned out of fold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np

from tasks.evaluate.calibrate import apply_calibration, choose_threshold, fit_calibration
from tasks.evaluate.choose import choose_challenger
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.estimates import Estimates
from tasks.evaluate.finding_scores import FindingScores
from tasks.evaluate.intervals import Interval
from tasks.evaluate.leakage import better_than_header
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.predictions import Predictions
from tasks.evaluate.segmentation import mask_scores
from tasks.evaluate.show_findings import choose_shown
from tasks.evaluate.table import metric_table
from tasks.labels.regions import values_of
from tasks.learn.crossval import FoldRecord, out_of_fold
from tasks.learn.job import TrainingJob
from tasks.learn.oof_masks import read_masks
from tasks.learn.postprocess import JudgedMask, Rule, choose_rules, figures_after
from tasks.serve.names import NameTable, metric_name

Scores = Predictions | MaskScores | FindingScores | Estimates

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
    by_seed: tuple[float, ...] = ()
    """The primary figure of each seed its folds were trained from, its own first; none of one."""


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
        All folds of this candidate, those of further seeds among them.
    config : EvaluateConfig
    place : Path, optional
        The training's folder, where the masks are that rules are chosen on.
    """
    own = [record for record in records if not record.further]
    scores, threshold, calibration, rules = _settled(job, own, config, place)
    figures = metric_table(scores, threshold, replicates=config.bootstrap, seed=config.seed)
    kind = job.candidate(name).kind
    ordered = tuple(sorted(own, key=lambda record: record.fold))
    by_seed = []
    for further in sorted({record.further for record in records} - {0}):
        again = [record for record in records if record.further == further]
        said, at, *_ = _settled(job, again, config, place)
        table = metric_table(said, at, replicates=config.bootstrap, seed=config.seed)
        by_seed.append(table[config.primary].value)
    if by_seed:
        by_seed.insert(0, figures[config.primary].value)
    return CandidateOutcome(
        name, kind, scores, threshold, calibration, figures, ordered, rules, tuple(by_seed)
    )


def _settled(
    job: TrainingJob, records: Sequence[FoldRecord], config: EvaluateConfig, place: Path | None
) -> tuple[Scores, float | None, Mapping[str, Any], tuple[Rule, ...]]:
    """Return the scores of one set of folds and what was chosen on them."""
    scores = held_out(job, records, config)
    threshold, calibration, rules = None, {"method": "none"}, ()
    if isinstance(scores, MaskScores) and config.postprocess is not None and place is not None:
        scores, rules = _cleaned(job, records, scores, config, place)
    if isinstance(scores, FindingScores):
        how = config.findings.settled(job.of_pictures)
        threshold = choose_shown(scores, how, side="oof")
    if isinstance(scores, Predictions):
        calibration = fit_calibration(scores, config.calibration, side="oof")
        scores = _with(scores, apply_calibration(calibration, scores.probability))
        if scores.binary:
            threshold = choose_threshold(
                scores.truth, scores.score, config.operating_point, side="oof"
            )
    return scores, threshold, calibration, rules


def held_out(job: TrainingJob, records: Sequence[FoldRecord], config: EvaluateConfig) -> Scores:
    """Return what a candidate's folds say, findings by the overlap that the scenario asks for."""
    scores = out_of_fold(job, records)
    if isinstance(scores, FindingScores):
        return replace(scores, overlap=config.findings.settled(job.of_pictures).iou)
    return scores


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
    rivals = [
        outcome
        for outcome in outcomes
        # Headers that say one thing of everybody rank nobody: there is nothing to be better than.
        if outcome.kind == "header" and not isnan(outcome.figures[primary].value)
    ]
    if not rivals or not isinstance(by_name[chosen].scores, Predictions | Estimates):
        return None
    best = choose_challenger({o.name: o.figures for o in rivals}, primary)
    rival = by_name[best]
    check = better_than_header(by_name[chosen].scores, rival.scores, metric=primary)
    return None if check.clearly_better else check.sentence


def named(
    side: str, figures: Mapping[str, Interval], names: NameTable, spare: int = 0
) -> dict[str, Interval]:
    """Return figures under the names of the table: ``test/auroc``, ``oof/dice/anterior``.

    A run holds few metrics, so the classes' own are left out from the first on that does not fit
    beside the curves of the epochs, and ``spare`` others; the report and the table of figures have
    them all.
    """
    room = names.metrics_per_run - len(names.epoch_metrics) - spare
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


def _with(scores: Predictions, probability: np.ndarray) -> Predictions:
    return Predictions(
        scores.case_ids,
        scores.patient_keys,
        scores.target,
        probability,
        scores.classes,
        scores.positive,
    )
