"""What a training leaves in MLflow: its parent run, and a child a candidate and fold."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from flows.cohorts import Ready
from flows.evidence import code_hash
from flows.jobs import recipe_hash
from tasks.hashing import digest_json
from tasks.imaging.written import learnt_params
from tasks.learn.job import TrainingJob
from tasks.learn.planned import plan_params
from tasks.scenario import public_copy, scenario_hash, to_yaml
from tasks.serve import runlog, tracking
from tasks.serve.outcome import CandidateOutcome, epochs, figure_rows, named
from tasks.serve.seeds import seed_metrics
from tasks.serve.trials import MOST_RUNS, score_curve, trial_table


def run_facts(ready: Ready, job: TrainingJob) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tags and parameters that say what a run's figures rest on."""
    scenario = ready.scenario
    patients = {side: len({c.patient_key for c in job.on(side)}) for side in ("train", "test")}
    tags = {
        **ready.hashes,
        "recipe_hash": recipe_hash(job),
        "code_hash": code_hash(),
        "scenario_hash": scenario_hash(scenario),
        "edition": ready.edition,
        "synthetic": scenario.synthetic,
        "status": "research use only",
    }
    params = {
        "task": scenario.task,
        "primary": scenario.evaluate.primary,
        "folds": len(job.folds),
        "classes": list(job.classes),
        "positive": job.positive or "",
        "margin": scenario.gate.margin,
        "seed": scenario.seed,
        "n_cases": len(job.cases),
        "n_train_patients": patients["train"],
        "n_test_patients": patients["test"],
    }
    params |= learnt_params(job.recipe)
    if job.unit:
        params["unit"] = job.unit
    if job.regions:
        params["regions"] = [f"{name}={'+'.join(map(str, part))}" for name, part in job.regions]
    return tags, params


def open_run(tracker: tracking.Tracker, ready: Ready, job: TrainingJob) -> str:
    """Start the parent run of this training in MLflow."""
    scenario = ready.scenario
    tags, params = run_facts(ready, job)
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    # Only the very same training is taken up again: its tags and parameters are written once.
    key = digest_json([job.key, tags])
    run_id = tracking.start_training(
        tracker, scenario.name, tags, params, key=key, title=f"training {when}"
    )
    text = to_yaml(public_copy(scenario))
    tracking.client_of(tracker).log_text(run_id, text, "scenario.yaml")
    alias = scenario.name
    for side in ("training", "evaluation"):
        runlog.log_dataset(
            tracker, run_id, scenario.name, ready.hashes["data_hash"], alias, context=side
        )
    return run_id


def log_candidates(
    tracker: tracking.Tracker,
    run_id: str,
    outcomes: Sequence[CandidateOutcome],
    chosen: str,
    primary: str,
    job: TrainingJob,
) -> None:
    """Write a child run a candidate and, for networks, its plan and one a fold with its curves."""
    for outcome in outcomes:
        tags = {"candidate_kind": outcome.kind, "chosen": outcome.name == chosen}
        best = {f"best/{k.lower()}": v for k, v in dict(outcome.records[0].params).items()}
        params = {"kind": outcome.kind, "device": outcome.records[0].device, **best}
        if outcome.kind == "network":
            params |= plan_params(job.plan(job.candidate(outcome.name)))
        if outcome.rules:
            params["postprocess"] = "; ".join(rule.words for rule in outcome.rules)
        spread = seed_metrics(outcome)
        if spread:
            params["seeds"] = len(outcome.by_seed)
        child = tracking.start_child(
            tracker, run_id, outcome.name, "candidate", tags, params, key=outcome.name
        )
        kept = named("oof", outcome.figures, tracker.names, len(spread))
        runlog.log_metrics(tracker, child, {**kept, **spread})
        runlog.log_table(tracker, child, "oof_figures", figure_rows(outcome.figures))
        runlog.log_table(tracker, child, "oof_cases", outcome.scores.to_table())
        if spread:
            first = job.candidate(outcome.name).seed + job.seed
            rows = [{"seed": first + n, primary: value} for n, value in enumerate(outcome.by_seed)]
            runlog.log_table(tracker, child, "oof_seeds", rows)
        if any(record.history for record in outcome.records):
            mean = mean_epochs(outcome, primary)
            runlog.log_epochs(tracker, child, mean)
            for record in outcome.records:
                fold = tracking.start_child(
                    tracker,
                    child,
                    f"{outcome.name} fold {record.fold}",
                    "fold",
                    {"fold": record.fold},
                    key=f"{outcome.name}-{record.fold}",
                )
                runlog.log_epochs(tracker, fold, epochs(record, primary))
                tracking.end(tracker, fold)
        log_trials(tracker, child, outcome)
        tracking.end(tracker, child)


def log_trials(tracker: tracking.Tracker, child: str, outcome: CandidateOutcome) -> None:
    """Write a table of a candidate's trials, and a run below it for each of not too many."""
    rows = trial_table([outcome])
    if not rows:
        return
    runlog.log_table(tracker, child, "search_trials", rows)
    if len(rows) > MOST_RUNS:
        return
    for record in outcome.records:
        for one in record.trials:
            name = f"{outcome.name} fold {record.fold} trial {one['trial']}"
            tags = {"fold": record.fold, "trial": one["trial"], "trial_state": one["state"]}
            params = {f"trial/{k.lower()}": v for k, v in one["params"].items()}
            key = f"{outcome.name}-{record.fold}-{one['trial']}"
            run = tracking.start_child(tracker, child, name, "trial", tags, params, key=key)
            runlog.log_epochs(tracker, run, score_curve(one))
            tracking.end(tracker, run)


def mean_epochs(outcome: CandidateOutcome, primary: str) -> list[dict[str, Any]]:
    """Return the mean curve over the folds, as far as every fold went."""
    curves = [epochs(record, primary) for record in outcome.records]
    rows = []
    for together in zip(*curves, strict=False):
        row: dict[str, Any] = {"epoch": together[0]["epoch"]}
        for name in together[0].keys() - {"epoch"}:
            values = [one[name] for one in together if one[name] is not None]
            row[name] = sum(values) / len(values) if values else None
        rows.append(row)
    return rows


def candidate_row(outcome: CandidateOutcome, primary: str, chosen: str) -> dict[str, Any]:
    """Return a candidate's line for people."""
    figure = outcome.figures[primary]
    return {
        "candidate": outcome.name,
        "kind": outcome.kind,
        primary: round(figure.value, 4),
        "from": round(figure.lo, 4),
        "to": round(figure.hi, 4),
        "chosen": outcome.name == chosen,
    }


def words(figure: Any) -> str:
    """Return a figure with its interval."""
    return f"{figure.value:.3f} [{figure.lo:.3f}, {figure.hi:.3f}]"
