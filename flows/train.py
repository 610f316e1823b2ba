"""Zarr and tables to a gated, registered model: candidates by cross-validation, the test once."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dask
from prefect import flow
from prefect.futures import as_completed

from flows import reports
from flows.cohorts import Ready, settle
from flows.console import progress, say
from flows.evidence import code_hash, tracker_for
from flows.home import Home, lease
from flows.judging import judge_side
from flows.policy import TRAIN_TAG, task
from flows.preprocess import current_recipe
from flows.promote import decide_and_register
from flows.runners import listening, offered, runner, tell, workers
from flows.settings import load_settings
from tasks.archive.audit import append
from tasks.archive.commits import part_of_case, parts, use_edition
from tasks.errors import ScenarioError
from tasks.evaluate.choose import choose_challenger
from tasks.evaluate.intervals import metric_table
from tasks.evaluate.leakage import check_disjoint
from tasks.hashing import digest_json
from tasks.imaging.recipe import FittedRecipe
from tasks.learn.job import (
    FoldRecord,
    JobCase,
    TrainingJob,
    fit_fold,
    load_job,
    typical_image,
)
from tasks.scenario import public_copy, scenario_hash, to_yaml
from tasks.serve import tracking
from tasks.serve.outcome import (
    CandidateOutcome,
    build_model,
    draw,
    draw_learning,
    epochs,
    header_sentence,
    named,
    sum_up,
)
from tasks.store.schema import recipe_id

EPOCHS = "radloop-epochs"
"""Topic on which workers tell each epoch's figures."""

LINE_SECONDS = 20


def _fit(scenario: str, key: str, candidate: str, fold: int) -> FoldRecord:
    settings = load_settings()
    place = settings.home / "training" / scenario / key

    def on_epoch(record: dict[str, Any]) -> None:
        tell(EPOCHS, {"candidate": candidate, "fold": fold, **record})

    return fit_fold(place, settings.store_root, candidate, fold, on_epoch)


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
    with lease(home, f"train {scenario}", "train"):
        job = write_job(home, ready)
        check_sides(job)
        place = job.save(home.settings.home / "training" / scenario)
        tracker = tracker_for(home, scenario)
        run_id = open_run(tracker, ready, job)
        try:
            with workers(home.settings) as address, listening(address, EPOCHS, EpochLines()):
                say(f"  {len(job.candidates)} candidates, {len(job.folds)} folds each")
                # A worker may say GPU=0: what nobody offers once would be waited for for ever.
                whole = sorted(name for name, amount in offered(address).items() if amount >= 1)
                records = train_wave.with_options(task_runner=runner(address))(
                    scenario, job.key, whole
                )
            outcomes = [
                sum_up(job, body["name"], records[body["name"]], ready.scenario.evaluate)
                for body in job.candidates
            ]
            result = conclude(home, ready, job, place, tracker, run_id, outcomes)
        except BaseException:
            tracking.fail_unfinished(tracker, run_id)
            raise
        tracking.end(tracker, run_id)
    append(home.settings.audit_path, "train", scenario=scenario, run_id=run_id)
    return result


@flow(name="train-wave", persist_result=False)
def train_wave(scenario: str, key: str, resources: list[str]) -> dict[str, list[FoldRecord]]:
    """Fit every fold of every candidate; networks ask for a GPU where workers offer one."""
    job = load_job(load_settings().home / "training" / scenario / key)
    futures = []
    # The longest first, so that no worker waits at the end for one late network.
    for body in sorted(job.candidates, key=lambda body: body["kind"] != "network"):
        wants_gpu = body["kind"] == "network" and "GPU" in resources
        with dask.annotate(resources={"GPU": 1}) if wants_gpu else nullcontext():
            futures += [
                fit_one_fold.submit(scenario, key, body["name"], fold) for fold in job.folds
            ]
    found: dict[str, list[FoldRecord]] = {}
    with progress("training", total=len(futures), unit="folds") as advance:
        for number, future in enumerate(as_completed(futures), start=1):
            record = future.result()
            found.setdefault(record.candidate, []).append(record)
            advance(number, len(futures))
    return found


def check_sides(job: TrainingJob) -> None:
    """Refuse a job in which a patient stands on two sides, or in two folds.

    It looks at the very cases that will be trained on and scored, not at the assignments, which
    hold one side a patient by their form.
    """
    check_disjoint(
        {side: {case.patient_key for case in job.on(side)} for side in ("train", "test")}
    )
    folds: dict[str, set[str]] = {}
    for case in job.on("train"):
        folds.setdefault(f"fold {case.fold}", set()).add(case.patient_key)
    check_disjoint(folds)


def write_job(home: Home, ready: Ready) -> TrainingJob:
    """Gather everything the training depends on.

    Raises
    ------
    ScenarioError
        When cases are not in the store yet, or a side is empty.
    """
    scenario = ready.scenario
    cases = job_cases(home, ready)
    for side in ("train", "test"):
        if not any(case.side == side for case in cases):
            msg = f"scenario {scenario.name} has no case on the {side} side; see `radloop check`"
            raise ScenarioError(msg)
    images = scenario.cohort.kind != "row"
    recipe = current_recipe(home, scenario.name)[1] if images else None
    shape, spacing = (1, 1, 1), (1.0, 1.0, 1.0)
    if images:
        training = [case for case in cases if case.side == "train"]
        shape, spacing = typical_image(home.settings.store_root, training)
    return TrainingJob(
        scenario=scenario.name,
        task=scenario.task,
        classes=tuple(scenario.labels.classes),
        positive=scenario.labels.positive,
        primary=scenario.evaluate.primary,
        candidates=tuple(c.model_dump(mode="json") for c in scenario.candidates),
        cases=tuple(cases),
        shape=shape,
        spacing=spacing,
        recipe=recipe,
        leave_out=leave_out(scenario),
        seed=scenario.seed,
    )


