"""The cross-validation of a candidate: one fold fitted, its record, all of them put together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from tasks.evaluate.config import LEAST_OVERLAP, MaskConfig
from tasks.evaluate.estimates import Estimates
from tasks.evaluate.finding_scores import FindingScores
from tasks.evaluate.masks import MaskScores
from tasks.evaluate.predictions import Predictions
from tasks.evaluate.studies import of_studies
from tasks.learn.box_scores import finding_scores
from tasks.learn.candidate import TabularCandidate, search_score
from tasks.learn.job import TrainingJob, frame, load_job, training_cases
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.weights import find_weights


@dataclass(frozen=True)
class FoldRecord:
    """What one fold of one candidate gave; small enough to travel between tasks."""

    candidate: str
    fold: int
    case_ids: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    """(n, k) class probabilities, or Dice of each foreground class, or (n, 1) numbers; empty for a
    detection."""
    empty: tuple[tuple[int, ...], ...] | None = None
    others: Mapping[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    """Further figures of masks by name, (n, k) each."""
    ood: tuple[float, ...] | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    """Relative to the training's folder."""
    seconds: float = 0.0
    device: str = "cpu"
    resumed: int = 0
    trials: tuple[Mapping[str, Any], ...] = ()
    """Of the search inside this fold, see `tasks.learn.trial.rows`."""
    findings: tuple[tuple[tuple[float, ...], ...], ...] = ()
    """Of each case of a detection: class, score, centre (3) and edges (9) in LPS mm."""
    without: int | None = None
    """A second fold it was not trained on, see `tasks.learn.fusing`."""
    further: int = 0
    """How many seeds after the candidate's own one it was trained from, see `further_seeds`."""


def fit_fold(
    place: Path,
    store_root: str,
    name: str,
    fold: int,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    home: Path | None = None,
    without: int | None = None,
    further: int = 0,
) -> FoldRecord:
    """Fit one fold of one candidate, or go on with it where a killed run left it.

    Parameters
    ----------
    place : Path
        Folder of the training.
    store_root : str
    name : str
        The candidate's.
    fold : int
    on_epoch : callable, optional
        Gets each epoch's record of a network.
    home : Path, optional
        Where the file of a candidate's ``weights`` is looked for, see `tasks.learn.weights`.
    without : int, optional
        A second fold to train without, for a fusion that judges it.
    further : int
        How many seeds after the candidate's own one to train from, see `further_seeds`.
    """
    from tasks.learn.trial import read_found, with_params

    job = load_job(place).without(without)
    candidate = job.candidate(name)
    if candidate.kind == "network":
        # Settings that were searched for without the fold that will be judged.
        settled, folder = (fold, "") if without is None else (without, f"-without{without}")
        if further:
            candidate = candidate.model_copy(update={"seed": candidate.seed + further})
            folder += f"-seed{further}"
        found: dict[str, Any] = {"params": {}, "trials": ()}
        if candidate.search:
            found = read_found(place, name, settled)
            candidate = with_params(candidate, found["params"])
        out = place / name / f"fold{fold}{folder}"
        record = _fit_network(job, candidate, place, store_root, fold, out, on_epoch, home)
        params = {**found["params"], **record.params}
        record = replace(record, params=params, trials=tuple(found["trials"]))
    elif job.task == "detection":
        record = _fit_places(job, candidate, store_root, fold)
    else:
        record = _fit_table(job, candidate, fold)
    return replace(record, without=without, further=further)


def _fit_network(
    job: TrainingJob,
    candidate: NetworkCandidate,
    place: Path,
    store_root: str,
    fold: int,
    out_dir: Path,
    on_epoch: Callable[[dict[str, Any]], None] | None,
    home: Path | None,
) -> FoldRecord:
    from tasks.learn.train import train_fold

    training = job.on("train")
    result = train_fold(
        job.plan(candidate),
        store_root,
        training_cases(training),
        [case.case_id for case in training if case.fold != fold],
        [case.case_id for case in training if case.fold == fold],
        out_dir,
        seed=candidate.seed + job.seed,
        on_epoch=on_epoch,
        masks=None if job.masks is None else MaskConfig.model_validate(dict(job.masks)),
        weights=find_weights(candidate.weights, home or place) if candidate.weights else None,
    )
    values = {"classification": result.val_probability, "regression": result.val_value}.get(
        job.task, result.val_dice
    )
    return FoldRecord(
        candidate=candidate.name,
        fold=fold,
        case_ids=result.val_ids,
        values=_rows(values) or (),
        empty=_rows(result.val_empty),
        others={name: _rows(values) for name, values in result.val_others.items()},
        ood=None if result.val_ood is None else tuple(result.val_ood.tolist()),
        history=result.history,
        params={"batch": result.batch},
        weights=str(Path(result.weights_path).relative_to(place)),
        seconds=result.seconds,
        device=result.device,
        resumed=result.resumed,
        findings=tuple(_rows(one) for one in result.val_findings or ()),
    )


