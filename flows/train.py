"""Zarr and tables to a gated, registered model: candidates by cross-validation, the test once."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import dask
from prefect import flow
from prefect.futures import as_completed

from flows import reports
from flows.cohorts import Ready, settle
from flows.console import progress, say
from flows.evidence import code_hash, tracker_for
from flows.explaining import explained
from flows.guarding import Guarded, guard
from flows.home import Home, lease
from flows.jobs import recipe_hash, write_job
from flows.judging import judge_side
from flows.missing import without_sequences
from flows.planned import say_plans
from flows.policy import TRAIN_TAG, task
from flows.probing import stressed
from flows.promote import decide_and_register
from flows.recording import candidate_row, log_candidates, open_run, words
from flows.runners import listening, offered, runner, tell, workers
from flows.searching import search_networks
from flows.settings import load_settings
from flows.starting import check_weights
from tasks.archive.audit import append
from tasks.archive.commits import use_edition
from tasks.evaluate.choose import choose_challenger
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.subgroups import Group
from tasks.evaluate.table import metric_table
from tasks.learn.crossval import FoldRecord, fit_fold
from tasks.learn.fusing import fuse, fusions, pairs
from tasks.learn.job import TrainingJob, load_job
from tasks.learn.left_out import leave_each_out
from tasks.learn.permuted import random_labels
from tasks.serve import runlog, tracking
from tasks.serve.baseline import beside_baseline
from tasks.serve.challenger import build_model
from tasks.serve.drawn import draw, draw_learning
from tasks.serve.outcome import (
    CandidateOutcome,
    Scores,
    figure_rows,
    header_sentence,
    held_out,
    named,
    sum_up,
)
from tasks.serve.probes import sections_of, tables_of, worth

EPOCHS = "radloop-epochs"
"""Topic on which workers tell each epoch's figures."""

LINE_SECONDS = 20


def _fit(
    scenario: str, key: str, candidate: str, fold: int, without: int | None = None
) -> FoldRecord:
    settings = load_settings()
    place = settings.home / "training" / scenario / key

    def on_epoch(record: dict[str, Any]) -> None:
        tell(EPOCHS, {"candidate": candidate, "fold": fold, **record})

    return fit_fold(place, settings.store_root, candidate, fold, on_epoch, settings.home, without)


class EpochLines:
    """Says now and then how far the networks are; a person would else wait in silence."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Print an epoch's line when the last one is long enough ago."""
        now = time.monotonic()
        if now - self._last < LINE_SECONDS or "loss" not in record:
            return
        self._last = now
        shown = [f"loss {record['loss']:.3f}"]
        shown += [f"{n} {v:.3f}" for n, v in record.items() if n.startswith("val_")]
        # An epoch that an older radloop trained does not say it.
        if "samples_a_second" in record:
            shown.append(f"{record['samples_a_second']:.1f} samples/s")
        say(
            f"  {record['candidate']} fold {record['fold']}, epoch {record['epoch']}: "
            f"{', '.join(shown)}, data wait {record['data_wait']:.0%}"
        )


fit_one_fold = task(_fit, name="fold", tags=[TRAIN_TAG], retries=1)


