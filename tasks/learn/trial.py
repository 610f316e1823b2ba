"""The search of a network, fold by fold: one trial, and what a search found.

It is nested: the search for a fold never sees the fold's patients.  It trains without two folds and
judges each trial on the second of them.  So out-of-fold figures are of settings that were chosen
without the patients they are measured on (Varma and Simon 2006).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.errors import ScenarioError
from tasks.learn.job import TrainingJob, load_job, training_cases
from tasks.learn.network_candidate import NetworkCandidate
from tasks.learn.optimise import Ask, Search, Told
from tasks.learn.weights import find_weights

JOURNAL = "search.jsonl"
FOUND = "found.json"

LEAST_FOLDS = 3
"""One to judge, one to choose by, one to learn from."""


class Stopped(Exception):
    """A trial fell short of the others."""


def searched(job: TrainingJob) -> list[tuple[str, int]]:
    """Return (candidate, fold) of every search of a job's networks.

    Raises
    ------
    ScenarioError
        With fewer than `LEAST_FOLDS` folds.
    """
    names = [b["name"] for b in job.candidates if b["kind"] == "network" and b.get("search")]
    if names and len(job.folds) < LEAST_FOLDS:
        raise ScenarioError(
            f"{names[0]}: a search needs {LEAST_FOLDS} folds and the split has {len(job.folds)}; "
            "say folds: 5 under split, or remove search"
        )
    return [(name, fold) for name in names for fold in job.folds]


def open_search(job: TrainingJob, place: Path, name: str, fold: int) -> Search:
    """Open the search of a candidate's fold, or go on with it."""
    candidate = job.candidate(name)
    seed = candidate.seed + job.seed + fold
    folder = place / name / f"fold{fold}"
    return Search(candidate.search, candidate.max_trials, seed, folder / JOURNAL)


def run_trial(
    place: Path,
    store_root: str,
    name: str,
    fold: int,
    ask: Ask,
    *,
    home: Path | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> Told:
    """Train with one setting, without a fold and the next one, and judge on the next one.

    Parameters are those of `tasks.learn.crossval.fit_fold`.  A trial that was killed goes on where
    it was.
    """
    from tasks.learn.train import train_fold

    job = load_job(place)
    candidate = with_params(job.candidate(name), ask.params)
    plan = job.plan(candidate)
    inner = job.folds[(job.folds.index(fold) + 1) % len(job.folds)]
    cases = [case for case in job.on("train") if case.fold != fold]
    values: list[float] = []

    def watch(record: dict[str, Any]) -> None:
        if "loss" not in record:
            return
        # Where nobody looked, a curve stays where it was.
        values.append(plan.watched(record) if plan.looks(record["epoch"]) else values[-1])
        if on_epoch is not None:
            on_epoch(record)
        if ask.falls_short(values, plan.epochs):
            raise Stopped

    try:
        train_fold(
            plan,
            store_root,
            training_cases(cases),
            [case.case_id for case in cases if case.fold != inner],
            [case.case_id for case in cases if case.fold == inner],
            trial_folder(place, name, fold, ask.number),
            seed=candidate.seed + job.seed,
            on_epoch=watch,
            weights=find_weights(candidate.weights, home or place) if candidate.weights else None,
        )
    except Stopped:
        return Told(ask.number, ask.params, tuple(values), stopped=True)
    return Told(ask.number, ask.params, tuple(values))


def trial_folder(place: Path, name: str, fold: int, number: int) -> Path:
    """Return where a trial keeps its checkpoint; of no use once the search knows its values."""
    return place / name / f"fold{fold}" / f"trial{number}"


def with_params(candidate: NetworkCandidate, params: Mapping[str, Any]) -> NetworkCandidate:
    """Return a candidate with found settings and nothing left to search."""
    body = candidate.model_dump(mode="json") | dict(params) | {"search": {}}
    return type(candidate).model_validate(body)


def write_found(place: Path, name: str, fold: int, search: Search) -> None:
    """Write the chosen settings of a fold and all its trials, for the worker that trains it."""
    body = {"params": dict(search.best.params), "trials": rows(search.told(), search.best.number)}
    path = place / name / f"fold{fold}" / FOUND
    beside = path.with_name(f".{FOUND}")
    beside.write_text(json.dumps(body))
    beside.replace(path)


def read_found(place: Path, name: str, fold: int) -> dict[str, Any]:
    """Return ``params`` and ``trials`` of a fold whose search has ended."""
    return json.loads((place / name / f"fold{fold}" / FOUND).read_text())


def rows(told: Sequence[Told], best: int) -> list[dict[str, Any]]:
    """Return trials as they travel and are shown."""
    return [
        {
            "trial": one.number,
            "state": "chosen" if one.number == best else "stopped" if one.stopped else "done",
            "score": one.score,
            "values": list(one.values),
            "params": dict(one.params),
        }
        for one in told
    ]
