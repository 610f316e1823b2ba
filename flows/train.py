"""Zarr and tables to a gated, registered model: candidates by cross-validation, the test once."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from prefect import flow

from flows import reports
from flows.cohorts import Ready, settle
from flows.console import say
from flows.evidence import code_hash, tracker_for
from flows.explaining import explained
from flows.folds import EPOCHS, EpochLines, again, fit_folds
from flows.guarding import Guarded, guard
from flows.home import Home, lease
from flows.jobs import recipe_hash, write_job
from flows.judging import judge_side
from flows.missing import without_sequences
from flows.planned import say_plans
from flows.probing import stressed
from flows.promote import decide_and_register
from flows.recording import candidate_row, log_candidates, open_run, words
from flows.runners import listening, workers
from flows.settings import load_settings
from flows.starting import check_weights
from tasks.archive.audit import append
from tasks.archive.commits import use_edition
from tasks.evaluate.choose import choose_challenger
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.predictions import Predictions
from tasks.evaluate.subgroups import Group
from tasks.evaluate.table import metric_table
from tasks.learn.job import TrainingJob
from tasks.learn.left_out import Calibrating, leave_each_out
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
from tasks.serve.seeds import seed_words


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
                say_spread(outcomes, primary)
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


def say_spread(outcomes: Sequence[CandidateOutcome], primary: str) -> None:
    """Say how far the figures of candidates of several seeds move with the seed alone."""
    for told in (seed_words(outcome, primary) for outcome in outcomes):
        if told:
            say(f"  {told}")


def without_each(
    ready: Ready, job: TrainingJob, chosen: CandidateOutcome, fit: Callable[[TrainingJob], Scores]
) -> tuple[list[Group], list[str]]:
    """Leave one vendor, or what else the scenario names, out at a time; nothing without a name."""
    config = ready.scenario.evaluate
    if config.leave_one_out is None:
        return [], []
    ordinary = held_out(job, chosen.records, config)
    calibrating = None
    if isinstance(ordinary, Predictions) and config.calibration != "none":
        calibrating = Calibrating(config.calibration, ordinary)
    groups, why = leave_each_out(
        job,
        chosen.name,
        config.leave_one_out,
        fit,
        replicates=config.bootstrap,
        seed=config.seed,
        calibrating=calibrating,
    )
    return groups, [why] if why else []


def choose(outcomes: Sequence[CandidateOutcome], primary: str) -> CandidateOutcome:
    """Return the best candidate by cross-validation; one that sees headers alone never is."""
    headers = {outcome.name for outcome in outcomes if outcome.kind == "header"}
    name = choose_challenger({o.name: o.figures for o in outcomes}, primary, never=headers)
    return next(outcome for outcome in outcomes if outcome.name == name)


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
            baseline=beside_baseline(
                outcomes, chosen_name, ready.scenario.evaluate, ready.scenario.gate
            ),
            guards=guards,
            left_out=left_out,
            sections=sections_of(probes),
        )
    reports.table("candidates", [candidate_row(o, primary, chosen_name) for o in outcomes])
    return result
