"""The challenger as a folder of a model: its folds, a table refitted, or members and a fusion."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tasks.learn.answer import POSITIVE
from tasks.learn.candidate import search_score
from tasks.learn.header_range import AXES, seen_headers
from tasks.learn.job import TrainingJob, axes_of, frame, training_cases
from tasks.learn.model_file import ModelSpec, save_model
from tasks.serve.outcome import CandidateOutcome


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
    detector is refitted on the images in ``store_root``; they also tell how images lie in the
    patient.
    """
    thresholds = {} if outcome.threshold is None else {POSITIVE: outcome.threshold}
    two = job.task == "classification" and len(job.classes) == 2
    spec = ModelSpec(
        name=job.scenario,
        candidate=outcome.name,
        task=job.task,
        kind=outcome.kind if outcome.kind in ("network", "fusion") else "sklearn",
        classes=("background", *job.classes) if job.task == "segmentation" else job.classes,
        unit=job.unit,
        regions=job.regions,
        # Where none is named it is the second, whose threshold the figures are of.
        positive=job.positive or (job.classes[1] if two else None),
        recipe=dict(job.recipe) if job.recipe else None,
        calibration=dict(outcome.calibration),
        thresholds=thresholds,
        views=job.views,
        postprocess=outcome.rules,
        headers=_headers(job, store_root) if job.recipe else {},
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


def _headers(job: TrainingJob, store_root: str) -> dict[str, list[Any]]:
    """Return what the training side's headers say, and how its images lie in the patient."""
    cases = job.on("train")
    axes = axes_of(store_root, cases) if store_root else {}
    return seen_headers([{**case.facts, AXES: axes.get(case.case_id)} for case in cases])


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
    from tasks.learn.skops_file import save_skops
    from tasks.learn.tabular import fit_final
    from tasks.learn.tabular_numbers import fit_final_numbers

    candidate, cases = job.candidate(outcome.name), job.on("train")
    table = frame(job, candidate, cases)
    numbers = job.task == "regression"
    model = (fit_final_numbers if numbers else fit_final)(
        candidate,
        table,
        np.array([case.target for case in cases]),
        np.array([case.patient_key for case in cases]),
        job.seed,
        primary=job.primary if numbers else search_score(job.primary),
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
    from tasks.learn.skops_file import save_skops

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