def job_cases(home: Home, ready: Ready) -> list[JobCase]:
    """Return the training and test cases with their prepared images."""
    classes = list(ready.scenario.labels.classes)
    images: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    if ready.scenario.cohort.kind != "row":
        key, _ = current_recipe(home, ready.scenario.name)
        ids = [case.case_id for case in ready.cohort.cases]
        paths = {row.part_id: row.path for row in parts(home.catalog, recipe_id=key)}
        images = {c: paths[p] for c, p in part_of_case(home.catalog, key, ids).items()}
        if ready.scenario.task == "segmentation":
            found = part_of_case(home.catalog, key, ids, ready.label_set)
            labels = {c: paths[p] for c, p in found.items()}
    rows = []
    for case in ready.cohort.cases:
        side = ready.sides[case.patient_key]
        current = side.side == "train" or (side.side == "test" and side.edition == ready.edition)
        stored = ready.scenario.cohort.kind == "row" or case.case_id in images
        if ready.scenario.task == "segmentation":
            # A mask that could not be read is in quarantine; its image teaches nothing.
            stored = stored and case.case_id in labels
        if not current or not stored:
            continue
        target = ready.cohort.targets.get(case.case_id)
        rows.append(
            JobCase(
                case_id=case.case_id,
                patient_key=case.patient_key,
                side=side.side,
                fold=side.fold,
                target=None if target is None else classes.index(target),
                part_path=images.get(case.case_id),
                label_part_path=labels.get(case.case_id),
                facts=dict(case.facts),
            )
        )
    return rows


def leave_out(scenario: Any) -> tuple[str, ...]:
    """Return the columns of a table that say the answer: the label's and the split's."""
    names = (scenario.labels.column, scenario.split.column)
    return tuple(name for name in names if name)


def open_run(tracker: tracking.Tracker, ready: Ready, job: TrainingJob) -> str:
    """Start the parent run of this training in MLflow."""
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
        tracking.log_dataset(
            tracker, run_id, scenario.name, ready.hashes["data_hash"], alias, context=side
        )
    return run_id


def recipe_hash(job: TrainingJob) -> str:
    """Return the id of the fitted recipe, as the catalog knows it, or of the table's columns."""
    if job.recipe:
        return recipe_id(FittedRecipe.from_dict(job.recipe))
    return digest_json(["columns", job.leave_out])


def conclude(
    home: Home,
    ready: Ready,
    job: TrainingJob,
    place: Path,
    tracker: tracking.Tracker,
    run_id: str,
    outcomes: Sequence[CandidateOutcome],
) -> dict[str, Any]:
    """Choose, build the challenger, score it once on the test edition, gate and report."""
    primary = ready.scenario.evaluate.primary
    headers = {outcome.name for outcome in outcomes if outcome.kind == "header"}
    chosen_name = choose_challenger({o.name: o.figures for o in outcomes}, primary, never=headers)
    log_candidates(tracker, run_id, outcomes, chosen_name, primary)
    chosen = next(outcome for outcome in outcomes if outcome.name == chosen_name)
    say(f"  chosen by cross-validation: {chosen_name}, {primary} {words(chosen.figures[primary])}")
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        folder, pictures = Path(scratch) / "model", Path(scratch) / "figures"
        hashes = ready.hashes | {"recipe_hash": recipe_hash(job), "code_hash": code_hash()}
        spec = build_model(job, place, chosen, folder, hashes)
        uses = use_edition(home.catalog, ready.split, ready.edition, run_id, "training")
        scores, shown = judge_side(home, ready, job.on("test"), folder, pictures)
        test = metric_table(
            scores,
            chosen.threshold,
            replicates=ready.scenario.evaluate.bootstrap,
            seed=ready.scenario.evaluate.seed,
        )
        tracking.log_metrics(tracker, run_id, named("test", test))
        tracking.log_table(tracker, run_id, "test_cases", scores.to_table())
        figures = [
            *draw(pictures, "oof", chosen.scores, chosen.threshold, f"{chosen_name}, out of fold"),
            *draw(pictures, "test", scores, chosen.threshold, f"{chosen_name}, test edition"),
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
        )
    reports.table("candidates", [candidate_row(o, primary, chosen_name) for o in outcomes])
    return result


def log_candidates(
    tracker: tracking.Tracker,
    run_id: str,
    outcomes: Sequence[CandidateOutcome],
    chosen: str,
    primary: str,
) -> None:
    """Write a child run a candidate and, for networks, one a fold with its curves."""
    for outcome in outcomes:
        tags = {"candidate_kind": outcome.kind, "chosen": outcome.name == chosen}
        best = {f"best/{k.lower()}": v for k, v in dict(outcome.records[0].params).items()}
        params = {"kind": outcome.kind, "device": outcome.records[0].device, **best}
        child = tracking.start_child(
            tracker, run_id, outcome.name, "candidate", tags, params, key=outcome.name
        )
        tracking.log_metrics(tracker, child, named("oof", outcome.figures))
        tracking.log_table(tracker, child, "oof_cases", outcome.scores.to_table())
        if any(record.history for record in outcome.records):
            mean = mean_epochs(outcome, primary)
            tracking.log_epochs(tracker, child, mean)
            for record in outcome.records:
                fold = tracking.start_child(
                    tracker,
                    child,
                    f"{outcome.name} fold {record.fold}",
                    "fold",
                    {"fold": record.fold},
                    key=f"{outcome.name}-{record.fold}",
                )
                tracking.log_epochs(tracker, fold, epochs(record, primary))
                tracking.end(tracker, fold)
        tracking.end(tracker, child)


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