@flow(name="train")
def train(scenario: str, source: str | None = None) -> dict[str, Any]:
    """Train a scenario's candidates, choose, score the test edition once, gate and register.

    Parameters
    ----------
    scenario : str
        Name of the scenario.
    source : str, optional
        Only this source's cases.

    Returns
    -------
    dict
        ``run_id``, ``chosen``, ``verdict``, ``reason``, ``version``, figures by side.
    """
    home = Home(load_settings())
    ready = settle(home, home.scenario(scenario), source)
    primary = ready.scenario.evaluate.primary
    with lease(home, f"train {scenario}", "train"), ExitStack() as run:
        job = write_job(home, ready)
        check_weights(home, job)
        tracker = tracker_for(home, scenario)
        with workers(home.settings) as address:
            guards = guard(home, ready, job, address)
            run_id = run.enter_context(recorded(tracker, ready, job))
            place = job.save(home.settings.home / "training" / scenario)
            say(f"  {len(job.candidates)} candidates, {len(job.folds)} folds each")
            say_plans(job)
            with listening(address, EPOCHS, EpochLines()):
                records = fit_folds(job, address)
                outcomes = [
                    sum_up(job, body["name"], records[body["name"]], ready.scenario.evaluate, place)
                    for body in job.candidates
                ]
                say_rules(outcomes, ready.scenario.evaluate)
                chosen = choose(outcomes, primary)
                fit = again(home, address, ready.scenario.evaluate)
                said = random_labels(job, chosen.name, ready.scenario.evaluate, fit)
                groups, why = without_each(ready, job, chosen, fit)
                guards = guards.plus(*said, *why)
        result = conclude(
            home, ready, job, place, tracker, run_id, outcomes, chosen, guards, groups
        )
    append(home.settings.audit_path, "train", scenario=scenario, run_id=run_id)
    return result


@contextmanager
def recorded(tracker: tracking.Tracker, ready: Ready, job: TrainingJob) -> Iterator[str]:
    """Keep the parent run of this training open while the block runs; it fails with the block."""
    run_id = open_run(tracker, ready, job)
    try:
        yield run_id
    except BaseException:
        tracking.fail_unfinished(tracker, run_id)
        raise
    tracking.end(tracker, run_id)


def say_rules(outcomes: Sequence[CandidateOutcome], config: EvaluateConfig) -> None:
    """Say what is done to each candidate's masks after the network, where that was tried."""
    if config.postprocess is None:
        return
    for outcome in outcomes:
        told = "; ".join(rule.words for rule in outcome.rules) or "nothing improved the masks"
        say(f"  {outcome.name}, after the network, chosen out of fold: {told}")


def fit_folds(job: TrainingJob, address: str) -> dict[str, list[FoldRecord]]:
    """Fit every fold of every candidate of a job that has been saved."""
    # A worker may say GPU=0: what nobody offers once would be waited for for ever.
    whole = sorted(name for name, amount in offered(address).items() if amount >= 1)
    search_networks(job, address, whole)
    wave = train_wave.with_options(task_runner=runner(address))
    return wave(job.scenario, job.key, whole)


def again(home: Home, address: str, config: EvaluateConfig) -> Callable[[TrainingJob], Scores]:
    """Return how a job is trained for the out-of-fold scores of its last candidate alone."""

    def fit(job: TrainingJob) -> Scores:
        place = job.save(home.settings.home / "training" / job.scenario)
        records = fit_folds(job, address)[job.candidates[-1]["name"]]
        shutil.rmtree(place)
        return held_out(job, records, config)

    return fit


def without_each(
    ready: Ready, job: TrainingJob, chosen: CandidateOutcome, fit: Callable[[TrainingJob], Scores]
) -> tuple[list[Group], list[str]]:
    """Leave one vendor, or what else the scenario names, out at a time; nothing without a name."""
    config = ready.scenario.evaluate
    if config.leave_one_out is None:
        return [], []
    replicates, seed = config.bootstrap, config.seed
    groups, why = leave_each_out(
        job, chosen.name, config.leave_one_out, fit, replicates=replicates, seed=seed
    )
    return groups, [why] if why else []


def choose(outcomes: Sequence[CandidateOutcome], primary: str) -> CandidateOutcome:
    """Return the best candidate by cross-validation; one that sees headers alone never is."""
    headers = {outcome.name for outcome in outcomes if outcome.kind == "header"}
    name = choose_challenger({o.name: o.figures for o in outcomes}, primary, never=headers)
    return next(outcome for outcome in outcomes if outcome.name == name)