def _fit_places(
    job: TrainingJob, candidate: TabularCandidate, store_root: str, fold: int
) -> FoldRecord:
    from tasks.learn.dataset import StoreCases
    from tasks.learn.place_detector import fold_findings

    training, began = job.on("train"), perf_counter()
    cases = training_cases(training)
    held = tuple(case.case_id for case in training if case.fold == fold)
    source = StoreCases(store_root, cases)
    fitted, rows = fold_findings(candidate, source, cases, held, job.seed, len(job.classes))
    return FoldRecord(
        candidate=candidate.name,
        fold=fold,
        case_ids=held,
        values=(),
        params=dict(fitted.params),
        seconds=perf_counter() - began,
        findings=tuple(_rows(one) for one in rows),
    )


def _fit_table(job: TrainingJob, candidate: TabularCandidate, fold: int) -> FoldRecord:
    from tasks.learn.search import table_rows
    from tasks.learn.tabular import fit_fold as fit_table_fold
    from tasks.learn.tabular_numbers import fit_fold_numbers

    training = job.on("train")
    told = (
        candidate,
        frame(job, candidate, training),
        np.array([case.target for case in training]),
        np.array([case.patient_key for case in training]),
        np.array([case.fold for case in training]),
        fold,
        job.seed,
    )
    if job.task == "regression":
        found = fit_fold_numbers(*told, primary=job.primary)
    else:
        primary = search_score(job.primary)
        found = fit_table_fold(*told, primary=primary, n_classes=len(job.classes))
    return FoldRecord(
        candidate=candidate.name,
        fold=fold,
        case_ids=tuple(training[row].case_id for row in found.rows),
        values=_rows(found.probability),
        params=dict(found.params),
        seconds=found.seconds,
        trials=() if found.trials is None else tuple(table_rows(found.trials)),
    )


def further_seeds(job: TrainingJob) -> list[tuple[str, int, int]]:
    """Return (candidate, fold, number of the seed) of what is trained for the spread alone."""
    return [
        (body["name"], fold, further)
        for body in job.candidates
        for further in range(1, body.get("seeds", 1))
        for fold in job.folds
    ]


def out_of_fold(
    job: TrainingJob, records: Sequence[FoldRecord]
) -> Predictions | MaskScores | FindingScores | Estimates:
    """Put a candidate's folds together: each training case judged by a model that never saw it.

    Where studies are judged, the views of each are put together.

    Raises
    ------
    ValueError
        When a training case was not judged exactly once.
    """
    found: dict[str, tuple[FoldRecord, int]] = {}
    for record in records:
        for row, case_id in enumerate(record.case_ids):
            if case_id in found:
                raise ValueError(f"case {case_id[:12]} was judged by two folds")
            found[case_id] = record, row
    cases = job.on("train")
    missing = len({case.case_id for case in cases} - found.keys())
    if missing:
        raise ValueError(f"{missing} of {len(cases)} training cases were judged by no fold")
    places = [found[case.case_id] for case in cases]
    ids = tuple(case.case_id for case in cases)
    patients = tuple(case.patient_key for case in cases)
    if job.task == "detection":
        said = [record.findings[row] for record, row in places]
        truth = {case.case_id: case.boxes for case in cases}
        overlap = LEAST_OVERLAP[2 if job.of_pictures else 3]
        return finding_scores(ids, patients, job.classes, said, truth, overlap)
    values = np.array([record.values[row] for record, row in places])
    if job.task == "segmentation":
        empty = np.array([record.empty[row] for record, row in places])
        names = places[0][0].others
        others = {n: np.array([record.others[n][row] for record, row in places]) for n in names}
        return MaskScores(ids, patients, job.measured, values, empty, others)
    target = np.array([case.target for case in cases])
    if job.task == "regression":
        return Estimates(ids, patients, target, values[:, 0], job.classes[0], job.unit)
    found = Predictions(ids, patients, target, values, job.classes, job.positive)
    if job.views is None:
        return found
    return of_studies(found, {case.case_id: case.unit for case in cases}, job.views)


def _rows(values: np.ndarray | None) -> tuple[tuple[Any, ...], ...] | None:
    return None if values is None else tuple(tuple(row) for row in values.tolist())