@flow(name="train-wave", persist_result=False)
def train_wave(scenario: str, key: str, resources: list[str]) -> dict[str, list[FoldRecord]]:
    """Fit every fold of every candidate; networks ask for a GPU where workers offer one."""
    job = load_job(load_settings().home / "training" / scenario / key)
    futures = []
    again = pairs(job)
    # The longest first, so that no worker waits at the end for one late network.
    for body in sorted(job.candidates, key=lambda body: body["kind"] != "network"):
        if body["kind"] == "fusion":
            continue
        wants_gpu = body["kind"] == "network" and "GPU" in resources
        with dask.annotate(resources={"GPU": 1}) if wants_gpu else nullcontext():
            futures += [
                fit_one_fold.submit(scenario, key, body["name"], fold) for fold in job.folds
            ]
            futures += [
                fit_one_fold.submit(scenario, key, *one) for one in again if one[0] == body["name"]
            ]
    records: list[FoldRecord] = []
    with progress("training", total=len(futures), unit="folds") as advance:
        for number, future in enumerate(as_completed(futures), start=1):
            records.append(future.result())
            advance(number, len(futures))
    found: dict[str, list[FoldRecord]] = {body["name"]: [] for body in job.candidates}
    for record in records:
        if record.without is None:
            found[record.candidate].append(record)
    for candidate in fusions(job):
        found[candidate.name] = fuse(job, candidate, records)
    return found


def conclude(
    home: Home,
    ready: Ready,
    job: TrainingJob,
    place: Path,
    tracker: tracking.Tracker,
    run_id: str,
    outcomes: Sequence[CandidateOutcome],
    chosen: CandidateOutcome,
    guards: Guarded,
    left_out: Sequence[Group],
) -> dict[str, Any]:
    """Build the challenger, score it once on the test edition, gate and report."""
    primary, chosen_name = ready.scenario.evaluate.primary, chosen.name
    log_candidates(tracker, run_id, outcomes, chosen_name, primary, job)
    say(f"  chosen by cross-validation: {chosen_name}, {primary} {words(chosen.figures[primary])}")
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        folder, pictures = Path(scratch) / "model", Path(scratch) / "figures"
        hashes = ready.hashes | {"recipe_hash": recipe_hash(job), "code_hash": code_hash()}
        spec = build_model(job, place, chosen, folder, hashes, outcomes, home.settings.store_root)
        uses = use_edition(home.catalog, ready.split, ready.edition, run_id, "training")
        scores, shown = judge_side(home, ready, job.on("test"), folder, pictures)
        test = metric_table(
            scores,
            chosen.threshold,
            replicates=ready.scenario.evaluate.bootstrap,
            seed=ready.scenario.evaluate.seed,
        )
        runlog.log_metrics(tracker, run_id, named("test", test, tracker.names))
        runlog.log_table(tracker, run_id, "test_figures", figure_rows(test))
        runlog.log_table(tracker, run_id, "test_cases", scores.to_table())
        title = f"{chosen_name}, test edition"
        probes = [
            worth(pictures, scores, chosen.threshold, ready.scenario.evaluate, title),
            stressed(home, ready, job, folder, pictures),
            without_sequences(home, ready, job, folder),
            explained(home, ready, job, folder, pictures),
        ]
        for name, rows in tables_of(probes).items():
            runlog.log_table(tracker, run_id, name, rows)
        figures = [
            *draw(
                pictures,
                "oof",
                chosen.scores,
                chosen.threshold,
                f"{chosen_name}, out of fold",
                chosen.figures,
            ),
            *draw(pictures, "test", scores, chosen.threshold, title, test),
            *(figure for probe in probes for figure in probe.figures),
            *draw_learning(pictures, chosen),
            *shown,
        ]
        result = decide_and_register(
            home,
            ready,
            job,
            tracker,
            run_id,
            folder=folder,
            spec=spec,
            scores=scores,
            test=test,
            outcomes=outcomes,
            chosen=chosen,
            figures=figures,
            uses=uses,
            header=header_sentence(outcomes, chosen_name, primary),
            baseline=beside_baseline(outcomes, chosen_name, ready.scenario.evaluate),
            guards=guards,
            left_out=left_out,
            sections=sections_of(probes),
        )
    reports.table("candidates", [candidate_row(o, primary, chosen_name) for o in outcomes])
    return result
